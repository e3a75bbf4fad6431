"""Scale classes: kernel and plain-Python twin agree; indices follow the scales."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import _core
from nncodec.reference import scales as twin


@given(st.floats(min_value=2.0**-1022, allow_infinity=False, allow_nan=False))
def test_fixed_log2_agrees_with_twin_and_truth(value: float) -> None:
    assert _core.fixed_log2(value) == twin.fixed_log2(value)
    assert abs(_core.fixed_log2(value) / 65536 - math.log2(value)) < 1e-3


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 20), st.integers(1, 4), st.integers(0, 3)
)
def test_fit_agrees_with_twin(seed: int, rows: int, columns: int, repeat: int, axes: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns, repeat)) * np.exp2(rng.integers(-30, 9, (rows, 1, 1)))
    x *= rng.random((1, columns, 1)) > 0.1
    row, column, _ = _core.fit_scales(x, 1, rows, columns, repeat, axes)
    assert (list(row), list(column)) == twin.fit(x.ravel().tolist(), rows, columns, repeat, axes)


def test_indices_follow_the_scales() -> None:
    rng = np.random.default_rng(1)
    row_scale, column_scale = np.exp2(rng.integers(0, 8, 300)), np.exp2(rng.integers(0, 6, 200))
    x = (rng.normal(size=(300, 200)) * row_scale[:, None] * column_scale).astype(np.float32)
    row, column, _ = _core.fit_scales(x, 2, 300, 200, 1, 3)
    for index, scale in ((row, row_scale), (column, column_scale)):
        expected = 3 * np.log2(scale / scale.min())
        assert np.abs(np.frombuffer(index, np.uint8) - expected).max() <= 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads: int) -> None:
    x = np.random.default_rng(2).normal(size=(1000, 130)).astype(np.float32)
    assert _core.fit_scales(x, 2, 1000, 130, 1, 3, threads) == _core.fit_scales(x, 2, 1000, 130, 1, 3, 0)


def test_statistics() -> None:
    x = np.array([3, -4, np.nan, np.inf, 0], np.float32)
    stats = _core.float_statistics(x, 2)
    assert (stats.energy, stats.largest, stats.nonfinite) == (25.0, 4.0, 2)
    weighted = _core.float_statistics(x, 2, np.array([2, 1, 1, 1, 1], np.float32))
    assert weighted.energy == 34.0
