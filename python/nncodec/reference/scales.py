"""Scale classes in plain Python. Bytes: docs/format.md, section "Scale classes".

The stream holds indices only; how they are found is the encoder's business, but it is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["context_of", "fit", "fixed_log2"]

_STEPS_PER_OCTAVE = 3
_MOST_ROW, _MOST_COLUMN = 39, 24
_LANES = 8


def context_of(e: int, row: Sequence[int], column: Sequence[int], repeat: int) -> int:
    """Class of element ``e`` of a tensor with these row and column indices."""
    return row[e // (len(column) * repeat)] + column[e // repeat % len(column)]


def fixed_log2(value: float) -> int:
    """log2 in units of 2**-16, rounded down; integer arithmetic on the top 32 bits of the mantissa."""
    mantissa, exponent = math.frexp(value)  # mantissa in [1/2, 1)
    fixed = int(math.ldexp(mantissa, 32))  # 31 fraction bits of a number in [1, 2)
    fraction = 0
    for _ in range(16):
        fixed = fixed * fixed >> 31
        reached = fixed >> 32
        fixed >>= reached
        fraction = fraction << 1 | reached
    return (exponent - 1) * 65536 + fraction


def fit(
    values: Sequence[float], rows: int, columns: int, repeat: int, axes: int
) -> tuple[list[int], list[int]]:
    """Row and column indices of a matrix (``axes``: 1 rows, 2 columns, 3 both), fitted to mean \\|x\\|.

    Row sums of \\|x\\|, weighted by the inverse column sums; column sums weighted by the inverse row sums; twice.
    """
    sums = [
        [_plain_sum(values[(r * columns + c) * repeat :][:repeat]) for c in range(columns)]
        for r in range(rows)
    ]
    per_block = max(64, (1 << 16) // (columns * repeat))
    weight = [1.0] * columns
    row, column = [0.0] * rows, [0.0] * columns
    for round_ in range(2 if axes & 2 else 1):
        if round_:
            weight = [1 / c if c > 0 else 0.0 for c in column]
        row = [_lane_sum(s, weight) for s in sums]
        column = [0.0] * columns
        for first in range(0, rows, per_block):
            block = [0.0] * columns
            for r in range(first, min(first + per_block, rows)):
                inverse = 1 / row[r] if row[r] > 0 else 0.0
                block = [b + s * inverse for b, s in zip(block, sums[r], strict=True)]
            column = [a + b for a, b in zip(column, block, strict=True)]
    return (
        _indices(row, _MOST_ROW) if axes & 1 else [0] * rows,
        _indices(column, _MOST_COLUMN) if axes & 2 else [0] * columns,
    )


def _plain_sum(values: Sequence[float]) -> float:
    total = 0.0
    for value in values:
        total += abs(value)
    return total


def _lane_sum(values: Sequence[float], weights: Sequence[float]) -> float:
    lanes = [0.0] * _LANES
    for i, (value, weight) in enumerate(zip(values, weights, strict=True)):
        lanes[i % _LANES] += value * weight
    total = 0.0
    for lane in lanes:
        total += lane
    return total


def _indices(scales: Sequence[float], most: int) -> list[int]:
    found = [
        (fixed_log2(s) * _STEPS_PER_OCTAVE + (1 << 15)) >> 16 if 2.0**-1022 <= s < math.inf else None
        for s in scales
    ]
    real = [index for index in found if index is not None]
    if not real:
        return [0] * len(scales)
    least = max(min(real), max(real) - most)
    return [0 if index is None else max(index, least) - least for index in found]
