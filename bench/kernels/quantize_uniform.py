"""cpp/quantize: uniform quantiser, scale classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import scales, uniform

_FLOAT32 = 2
_ROWS, _COLUMNS = 1024, 384
_TWIN_N = 2000
_STEP = 0.01


def kernels() -> Iterator[Kernel]:
    rng = np.random.default_rng(1)
    weights = (rng.standard_normal((_ROWS, _COLUMNS)) / 30).astype(np.float32)
    few = weights.ravel()[:_TWIN_N].tolist()
    yield Kernel(
        "scale classes fit",
        lambda: _core.fit_scales(weights, _FLOAT32, _ROWS, _COLUMNS, 1, 3, 1),
        weights.nbytes,
        lambda: scales.fit(few, 50, 40, 1, 3),
        4 * _TWIN_N,
    )

    # Contexts of rows and columns, thresholds that favour the cheaper level, as a tensor of a budget has them.
    row = rng.integers(0, 4, _ROWS, np.uint8)
    column = rng.integers(0, 3, _COLUMNS, np.uint8)
    bits = np.broadcast_to(np.arange(256, dtype=np.uint32) * 60 + 300, (6, 256)).copy()
    offsets = np.zeros((6, 65), np.int8)
    rules = [_core.uniform_thresholds(b, o, 0.1) for b, o in zip(bits, offsets, strict=True)]
    twin_rules = [(list(middle), list(slope)) for middle, slope in rules]
    table_of = np.arange(6, dtype=np.uint8)

    def context(e: int) -> int:
        return int(row[e // _COLUMNS]) + int(column[e % _COLUMNS])

    tokens, extra = _core.uniform_quantise(weights, _FLOAT32, _STEP, _COLUMNS, row, column, rules)
    out = np.empty(weights.size, np.uint32)
    yield Kernel(
        "uniform quantise",
        lambda: _core.uniform_quantise(weights, _FLOAT32, _STEP, _COLUMNS, row, column, rules),
        weights.nbytes,
        lambda: uniform.quantise(few, _STEP, context, twin_rules),
        4 * _TWIN_N,
    )
    few_tokens, few_extra = uniform.quantise(few, _STEP, context, twin_rules)
    yield Kernel(
        "uniform dequantise",
        lambda: _core.uniform_dequantise(
            tokens, extra, _FLOAT32, _STEP, _COLUMNS, row, column, offsets, table_of, out
        ),
        weights.nbytes,
        lambda: uniform.dequantise(
            few_tokens, few_extra, _FLOAT32, _STEP, context, offsets.tolist(), table_of.tolist()
        ),
        4 * _TWIN_N,
    )
