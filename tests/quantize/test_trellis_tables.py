"""Parametric tables of trellis levels against their twin."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import _core
from nncodec.reference import trellis_tables as twin


@settings(max_examples=40, deadline=None)
@given(
    st.integers(20, 120),
    st.integers(0, 14),
    st.integers(1, 127),
    st.sampled_from(["plain", "both_zero"]),
    st.integers(0, 1),
)
def test_equals_the_twin(scale: int, shape: int, radius: int, alphabet: str, union: int) -> None:
    table = _core.trellis_parametric_table(scale, shape, radius, alphabet, union)
    assert table == twin.parametric_table(scale, shape, radius, alphabet, union)
    if table:
        assert sum(table) == 4096
        assert min(table[128 - radius :]) >= 1


def test_tables_follow_their_parameters() -> None:
    narrow = _core.trellis_parametric_table(60, 14, 10, "plain", 0)
    wide = _core.trellis_parametric_table(80, 14, 10, "plain", 0)
    peaked = _core.trellis_parametric_table(60, 2, 10, "plain", 0)
    assert narrow[128] > wide[128]
    assert narrow[128 + 5] < peaked[128 + 5]
    assert narrow[118:128] == narrow[:128:-1]  # symmetric
    odd = _core.trellis_parametric_table(80, 14, 10, "plain", 1)
    assert (
        odd[127] <= odd[128] <= odd[127] + 21
    )  # -1 and 0 are equally far from zero; 128 takes the remainder


def test_scales_far_below_a_step_have_no_table() -> None:
    assert _core.trellis_parametric_table(0, 14, 5, "plain", 0) == []


def test_out_of_range() -> None:
    with pytest.raises(ValueError, match="out of range"):
        _core.trellis_parametric_table(64, 15, 5, "plain", 0)
