"""Cosine transform of small blocks in plain Python. Arithmetic: docs/format.md, section "Cosine transform".

Floating point is binary64 in the order written, or binary32 where ``_single`` rounds, so results equal the kernel's
bit for bit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import cache

__all__ = ["forward", "inverse", "matrix"]

HALF_PI = float.fromhex("0x1.921fb54442d18p+0")
TERMS = 10

Matrix = list[list[float]]


@cache
def matrix(n: int) -> Matrix:
    """The orthonormal DCT-II of length n; row k is the k-th basis vector, in binary32 numbers."""
    constant, wave = math.sqrt(1 / n), math.sqrt(2 / n)
    rows = [[_single(constant)] * n]
    for k in range(1, n):
        rows.append([_single(wave * _cosine((2 * j + 1) * k, n)) for j in range(n)])
    return rows


def forward(block: Sequence[float], height: int, width: int) -> list[float]:
    """Coefficients of one block, its rows one after the other: along its rows, then along its columns."""
    return _along_columns(_along_rows(block, height, width, False), height, width, False)


def inverse(coefficients: Sequence[float], height: int, width: int) -> list[float]:
    """The block of these coefficients: along columns, then along rows."""
    return _along_rows(_along_columns(coefficients, height, width, True), height, width, True)


def _cosine(angle: int, n: int) -> float:
    """cos(pi / 2n * angle)."""
    angle %= 4 * n
    angle = min(angle, 4 * n - angle)
    if angle > n:
        return -_quarter(2 * n - angle, n)
    return _quarter(angle, n)


def _quarter(m: int, n: int) -> float:
    sine = 2 * m > n
    x = HALF_PI * ((n - m if sine else m) / n)
    square = x * x
    t = 1.0
    for k in range(TERMS, 0, -1):
        t = 1 - square / (2 * k * (2 * k + 1) if sine else (2 * k - 1) * 2 * k) * t
    return x * t if sine else t


def _line(numbers: Sequence[float], backward: bool) -> list[float]:
    n = len(numbers)
    if n == 1:
        return list(numbers)
    basis = matrix(n)
    out = []
    for k in range(n):
        factors = [row[k] for row in basis] if backward else basis[k]
        total = _single(numbers[0] * factors[0])
        for number, factor in zip(numbers[1:], factors[1:], strict=True):
            total = _single(total + _single(number * factor))
        out.append(total)
    return out


def _along_rows(block: Sequence[float], height: int, width: int, backward: bool) -> list[float]:
    return [x for r in range(height) for x in _line(block[r * width : (r + 1) * width], backward)]


def _along_columns(block: Sequence[float], height: int, width: int, backward: bool) -> list[float]:
    columns = [_line(block[c::width], backward) for c in range(width)]
    return [columns[c][r] for r in range(height) for c in range(width)]


def _single(x: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", x))[0])
