"""Sums of Gaussian kernels between all pairs of points, in binary64.

The engine (cpp/information/kernel_sums.hpp) works in binary32 and agrees to about 1e-5. No bytes are made of it, so
docs/format.md says nothing about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

__all__ = ["CUTOFF", "kernel_sums"]

CUTOFF = 160.0


def kernel_sums(
    points: Sequence[Sequence[float]], class_ends: Sequence[int]
) -> list[tuple[float, float, float, float]]:
    """Per point: the sum over all points, then over its class, of exp(-x) with x the squared distance, and both again
    of exp(-x / 4). Pairs with x above ``CUTOFF`` count 0.
    """
    result = []
    begin = 0
    for end in class_ends:
        for i in range(begin, end):
            narrow, narrow_own, wide, wide_own = 0.0, 0.0, 0.0, 0.0
            for j, other in enumerate(points):
                x = sum((a - b) ** 2 for a, b in zip(points[i], other, strict=True))
                if x > CUTOFF:
                    continue
                quarter = exp(-x / 4)
                narrow += quarter**4
                wide += quarter
                if begin <= j < end:
                    narrow_own += quarter**4
                    wide_own += quarter
            result.append((narrow, narrow_own, wide, wide_own))
        begin = end
    return result
