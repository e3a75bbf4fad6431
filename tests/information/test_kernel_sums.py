"""Sums of kernels: as the twin, and the same bits on every instruction set and number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference.kernel_sums import kernel_sums as twin


def run(points: NDArray[np.float32], ends: list[int], threads: int = 1) -> NDArray[np.float64]:
    sums = np.full((len(points), 4), np.nan)
    _core.kernel_sums(points, points.shape[1], np.array(ends, np.uint32), sums, threads)
    return sums


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.1, 1.0, 3.0, 1e4]),
)
def test_agrees_with_the_twin(n: int, d: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    points = (scale * rng.normal(size=(n, d))).astype(np.float32)
    ends = sorted([*rng.integers(0, n + 1, rng.integers(0, 4)).tolist(), n])
    expected = np.array(twin([[float(x) for x in row] for row in points], ends))
    for isa in _core.supported_isas():
        before = _core.isa()
        _core.force_isa(isa)
        np.testing.assert_allclose(run(points, ends), expected, rtol=1e-4)
        _core.force_isa(before)


@pytest.mark.parametrize("d", [1, 8, 9, 33])
def test_same_bits_everywhere(d: int) -> None:
    points = np.random.default_rng(d).normal(size=(333, d)).astype(np.float32)
    found = set()
    before = _core.isa()
    for isa in _core.supported_isas():
        _core.force_isa(isa)
        found |= {run(points, [100, 100, 333], threads).tobytes() for threads in (1, 2, 3)}
    _core.force_isa(before)
    assert len(found) == 1


def test_far_points_count_nothing() -> None:
    for distance, sees in ((0.0, True), (10.0, True), (12.7, False), (1e15, False)):
        sums = run(np.array([[0.0], [distance]], np.float32), [2])
        assert (sums[0, 2] > 1) == sees


@pytest.mark.parametrize(
    ("points", "d", "ends", "cause"),
    [
        (np.zeros((3, 2), np.float32), 2, [2], "as many rows"),
        (np.zeros((3, 2), np.float32), 0, [3], "as many rows"),
        (np.zeros((3, 2), np.float32), 2, [2, 1, 3], "ascend"),
        (np.full((3, 2), np.nan, np.float32), 2, [3], "finite"),
        (np.full((3, 2), 2e15, np.float32), 2, [3], "finite"),
    ],
)
def test_bad_arguments(points: NDArray[np.float32], d: int, ends: list[int], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        _core.kernel_sums(points, d, np.array(ends, np.uint32), np.empty((3, 4)))
    with pytest.raises(ValueError, match="four numbers"):
        _core.kernel_sums(np.zeros(3, np.float32), 1, np.array([3], np.uint32), np.empty((2, 4)))
