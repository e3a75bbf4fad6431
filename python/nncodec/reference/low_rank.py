"""Product of two thin matrices in plain Python. Arithmetic: docs/format.md, section "Low-rank product"."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["product"]


def product(
    left: Sequence[float], scales: Sequence[float], right: Sequence[float], columns: int
) -> list[float]:
    """Row-major entries of left (rows x rank) * diag(scales) * right (rank x columns); every step in binary64."""
    rank = len(scales)
    out = []
    for row in range(len(left) // rank):
        weights = [left[row * rank + k] * scales[k] for k in range(rank)]
        for column in range(columns):
            total = 0.0
            for k in range(rank):
                total = total + weights[k] * right[k * columns + column]
            out.append(total)
    return out
