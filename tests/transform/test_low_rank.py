"""Low-rank factors: those of the singular value decomposition; their product is that of the twin, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference import low_rank

SIDES = st.integers(1, 9)
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


def factors(
    matrix: NDArray[np.float64], rank: int = 0, energy: float = 1.0
) -> tuple[NDArray[np.float64], list[NDArray[np.float32]], NDArray[np.float64]]:
    """The product, the three float32 arrays, the singular values."""
    rows, columns = matrix.shape
    *raw, values = _core.low_rank_decompose(1, np.ascontiguousarray(matrix), rows, columns, rank, energy)
    left, scales, right = (np.frombuffer(part, np.float32) for part in raw)
    out = np.empty((rows, columns))
    _core.low_rank_product(left, scales, right, columns, out)
    return out, [left.reshape(rows, -1), scales, right.reshape(-1, columns)], np.frombuffer(values)


@settings(max_examples=80)
@given(st.data(), SIDES, SIDES, st.integers(1, 5))
def test_product_is_that_of_the_twin(data: st.DataObject, rows: int, columns: int, rank: int) -> None:
    left = data.draw(hnp.arrays(np.float32, (rows, rank), elements=FINITE))
    scales = data.draw(hnp.arrays(np.float32, rank, elements=st.floats(0, 2.0**100, width=32)))
    right = data.draw(hnp.arrays(np.float32, (rank, columns), elements=FINITE))
    out = np.empty((rows, columns))
    _core.low_rank_product(left, scales, right, columns, out)
    twin = low_rank.product(
        [float(x) for x in left.ravel()],
        [float(x) for x in scales],
        [float(x) for x in right.ravel()],
        columns,
    )
    assert out.tobytes() == np.array(twin).tobytes()


@settings(max_examples=60)
@given(SIDES, SIDES, st.integers(0, 1 << 30), st.integers(-40, 40))
def test_factors_are_those_of_the_decomposition(rows: int, columns: int, seed: int, exponent: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)) * 2.0**exponent
    expected = np.linalg.svd(matrix, compute_uv=False)
    out, (left, scales, right), values = factors(matrix)
    assert values == pytest.approx(expected, rel=1e-9, abs=1e-9 * expected[0])
    assert out == pytest.approx(matrix, rel=1e-5, abs=2e-6 * expected[0])
    # The values stand on both sides, and are taken out once.
    kept = len(scales)
    for k in range(kept):
        if expected[k] > 1e-4 * expected[0]:
            assert np.linalg.norm(left[:, k]) == pytest.approx(expected[k], rel=1e-4)
            assert np.linalg.norm(right[k]) == pytest.approx(expected[k], rel=1e-4)
            assert scales[k] == pytest.approx(1 / expected[k], rel=1e-4)
    cut, _, _ = factors(matrix, rank=1)
    best = np.sqrt((expected[1:] ** 2).sum())
    assert np.linalg.norm(cut - matrix) == pytest.approx(best, abs=1e-5 * expected[0])


def test_matrices_whose_values_are_mostly_zero() -> None:
    """As products of an adapter are: the solver must not wait for zeros to settle."""
    rng = np.random.default_rng(5)
    for rows, columns, rank in ((320, 400, 4), (128, 64, 1), (60, 60, 3)):
        matrix = (rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))).astype(np.float32)
        out, (_, scales, _), values = factors(matrix.astype(np.float64), energy=1 - 1e-5)
        assert np.all(np.diff(values) <= 0)
        assert len(scales) == rank
        assert np.linalg.norm(out - matrix) <= 1e-2 * np.linalg.norm(matrix)


def test_energy_says_how_many_terms() -> None:
    matrix = np.diag([4.0, 2.0, 1.0, 0.0])
    for energy, rank in ((0.5, 1), (0.76, 1), (0.77, 2), (0.95, 2), (0.96, 3), (1.0, 3)):
        assert len(factors(matrix, energy=energy)[1][1]) == rank
    assert len(factors(matrix, rank=9)[1][1]) == 4
    assert len(factors(np.zeros((3, 4)))[1][1]) == 1
    assert not factors(np.zeros((3, 4)))[0].any()


def test_sizes_and_values_out_of_range() -> None:
    tiny = factors(np.outer([1, 2, 3.0], [1, 1, 2.0]) * 1e-300)[0]
    assert not tiny.any()  # below what float32 factors can say
    with pytest.raises(ValueError, match="NaN"):
        _core.low_rank_decompose(1, np.array([[1.0, np.nan]]), 1, 2, 0, 1.0)
    with pytest.raises(ValueError, match="rows and columns"):
        _core.low_rank_decompose(1, np.ones((2, 2)), 2, 3, 0, 1.0)
    with pytest.raises(ValueError, match="rows x rank"):
        _core.low_rank_product(np.ones(3, "f4"), np.ones(2, "f4"), np.ones(2, "f4"), 1, np.ones(1))
