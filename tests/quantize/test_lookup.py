"""Look-up: entries by index, for all widths and instruction sets, equal to the twin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import _core
from nncodec.reference import lookup as twin


@pytest.fixture
def isa_restored() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from([1, 2, 4, 8, 16, 32]),
    st.sampled_from([1, 2, 8, 9, 16, 17, 32, 33, 64, 65, 256, 257, 3000]),
    st.integers(0, 100),
    st.sampled_from(_core.supported_isas()),
    st.integers(0, 1 << 30),
)
def test_agrees_with_the_twin(entry: int, size: int, n: int, isa: str, seed: int) -> None:
    before = _core.isa()
    _core.force_isa(isa)
    try:
        rng = np.random.default_rng(seed)
        entries = rng.bytes(size * entry)
        table = _core.LookupTable(entries, entry)
        index = rng.integers(0, size, n).astype(np.uint16)
        expected = twin.run(index.tolist(), entries, entry)
        out = np.empty(n * entry, np.uint8)
        if size <= 256:
            table.run(index.astype(np.uint8), out)
            assert out.tobytes() == expected
        table.run(index, out, 2)
        assert out.tobytes() == expected
        for bits in range(max(1, (size - 1).bit_length()), 17):
            packed = _core.bitpack(index, bits)
            out[:] = 0
            table.run_packed(packed, bits, n, out)
            assert out.tobytes() == twin.run_packed(packed, bits, n, entries, entry) == expected
    finally:
        _core.force_isa(before)


@pytest.mark.parametrize("isa", _core.supported_isas())
def test_long_arrays(isa: str, isa_restored: None) -> None:
    _core.force_isa(isa)
    rng = np.random.default_rng(1)
    for size in (5, 16, 31, 60, 200, 256, 5000, 65536):
        values = rng.normal(size=size).astype(np.float32)
        index = rng.integers(0, size, 10_007).astype(np.uint8 if size <= 256 else np.uint16)
        out = np.empty(len(index), np.float32)
        _core.LookupTable(values, 4).run(index, out, index.itemsize)
        np.testing.assert_array_equal(out, values[index])


def test_bad_arguments() -> None:
    values = np.zeros(4, np.float32)
    for entries, entry in (
        (values, 3),
        (values[:0], 4),
        (np.zeros(65537, np.uint8), 1),
        (values.tobytes()[:15], 4),
    ):
        with pytest.raises(ValueError, match=r"entries|table"):
            _core.LookupTable(entries, entry)
    table = _core.LookupTable(values, 4)
    with pytest.raises(ValueError, match="out"):
        table.run(np.zeros(3, np.uint8), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="beyond"):
        table.run(np.uint16([4]), np.zeros(1, np.float32), 2)
    with pytest.raises(ValueError, match="beyond"):
        table.run_packed(_core.bitpack(np.uint16([300]), 9), 9, 1, np.zeros(1, np.float32))
    for bits, n in ((0, 1), (17, 8), (9, 8), (4, 3)):
        with pytest.raises(ValueError, match="packed"):
            table.run_packed(b"\0", bits, n, np.zeros(n, np.float32))
