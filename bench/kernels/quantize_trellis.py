"""cpp/quantize: trellis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import trellis

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
