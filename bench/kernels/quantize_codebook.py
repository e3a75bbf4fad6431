"""cpp/quantize and cpp/entropy: k-means, look-up, bzip2."""

from __future__ import annotations

import bz2
from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import bzip2, kmeans, lookup


def kernels() -> Iterator[Kernel]:
    rng = np.random.default_rng(1)
    values = np.sort(rng.standard_normal(20_000))
    few = values[::200].tolist()
    yield Kernel(
        "k-means, exact, 16 clusters",
        lambda: _core.kmeans_optimal(values, None, 16), values.nbytes,
        lambda: kmeans.optimal(few, None, 16), 8 * len(few),
    )  # fmt: skip
    numbers = rng.standard_normal(1 << 18).astype(np.float32)
    centroids = np.linspace(-3, 3, 16, dtype=np.float32)
    index = np.empty(len(numbers), np.uint16)
    head, book = numbers[:1000].tolist(), centroids.tolist()
    yield Kernel(
        "k-means assignment, 16 clusters",
        lambda: _core.kmeans_assign(numbers, centroids, index), numbers.nbytes,
        lambda: kmeans.assign(head, book), 4 * len(head),
    )  # fmt: skip
    vectors = numbers.reshape(-1, 4)
    of_vector = np.empty(len(vectors), np.uint16)
    start = vectors[:64].copy()
    heads = vectors[:200].tolist()
    yield Kernel(
        "Lloyd step, dimension 4, 64 clusters",
        lambda: _core.kmeans_lloyd(vectors, 4, None, start, 0, of_vector), vectors.nbytes,
        lambda: kmeans.lloyd(heads, None, start.tolist(), 0), 16 * len(heads),
    )  # fmt: skip
    out = np.empty(1 << 18, np.float32)
    for bits in (4, 5, 6, 8):
        entries = rng.standard_normal(1 << bits).astype(np.float32)
        table, raw = _core.LookupTable(entries, 4), entries.tobytes()
        indices = rng.integers(0, 1 << bits, len(out)).astype(np.uint8)
        some = indices[:4000].tolist()
        yield Kernel(
            f"look-up, {bits} bits",
            lambda table=table, indices=indices: table.run(indices, out), out.nbytes,
            lambda some=some, raw=raw: lookup.run(some, raw, 4), 4 * len(some), per_isa=True,
        )  # fmt: skip
        packed = _core.bitpack(indices.astype(np.uint16), bits)
        part = _core.bitpack(indices[:4000].astype(np.uint16), bits)
        yield Kernel(
            f"look-up, {bits} bits packed",
            lambda table=table, packed=packed, bits=bits: table.run_packed(packed, bits, len(out), out), out.nbytes,
            lambda part=part, raw=raw, bits=bits: lookup.run_packed(part, bits, 4000, raw, 4), 16000, per_isa=True,
        )  # fmt: skip
    levels = np.clip(rng.normal(128, 5, 1 << 17), 0, 255).astype(np.uint8)
    stream, short = bz2.compress(levels), bz2.compress(levels[:3000])
    made = np.empty_like(levels)
    yield Kernel(
        "bzip2 decode", lambda: _core.bzip2_decode(stream, made), levels.nbytes,
        lambda: bzip2.decode(short), 3000,
    )  # fmt: skip
