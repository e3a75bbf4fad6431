"""Elements by class and back. docs/format.md, section "Chunks and lanes"."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["classes_of_row", "counts_of", "order_of", "restore"]


def order_of(classes: Sequence[int]) -> list[int]:
    """The numbers of the elements in the order of coding: by class, those of a class ascending."""
    return sorted(range(len(classes)), key=lambda i: classes[i])


def restore(classes: Sequence[int], values: Sequence[int]) -> list[int]:
    """Values that come in the order of coding, in that of the elements."""
    out = [0] * len(classes)
    for i, value in zip(order_of(classes), values, strict=True):
        out[i] = value
    return out


def classes_of_row(own: int, parts: Sequence[int], of_sum: Sequence[int]) -> list[int]:
    """What each sum of a row's own part and an element's becomes, clamped to 0 ... 255."""
    return [of_sum[min(max(own + part, 0), 255)] for part in parts]


def counts_of(classes: Sequence[int]) -> list[int]:
    """How often each of the classes 0 ... 255 occurs."""
    counts = [0] * 256
    for c in classes:
        counts[c] += 1
    return counts
