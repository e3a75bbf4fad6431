"""Elements by class and back. docs/format.md, section "Chunks and lanes"."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["order_of", "restore"]


def order_of(classes: Sequence[int]) -> list[int]:
    """The numbers of the elements in the order of coding: by class, those of a class ascending."""
    return sorted(range(len(classes)), key=lambda i: classes[i])


def restore(classes: Sequence[int], values: Sequence[int]) -> list[int]:
    """Values that come in the order of coding, in that of the elements."""
    out = [0] * len(classes)
    for i, value in zip(order_of(classes), values, strict=True):
        out[i] = value
    return out
