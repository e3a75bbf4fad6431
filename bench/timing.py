"""Timing on noisy machines: contenders take turns in one run, medians decide, only ratios mean anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from statistics import median
from time import perf_counter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

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
    """A copy of as many bytes between two buffers that are mapped already: what memory allows.

    Each call takes the next part of buffers at least as large as the last-level cache, so that no call finds there
    what an earlier one left.
    """
    source, target = _large_buffers(max(n_bytes, _last_level_cache()))
    starts = cycle(range(0, source.size - n_bytes + 1, n_bytes))

    def copy() -> None:
        part = slice(start := next(starts), start + n_bytes)
        np.copyto(target[part], source[part])

    return copy


@lru_cache(maxsize=1)
def _large_buffers(n_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return np.ones(n_bytes, np.uint8), np.zeros(n_bytes, np.uint8) + np.uint8(2)


def _last_level_cache() -> int:
    """Bytes, at least 32 MiB, and at most 512 MiB lest a benchmark eat the memory of a machine with a huge cache."""
    known = os.sysconf_names if hasattr(os, "sysconf_names") else {}
    size = os.sysconf("SC_LEVEL3_CACHE_SIZE") if "SC_LEVEL3_CACHE_SIZE" in known else 0
    return min(max(size, 32 << 20), 512 << 20)
