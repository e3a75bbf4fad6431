"""Hadamard transform in plain Python. Arithmetic: docs/format.md, section "Hadamard transform"."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

__all__ = ["transform"]


def transform(numbers: Sequence[float]) -> list[float]:
    """One run of 2^k numbers; every sum, difference and product is rounded to binary32."""
    x = list(numbers)
    half = 1
    while half < len(x):
        for i in range(len(x)):
            if not i & half:
                x[i], x[i + half] = _single(x[i] + x[i + half]), _single(x[i] - x[i + half])
        half *= 2
    scale = _single(math.sqrt(1 / len(x)))
    return [_single(value * scale) for value in x]


def _single(x: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", x))[0])
