"""What a numpy index selects, as coordinates, at the cost of what is selected and not of the array."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["coordinates"]

_Item = int | slice | NDArray[np.int64] | None  # None: a new dimension of size 1


def coordinates(index: Any, shape: tuple[int, ...]) -> list[NDArray[np.int64]] | None:
    """Where in an array of this shape the elements of ``array[index]`` lie: its coordinates, one array a dimension.

    Together they broadcast to the shape of ``array[index]``; of an array without dimensions there are none. None for an
    index that has anything but integers, arrays of them, slices, ``...`` and ``None``, and where numpy may refuse it.
    """
    written_out = _items(index, shape)
    if written_out is None:
        return None
    items, rest = written_out
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    try:
        together = np.broadcast_shapes(*(item.shape for item in arrays))
    except ValueError:
        return None
    # Integers beside arrays count as arrays. Their common dimensions stand where the first of them was, or in front of
    # all others where these, or `...` for no dimension at all, come in between.
    many = [
        k
        for k, item in enumerate(items)
        if isinstance(item, np.ndarray) or (arrays and isinstance(item, int))
    ]
    alone = sum(isinstance(item, slice) or item is None for item in items)
    adjacent = bool(many) and many[-1] - many[0] < len(many) and not many[0] < rest <= many[-1]
    before = many[0] if adjacent else 0
    places: list[NDArray[np.int64]] = []
    at = 0  # among the dimensions of slices and new ones
    for item in items:
        if item is None:
            at += 1
            continue
        size = shape[len(places)]
        if isinstance(item, slice):
            behind = alone - at - 1 + (len(together) if at < before else 0)
            places.append(np.arange(*item.indices(size)).reshape((-1,) + (1,) * behind))
            at += 1
        elif isinstance(item, int):
            if not -size <= item < size:
                return None
            places.append(np.array(item % size))
        else:
            if item.size and not (-size <= item.min() and item.max() < size):
                return None
            wrapped = np.where(item < 0, item + size, item)
            places.append(wrapped.reshape(item.shape + (1,) * (alone - before)))
    if places:  # new dimensions in front have no coordinates of their own
        leading = alone + len(together) - places[0].ndim
        places[0] = places[0].reshape((1,) * leading + places[0].shape)
    return places


def _items(index: Any, shape: tuple[int, ...]) -> tuple[list[_Item], int] | None:
    """An index as one item for each dimension and new dimension, and where among them ``...`` was written out."""
    items: list[_Item] = []
    rest: int | None = None  # where the dimensions that are not named come in
    for item in index if isinstance(index, tuple) else (index,):
        if item is None or isinstance(item, slice):
            items.append(item)
        elif item is Ellipsis:
            if rest is not None:
                return None
            rest = len(items)
        else:
            array = np.asarray(item)
            if not array.size and not isinstance(item, np.ndarray):
                array = array.astype(np.int64)
            if array.dtype.kind not in "iu":
                return None
            items.append(array.astype(np.int64) if array.ndim else operator.index(array))
    missing = len(shape) - sum(item is not None for item in items)
    if missing < 0:
        return None
    rest = len(items) if rest is None else rest
    items[rest:rest] = [slice(None)] * missing
    return items, rest
