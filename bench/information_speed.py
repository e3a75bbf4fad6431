"""Sums of Gaussian kernels between 4,096 samples of 100 units: the engine against numpy.

numpy takes the matrix product's threads from outside: OPENBLAS_NUM_THREADS=1 python -m bench information_speed. In
binary32 that product loses the small distances among large coordinates; "largest difference" says how far off it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.information_nets import task
from bench.suite import Options, Row
from bench.timing import take_turns
from nncodec import _core

_SAMPLES, _UNITS = 4096, 100
_BLOCK = 256  # rows at a time, so that numpy's memory, too, is O(n), and stays in the cache


def by_numpy(points: NDArray[Any], ends: list[int]) -> NDArray[np.float64]:
    """What the engine computes, as one writes it with numpy: squared distances by a matrix product, one exponential."""
    squares = (points * points).sum(axis=1)
    starts = [0, *ends[:-1]]
    sums = np.empty((len(points), 4))
    for at in range(0, len(points), _BLOCK):
        rows = slice(at, at + _BLOCK)
        distance = points[rows] @ (-2 * points.T)
        distance += squares
        distance += squares[rows, None]
        np.maximum(distance, 0, out=distance)
        distance *= -0.25
        wide = np.exp(distance, out=distance)
        near = np.square(np.square(wide))
        classes = np.searchsorted(ends, np.arange(at, at + len(wide)), side="right")
        for k, kernel in ((0, near), (2, wide)):
            by_class = np.add.reduceat(kernel, starts, axis=1, dtype=np.float64)
            sums[rows, k] = by_class.sum(axis=1)
            sums[rows, k + 1] = by_class[np.arange(len(wide)), classes]
    return sums


def run(options: Options) -> Iterator[Row]:
    """One row per width of the noise: that of ``AdaptiveKDE``, and one so wide that every pair counts."""
    patterns, labels = task()
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1 / np.sqrt(patterns.shape[1]), (patterns.shape[1], _UNITS))
    order = np.argsort(labels, kind="stable")
    units = np.tanh(patterns @ weights)[order]
    ends = np.cumsum(np.bincount(labels)).tolist()
    for name, variance in (("variance 1e-3 max|t|", 1e-3 * np.abs(units).max()), ("variance 10", 10.0)):
        if not options.wants(name):
            continue
        points = ((units - units.mean(axis=0)) / np.sqrt(2 * variance)).astype(np.float32)
        sums, class_ends = np.empty((_SAMPLES, 4)), np.array(ends, np.uint32)

        def ours(
            points: NDArray[np.float32] = points,
            class_ends: NDArray[np.uint32] = class_ends,
            sums: NDArray[np.float64] = sums,
        ) -> None:
            _core.kernel_sums(points, _UNITS, class_ends, sums, options.threads)

        def theirs(points: NDArray[Any]) -> Callable[[], NDArray[np.float64]]:
            return lambda: by_numpy(points, ends)

        peers = [theirs(points.astype(np.float64)), theirs(points)]
        engine, double, single = take_turns([ours, *peers], options.rounds)
        exact = peers[0]()
        yield {
            "noise": name,
            "ms": engine.median * 1000,
            "x numpy, binary64": double.median / engine.median,
            "x numpy, binary32": single.median / engine.median,
            "spread": engine.spread,
            "largest difference": float(np.abs(sums / exact - 1).max()),
            "of numpy, binary32": float(np.abs(peers[1]() / exact - 1).max()),
        }
