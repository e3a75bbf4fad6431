"""Hadamard transform: equals its twin and is its own inverse."""

from __future__ import annotations

import numpy as np
import pytest

from nncodec import _core
from nncodec.reference import hadamard as twin


@pytest.mark.parametrize("length", [2, 4, 8, 16, 32, 64])
def test_agrees_with_the_twin_and_is_orthonormal(length: int) -> None:
    x = np.random.default_rng(length).normal(size=(9, length)).astype(np.float32)
    y = x.copy()
    _core.hadamard(y, length)
    np.testing.assert_array_equal(y, np.float32([twin.transform(row) for row in x.tolist()]))
    assert np.linalg.norm(y) == pytest.approx(np.linalg.norm(x), rel=1e-6)
    _core.hadamard(y, length)
    np.testing.assert_allclose(y, x, atol=1e-6)


@pytest.mark.parametrize(("length", "size"), [(3, 9), (1, 4), (128, 128), (8, 12)])
def test_bad_arguments(length: int, size: int) -> None:
    with pytest.raises(ValueError, match="Hadamard"):
        _core.hadamard(np.zeros(size, np.float32), length)
