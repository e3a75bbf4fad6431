"""cpp/quantize: lattices; cpp/entropy: universal coders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import context_mixing, lattice, lzw


def kernels() -> Iterator[Kernel]:
    rng = np.random.default_rng(1)
    for name, n in lattice.DIMENSION.items():
        size = (1 << 16) // n * n
        x, out = rng.normal(0, 5, size), np.empty(size)
        few = x[: 24 if name == "leech" else 480].tolist()
        yield Kernel(
            f"lattice nearest {name}",
            lambda name=name, x=x, out=out: _core.lattice_nearest(name, x, out),
            4 * size,  # a weight is a float32
            lambda name=name, few=few: lattice.nearest(name, few),
            4 * len(few),
            per_isa=True,
        )
        vectors = max(1, 240 // n) if name != "leech" else 1
        yield Kernel(
            f"lattice dither {name}",
            lambda name=name, out=out: _core.lattice_dither(name, 7, 0, out),
            4 * size,
            lambda name=name, vectors=vectors: lattice.dither(name, 7, 0, vectors),
            4 * vectors * n,
            per_isa=True,
        )

    # Levels of a quantiser at three bits or so, as integers and as bytes.
    levels = np.rint(rng.normal(0, 1.93, 1 << 17)).astype(np.int32)
    decoded = np.empty_like(levels)
    stream = _core.mixing_encode(levels)
    head = levels[:1500]
    short = _core.mixing_encode(head)
    yield Kernel(
        "context_mixing encode",
        lambda: _core.mixing_encode(levels),
        levels.nbytes,
        lambda: context_mixing.encode_integers(head.tolist()),
        head.nbytes,
    )
    yield Kernel(
        "context_mixing decode",
        lambda: _core.mixing_decode(stream, decoded),
        levels.nbytes,
        lambda: context_mixing.decode_integers(short, head.size),
        head.nbytes,
    )
    data = (levels & 0xFF).astype(np.uint8)
    text = data[:20_000].tobytes()
    packed, few_packed = _core.lzw_encode(data), _core.lzw_encode(text)
    out_bytes = np.empty_like(data)
    yield Kernel("lzw encode", lambda: _core.lzw_encode(data), data.size, lambda: lzw.encode(text), len(text))
    yield Kernel(
        "lzw decode",
        lambda: _core.lzw_decode(packed, out_bytes),
        data.size,
        lambda: lzw.decode(few_packed, len(text)),
        len(text),
    )
