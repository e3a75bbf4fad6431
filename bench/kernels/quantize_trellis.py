"""cpp/quantize: trellis and its parametric tables; cpp/entropy: rANS of its levels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import class_order, rans_trellis, trellis, trellis_tables

_STEP, _RADIUS, _LAMBDA = 0.5, 12, 24227


def _gaussian_costs() -> np.ndarray:
    """1/256 bits of the levels of a Gaussian of variance 1, up to a constant."""
    levels = np.arange(-_RADIUS, _RADIUS + 1)
    points = _STEP * np.stack([2 * levels, 2 * levels + 1])
    return np.minimum(points**2 / (2 * np.log(2)) * 256 + 500, 6000).astype(np.uint16)[None]


def kernels() -> Iterator[Kernel]:
    values = np.random.default_rng(1).standard_normal(1 << 18).astype(np.float32)
    levels, out = np.empty(values.size, np.int16), np.empty_like(values)
    costs = _gaussian_costs()
    for states, n_twin in ((8, 1000), (64, 200), (256, 60)):
        quantiser = _core.TrellisQuantiser(costs, 1, _RADIUS, states)
        head = values[:n_twin].tolist()
        yield Kernel(
            f"trellis quantise {states}",
            lambda q=quantiser: q.quantise(values, levels, _STEP),
            values.nbytes,
            lambda s=states, h=head: trellis.quantise(h, _STEP, costs.tolist(), _LAMBDA, s),
            4 * n_twin,
            per_isa=True,
        )
    few = levels[:2000].tolist()
    yield Kernel(
        "trellis dequantise",
        lambda: _core.trellis_dequantise(levels, out, _STEP),
        values.nbytes,
        lambda: trellis.dequantise(few, _STEP),
        4 * len(few),
    )

    yield Kernel(
        "trellis tables",
        lambda: [_core.trellis_parametric_table(scale, 14, 20, "plain", 0) for scale in range(60, 80)],
        20 * 41 * 2,
        lambda: trellis_tables.parametric_table(70, 14, 20, "plain", 0),
        41 * 2,
    )

    # What a chunk of 3 bits or so takes: levels of the search above, one pair of tables.
    _core.TrellisQuantiser(costs, 1, _RADIUS).quantise(values, levels, _STEP)
    symbols = (levels + _RADIUS).astype(np.uint8)
    counts = np.bincount(symbols, minlength=2 * _RADIUS + 1)
    tables = [_core.rans_normalise((counts + 1).tolist())] * 2
    values_of = np.tile(np.arange(256, dtype=np.int16), (2, 1))
    encoder = _core.RansTrellisEncoder(tables)
    decoder = _core.RansTrellisDecoder(tables, values_of)
    stream = encoder.encode(symbols, 64)
    decoded = np.empty(values.shape, np.int16)
    first = symbols[:2000].tolist()
    short = encoder.encode(symbols[: len(first)], 1)
    yield Kernel(
        "trellis rans encode",
        lambda: encoder.encode(symbols, 64),
        values.nbytes,
        lambda: rans_trellis.encode(first, tables, 8, 1),
        4 * len(first),
    )
    yield Kernel(
        "trellis rans decode",
        lambda: decoder.decode(stream, decoded, 64),
        values.nbytes,
        lambda: rans_trellis.decode(short, len(first), tables, 8, 1),
        4 * len(first),
        per_isa=True,
    )
    classes = np.sort(np.random.default_rng(8).integers(0, 12, (len(values) // 64, 64)), axis=1).astype(
        np.uint8
    )
    restored = np.empty_like(decoded)
    few = classes[:40].ravel().tolist()
    yield Kernel(
        "class order",
        lambda: _core.class_order_restore(classes, decoded, restored, 12),
        values.nbytes,
        lambda: class_order.restore(few, few),
        4 * len(few),
        per_isa=True,
    )
