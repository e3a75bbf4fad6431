"""Timing on noisy machines: contenders take turns in one run, medians decide, only ratios mean anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TypeAlias

import numpy as np

__all__ = ["Call", "Timing", "memcpy_of", "take_turns"]

Call: TypeAlias = Callable[[], object]

_SAMPLE_SECONDS = (
    0.004  # shorter calls are repeated within a sample, so that the clock's grain does not matter
)


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median, fastest and slowest sample."""

    median: float
    low: float
    high: float

    def mb_per_s(self, n_bytes: int) -> float:
        """Speed in 10^6 bytes a second, when a call handles ``n_bytes``."""
        return n_bytes / self.median / 1e6

    @property
    def spread(self) -> float:
        """Distance between slowest and fastest sample, relative to the median."""
        return (self.high - self.low) / self.median


def _sample(call: Call, repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def take_turns(calls: Sequence[Call], rounds: int = 5) -> list[Timing]:
    """Time each call ``rounds`` times, one after the other in every round, after one warm-up.

    A slow phase of the machine so meets all contenders alike.
    """
    repeats = [max(1, round(_SAMPLE_SECONDS / max(_sample(call, 1), 1e-9))) for call in calls]
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(max(1, rounds)):
        for call, n, mine in zip(calls, repeats, samples, strict=True):
            mine.append(_sample(call, n))
    return [Timing(median(mine), min(mine), max(mine)) for mine in samples]


def memcpy_of(n_bytes: int) -> Call:
    """A copy of as many bytes between two buffers that are mapped already: what memory allows."""
    source = np.ones(n_bytes, np.uint8)
    target = np.zeros(n_bytes, np.uint8)
    return lambda: np.copyto(target, source)
