"""cpp/entropy: range coder and adaptive byte coder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import adaptive_bytes as twin_bytes
from nncodec.reference import range_coder as twin_range

_N = 1 << 18
_TWIN_N = 2048


def _twin_decode_symbols(stream: bytes, n: int) -> None:
    coder, tree = twin_range.BinaryDecoder(stream), twin_range.BitTree(8)
    for _ in range(n):
        tree.code(coder, 0)


def _twin_encode_symbols(symbols: bytes) -> None:
    coder, tree = twin_range.BinaryEncoder(), twin_range.BitTree(8)
    for symbol in symbols:
        tree.code(coder, symbol)
    coder.finish()


def kernels() -> Iterator[Kernel]:
    # Like the exponents of trained weights: a few neighbouring values.
    rng = np.random.default_rng(1)
    values = rng.normal(120, 1.5, _N).astype(np.uint8)
    few = values[:_TWIN_N].tobytes()
    out = np.empty_like(values)

    stream, few_stream = _core.adaptive_encode_bytes(values), _core.adaptive_encode_bytes(few)
    yield Kernel(
        "adaptive_bytes encode",
        lambda: _core.adaptive_encode_bytes(values),
        _N,
        lambda: twin_bytes.encode_bytes(few),
        _TWIN_N,
    )
    yield Kernel(
        "adaptive_bytes decode",
        lambda: _core.adaptive_decode_bytes(stream, out),
        _N,
        lambda: twin_bytes.decode_bytes(few_stream, _TWIN_N),
        _TWIN_N,
    )

    tree_stream, few_tree_stream = _core.range_encode_symbols(values), _core.range_encode_symbols(few)
    yield Kernel(
        "range bit tree encode",
        lambda: _core.range_encode_symbols(values),
        _N,
        lambda: _twin_encode_symbols(few),
        _TWIN_N,
    )
    yield Kernel(
        "range bit tree decode",
        lambda: _core.range_decode_symbols(tree_stream, out),
        _N,
        lambda: _twin_decode_symbols(few_tree_stream, _TWIN_N),
        _TWIN_N,
    )
