"""Finds tensors that share memory, so that it is stored once (docs/format.md#aliases-a)."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nncodec.tensors import Leaf

__all__ = ["Tie", "find_ties"]


@dataclass(frozen=True)
class Tie:
    """Leaf number ``target`` holds the memory: all of it (``view`` None), or (offset, strides) in elements."""

    target: int
    view: tuple[int, tuple[int, ...]] | None


def find_ties(leaves: Sequence[Leaf]) -> dict[int, Tie]:
    """Which leaves are views into which others, by number. The leaves must all be alive.

    A leaf becomes the owner of a stretch of memory if it is contiguous and no larger contiguous leaf contains
    it (of equal ones, the first). A leaf of the same type that lies inside an owner becomes a tie, unless a
    stride is negative or no multiple of the element size. What is left becomes a tie of the first leaf that is the
    same view of the same memory, whatever its strides. Leaves that overlap otherwise are stored each for itself.
    """
    groups: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, leaf in enumerate(leaves):
        if leaf.address:
            groups[leaf.device, leaf.dtype.code].append(number)
    ties: dict[int, Tie] = {}
    for group in groups.values():
        if len(group) > 1:
            _ties_of_group(leaves, group, ties)
    return ties


def _ties_of_group(leaves: Sequence[Leaf], group: list[int], ties: dict[int, Tie]) -> None:
    # Owners by rising address. Sorted so, what contains a leaf comes before it. No owner contains another, so
    # their ends rise too: if the owner with the highest start at or below a leaf's does not contain the leaf,
    # none does.
    order = sorted(
        (n for n in group if leaves[n].contiguous), key=lambda n: (leaves[n].address, -leaves[n].nbytes, n)
    )
    owners: list[int] = []
    reach = 0
    for number in order:
        end = leaves[number].address + leaves[number].nbytes
        if end > reach:
            owners.append(number)
            reach = end
    starts = [leaves[n].address for n in owners]
    firsts: dict[tuple[Any, ...], int] = {}
    for number in group:
        leaf = leaves[number]
        first = firsts.setdefault((leaf.address, leaf.shape, _steps(leaf)), number)
        if first != number:
            ties[number] = ties.get(first, Tie(first, None))  # only what is stored can be a target
            continue
        if min(leaf.strides, default=0) < 0:
            continue
        place = bisect_right(starts, leaf.address) - 1
        if place < 0 or owners[place] == number:
            continue
        owner = leaves[owners[place]]
        tie = _tie(leaf, owner, owners[place])
        if tie is not None:
            ties[number] = tie


def _tie(leaf: Leaf, owner: Leaf, target: int) -> Tie | None:
    size = leaf.dtype.size
    distance = leaf.address - owner.address
    reach = distance + sum((n - 1) * step for n, step in zip(leaf.shape, leaf.strides, strict=True)) + size
    if reach > owner.nbytes or distance % size or any(step % size for step in leaf.strides):
        return None
    if leaf.shape == owner.shape and leaf.contiguous:
        return Tie(target, None)
    return Tie(target, (distance // size, tuple(step // size for step in _steps(leaf))))


def _steps(leaf: Leaf) -> tuple[int, ...]:
    """Strides in bytes. A dimension of one element has none that matters; 0 keeps the bytes a function of the input."""
    return tuple(step if n > 1 else 0 for n, step in zip(leaf.shape, leaf.strides, strict=True))
