"""Cosine transform: equals its twin, is orthonormal, and gains on smooth kernels what theory says."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference import dct as twin

Floats = NDArray[np.float32]


@pytest.fixture(params=_core.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.force_isa(request.param)
    yield request.param
    _core.force_isa(before)


def forward(x: Floats) -> Floats:
    out = np.empty_like(x)
    _core.dct_forward(x, x.shape[-2], x.shape[-1], out)
    return out


def inverse(x: Floats) -> Floats:
    out = np.empty_like(x)
    _core.dct_inverse(x, x.shape[-2], x.shape[-1], out)
    return out


def textbook(n: int) -> NDArray[np.float64]:
    k, j = np.mgrid[:n, :n]
    scale = np.where(k == 0, math.sqrt(1 / n), math.sqrt(2 / n))
    return np.asarray(scale * np.cos(np.pi * (2 * j + 1) * k / (2 * n)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 11), st.integers(1, 11), st.integers(1, 3), st.integers(0, 2**32 - 1), st.data())
def test_agrees_with_the_twin(height: int, width: int, count: int, seed: int, data: st.DataObject) -> None:
    scale = data.draw(st.sampled_from([1.0, 1e-42, 1e30]))
    x = (scale * np.random.default_rng(seed).normal(size=(count, height, width))).astype(np.float32)
    for kernel, reference in ((forward, twin.forward), (inverse, twin.inverse)):
        expected = [reference([float(v) for v in block.ravel()], height, width) for block in x]
        np.testing.assert_array_equal(kernel(x).reshape(count, -1), np.float32(expected))


@pytest.mark.parametrize("n", [*range(1, 17), 31, 32, 48, 63, 64])
def test_matrix_is_that_of_the_textbook(n: int) -> None:
    basis = forward(np.eye(n, dtype=np.float32).reshape(n, 1, n)).reshape(n, n).T
    np.testing.assert_allclose(basis, textbook(n), rtol=2**-24, atol=1e-14)
    np.testing.assert_array_equal(basis, np.float32(twin.matrix(n)))


@pytest.mark.parametrize(
    "shape", [(3, 3), (5, 5), (7, 7), (11, 11), (1, 7), (7, 1), (1, 4), (1, 64), (16, 16)]
)
@pytest.mark.parametrize("count", [1, 15, 16, 100])
def test_round_trip_and_energy(shape: tuple[int, int], count: int, isa: str) -> None:
    x = np.random.default_rng(count).normal(size=(count, *shape)).astype(np.float32)
    coefficients = forward(x)
    size = np.linalg.norm(x.astype(np.float64))
    assert np.linalg.norm((inverse(coefficients) - x).astype(np.float64)) < 1e-6 * size
    assert np.linalg.norm(coefficients.astype(np.float64)) == pytest.approx(size, rel=1e-6)
    expected = textbook(shape[0]) @ x.astype(np.float64) @ textbook(shape[1]).T
    np.testing.assert_allclose(coefficients, expected, atol=2e-5)


def test_same_numbers_on_every_isa(isa: str) -> None:
    for shape in ((3, 3), (5, 5), (1, 64), (11, 4), (1, 1)):
        x = np.random.default_rng(5).normal(size=(101, *shape)).astype(np.float32)
        back, there = inverse(x), forward(x)
        _core.force_isa("scalar")
        np.testing.assert_array_equal(back, inverse(x))
        np.testing.assert_array_equal(there, forward(x))
        _core.force_isa(isa)


def test_blocks_do_not_meet() -> None:
    x = np.random.default_rng(6).normal(size=(40, 3, 3)).astype(np.float32)
    assert (forward(x)[7] == forward(x[7:8])[0]).all()


def test_in_place() -> None:
    x = np.random.default_rng(7).normal(size=(37, 5, 5)).astype(np.float32)
    expected = forward(x)
    _core.dct_forward(x, 5, 5, x)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("rho", "gains"),
    [
        (0.0, (0, 0, 0, 0)),
        (0.2, (0.04, 0.04, 0.05, 0.05)),
        (0.4, (0.16, 0.19, 0.20, 0.22)),
        (0.6, (0.42, 0.50, 0.53, 0.57)),
        (0.8, (0.98, 1.17, 1.25, 1.32)),
    ],
)
def test_coding_gain_on_autoregressive_kernels(rho: float, gains: tuple[float, ...]) -> None:
    """Bits per weight at equal distortion: half the log of the mean variance over the geometric mean."""
    for n, gain in zip((3, 5, 7, 11), gains, strict=True):
        line = rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
        root = np.linalg.cholesky(line)
        # 40 n^2 samples whose second moments are exactly those of the source: n^2 orthogonal columns.
        rng = np.random.default_rng(n)
        q, _ = np.linalg.qr(rng.normal(size=(40 * n * n, n * n)))
        white = (q * math.sqrt(len(q))).reshape(-1, n, n)
        kernels = (root @ white @ root.T).astype(np.float32)
        variances = (forward(kernels).astype(np.float64) ** 2).mean(axis=0)
        measured = 0.5 * (math.log2(variances.mean()) - np.log2(variances).mean())
        assert measured == pytest.approx(gain, abs=0.01), (n, rho)


@pytest.mark.parametrize(
    ("height", "width", "count"), [(0, 3, 0), (65, 1, 65), (64, 8, 512), (3, 3, 10), (1, 0, 4)]
)
def test_bad_arguments(height: int, width: int, count: int) -> None:
    x = np.zeros(count, np.float32)
    with pytest.raises(ValueError, match=r"blocks|height and width"):
        _core.dct_forward(x, height, width, x)
