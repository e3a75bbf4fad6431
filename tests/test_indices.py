"""Coordinates of what an index selects: numpy's own answers, for the price of the answer."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncodec
from nncodec.codecs import Weightless
from nncodec.container.catalogue import open_catalogue
from nncodec.indices import coordinates

_ENDS = st.one_of(st.none(), st.integers(-6, 6))
_SLICES = st.builds(slice, _ENDS, _ENDS, st.sampled_from([None, 1, 2, -1, -3]))
_INTEGERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from(
        [np.int64(1), np.uint8(0), np.array(-1), [], [0, -1], np.array([[0], [1]]), np.zeros((2, 0), int)]
    ),
    st.lists(st.integers(-2, 1), min_size=2, max_size=2).map(np.array),
)
_ITEMS = st.one_of(_INTEGERS, _SLICES, st.none(), st.just(...))


@settings(max_examples=600, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple),
    st.lists(_ITEMS, max_size=5),
    st.booleans(),
)
def test_coordinates_are_those_of_numpy(shape: tuple[int, ...], items: list[Any], single: bool) -> None:
    array = np.arange(int(np.prod(shape))).reshape(shape)
    index = items[0] if single and items else tuple(items)
    found = coordinates(index, shape)
    try:
        expected = array[index]
    except IndexError:
        assert found is None
        return
    if found is None:  # only where an empty selection hides coordinates that are out of bounds
        assert not expected.size
        return
    assert np.broadcast_shapes(*(place.shape for place in found)) == expected.shape
    if array.size:
        np.testing.assert_array_equal(
            np.broadcast_to(np.ravel_multi_index(found, shape), expected.shape), expected
        )


@pytest.mark.parametrize(
    "index", [True, np.array([True, False]), "a", 0.5, np.array([0.0]), (0, 0), [[0], [0, 1]]]
)
def test_other_indices_are_left_to_numpy(index: Any) -> None:
    try:
        assert coordinates(index, (2,)) is None
    except ValueError:  # as numpy itself, of lists that are no array
        with pytest.raises(ValueError, match="inhomogeneous"):
            np.zeros(2)[index]


def test_a_look_up_in_a_long_tensor_takes_no_memory_of_its_length() -> None:
    length = 1 << 20
    tensor = np.zeros(length, np.float16)
    tensor[::1000] = 0.5
    data = memoryview(nncodec.encode({"w": tensor}, {"w": Weightless(12, exact=True)}))
    with nncodec.File(data, open_catalogue(data)) as file:
        table = file.lookup("w")
        assert table[0] == 0.5  # the chunk's payload is checked once
        for index in (3000, -length, np.array([5, 3000, -1]), slice(2000, 2100), slice(None, None, 1 << 15)):
            tracemalloc.start()
            found = table[index]
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            np.testing.assert_array_equal(found, tensor[index])
            assert peak < 100_000
        for index, message in ((length, "out of bounds"), (-length - 1, "out of bounds"), ([length], "out of bounds"),
                               ((0, 0), "too many indices"), (0.5, "integers")):  # fmt: skip
            with pytest.raises(IndexError, match=message):
                table[index]
        np.testing.assert_array_equal(table[tensor > 0], tensor[tensor > 0])
