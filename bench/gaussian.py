"""Distance of the trellis quantiser to Shannon's R(D) on i.i.d. Gaussian samples, with ideal entropy coding.

Rates are entropies of the levels under their own static tables, one per union. Quantiser and model take turns: the
levels give the table, the table the costs of the next search. The step is found by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from bench.suite import Options, Row
from nncodec import _core

_SAMPLES = 1 << 20
_CHUNK = 1 << 18
_LANES = 32
_REACH = 2  # levels with centroids
_SLOPE = 2 * math.log(2) / 3  # lambda / step^2 of an ideal quantiser at high rates


@dataclass(frozen=True)
class Outcome:
    bits: float
    distortion: float  # relative to the variance
    seconds: float  # of one search

    @property
    def gap(self) -> float:
        return self.bits + 0.5 * math.log2(self.distortion)


def _first_costs(step: float, radius: int) -> NDArray[np.uint16]:
    """Code lengths of a Gaussian of variance 1 at the points of the grid, in 1/256 bit."""
    levels = np.arange(-radius, radius + 1)
    points = np.stack([2 * levels, 2 * levels + 1]) * step
    weights = np.exp2(-np.minimum(points**2 / (2 * math.log(2)), 24))
    return np.rint(-np.log2(weights / weights.sum(axis=1, keepdims=True)) * 256).astype(np.uint16)


def _entropy(counts: NDArray[np.float64]) -> float:
    sums = counts.sum(axis=1, keepdims=True)
    return float(-(counts * np.log2(np.where(counts > 0, counts, 1) / np.maximum(sums, 1))).sum())


def measure(values: NDArray[np.float32], step: float, states: int, factor: float, iterations: int) -> Outcome:
    """Rate and distortion of one step."""
    radius = int(np.abs(values).max() / step / 2) + 4
    levels, out = np.empty(values.size, np.int16), np.empty_like(values)
    chunks = [slice(i, i + _CHUNK) for i in range(0, values.size, _CHUNK)]
    costs = _first_costs(step, radius)
    seconds = 0.0
    for _ in range(iterations):
        quantiser = _core.TrellisQuantiser(costs, 1, radius, states, lambda_=round(65536 * factor * _SLOPE))
        start = perf_counter()
        for chunk in chunks:
            quantiser.quantise(values[chunk], levels[chunk], step, _LANES)
        seconds += perf_counter() - start
        statistics = _core.TrellisStatistics()
        for chunk in chunks:
            statistics.add(values[chunk], levels[chunk], step, 1, radius, states, lanes=_LANES)
        costs = np.array(statistics.costs(1, radius), np.uint16)
    offsets = np.array(statistics.centroids(1, radius, _REACH), np.int16)
    for chunk in chunks:
        _core.trellis_dequantise(
            levels[chunk], out[chunk], step, states, lanes=_LANES, offsets=offsets, reach=_REACH
        )
    bits = _entropy(np.reshape(statistics.counts, (2, -1)).astype(np.float64)) / values.size
    error = float(np.mean((values.astype(np.float64) - out) ** 2) / values.astype(np.float64).var())
    return Outcome(bits, error, seconds / iterations)


def at_rate(values: NDArray[np.float32], rate: float, states: int) -> Outcome:
    """The outcome whose rate is nearest to ``rate``; the step is searched on a part of the samples."""
    factor = 2.0 if rate < 0.75 else 0.8  # low rates want finer steps and more weight on the bits
    low, high = -4.0, 1.5
    for _ in range(9):
        middle = (low + high) / 2
        if measure(values[:_CHUNK], 2.0**middle, states, factor, 4).bits > rate:
            low = middle
        else:
            high = middle
    return measure(values, 2.0 ** ((low + high) / 2), states, factor, 5)


def run(options: Options) -> Iterator[Row]:
    """One row per number of states and rate."""
    values = np.random.default_rng(1).standard_normal(_SAMPLES).astype(np.float32)
    options.note("gap: bits above R(D); rates are ideal entropies, tables and headers not counted")
    for states in (8, 16, 32, 64, 128, 256, 512, 1024):
        for rate in (0.5, 1.0, 2.0, 3.0, 4.0):
            name = f"{states} states, {rate:g} b"
            if not options.wants(name):
                continue
            found = at_rate(values, rate, states)
            yield {
                "source": name,
                "bits": found.bits,
                "rel_mse": found.distortion,
                "gap": found.gap,
                "search MB/s": values.nbytes / found.seconds / 1e6,
            }
