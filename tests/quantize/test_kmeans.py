"""k-means: the dynamic programme finds the optimum, assignment the nearest, Lloyd's iteration never gets worse."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference import kmeans as twin


def objective(x: NDArray[np.float64], centroids: list[float], w: NDArray[np.float64] | None = None) -> float:
    square = ((x[:, None] - np.array(centroids)) ** 2).min(1)
    return float((square if w is None else square * w).sum())


@settings(max_examples=120, deadline=None)
@given(
    st.lists(
        st.sampled_from([-3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 1.5, 2.0, 7.0, 100.0]), min_size=1, max_size=24
    ),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_optimal_agrees_with_the_twin(values: list[float], clusters: int, weighted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(np.array(values) + rng.integers(0, 3, len(values)) / 8)
    w = rng.integers(0, 4, len(x)).astype(np.float64) if weighted else None
    ours, least = _core.kmeans_optimal(x, w, clusters)
    theirs, expected = twin.optimal(x.tolist(), None if w is None else w.tolist(), clusters)
    assert least == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert objective(x, ours, w) == pytest.approx(least, rel=1e-9, abs=1e-12) if ours else not theirs
    assert ours == sorted(set(ours))
    assert len(ours) <= clusters


@pytest.mark.parametrize("n", [50, 3000])
def test_optimum_is_no_worse_than_many_random_starts(n: int) -> None:
    rng = np.random.default_rng(n)
    x = np.sort(rng.standard_t(3, n))
    for clusters in (2, 5, 16):
        _, least = _core.kmeans_optimal(x, None, clusters)
        for _ in range(10):
            c = np.sort(rng.choice(x, clusters, replace=False))
            for _ in range(30):
                index = np.searchsorted((c[:-1] + c[1:]) / 2, x)
                c = np.array([x[index == k].mean() if (index == k).any() else c[k] for k in range(clusters)])
            assert least <= objective(x, c.tolist()) * (1 + 1e-12)


def test_optimum_of_many_values_is_a_fixed_point() -> None:
    """Where nothing can be compared: each centroid is the mean of what is nearest to it, and more help."""
    x = np.sort(np.random.default_rng(1).normal(size=200_000))
    last = np.inf
    for clusters in (1, 2, 3, 8, 17):
        c, least = _core.kmeans_optimal(x, None, clusters)
        index = np.searchsorted((np.array(c[:-1]) + np.array(c[1:])) / 2, x)
        means = [x[index == k].mean() for k in range(clusters)]
        np.testing.assert_allclose(c, means, rtol=1e-6, atol=1e-6)
        assert least < last
        last = least


def test_few_values_are_their_own_centroids() -> None:
    assert _core.kmeans_optimal(np.float64([1, 1, 2, 5]), None, 3) == ([1, 2, 5], 0)
    assert _core.kmeans_optimal(np.zeros(0), None, 3) == ([], 0)
    assert _core.kmeans_optimal(np.full(1000, -2.5), None, 16) == ([-2.5], 0)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_a_far_origin_costs_no_precision(offset: float) -> None:
    x = np.sort(np.random.default_rng(2).normal(size=500))
    c, _ = _core.kmeans_optimal(x + offset, None, 6)
    expected, _ = _core.kmeans_optimal(x, None, 6)
    np.testing.assert_allclose(np.array(c) - offset, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("values", "weights", "clusters"),
    [
        ([1.0, 0.0], None, 2),
        ([0.0, np.nan], None, 1),
        ([0.0], [-1.0], 1),
        ([0.0, 1.0], [1.0], 1),
        ([0.0], None, 0),
    ],
)
def test_bad_arguments(values: list[float], weights: list[float] | None, clusters: int) -> None:
    with pytest.raises(ValueError, match=r"k-means|clusters|weights"):
        _core.kmeans_optimal(np.float64(values), None if weights is None else np.float64(weights), clusters)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1 << 30), st.sampled_from([1.0, 1e-40, 1e30]))
def test_assignment_agrees_with_the_twin(k: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    c = np.sort((rng.integers(-20, 20, k) * scale).astype(np.float32))
    middle = ((c[:-1].astype(np.float64) + c[1:]) / 2).astype(np.float32)
    x = np.concatenate(
        [(rng.normal(size=30) * 10 * scale).astype(np.float32), middle, np.nextafter(middle, c[:-1])]
    )
    index = np.empty(len(x), np.uint16)
    _core.kmeans_assign(x, c, index, 2)
    assert index.tolist() == twin.assign(x.tolist(), c.tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 6), st.integers(0, 1 << 30), st.booleans())
def test_lloyd_agrees_with_the_twin(dimension: int, n: int, k: int, seed: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dimension)).astype(np.float32)
    c = rng.normal(size=(k, dimension)).astype(np.float32)
    w = rng.integers(0, 3, n).astype(np.float32) if weighted else None
    book, index = c.copy(), np.empty(n, np.uint16)
    objectives = _core.kmeans_lloyd(x, dimension, w, book, 5, index)
    theirs = twin.lloyd(x.tolist(), None if w is None else w.tolist(), c.tolist(), 5)
    np.testing.assert_array_equal(book, np.float32(theirs[0]))
    assert index.tolist() == theirs[1]
    assert objectives == pytest.approx(theirs[2])
    assert all(b <= a * (1 + 1e-5) + 1e-12 for a, b in pairwise(objectives))


def test_lloyd_does_not_depend_on_threads() -> None:
    x = np.random.default_rng(3).normal(size=(40_000, 2)).astype(np.float32)
    results = []
    for threads in (1, 3):
        book, index = x[:16].copy(), np.empty(len(x), np.uint16)
        results.append((_core.kmeans_lloyd(x, 2, None, book, 8, index, threads), book, index))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[0][2], results[1][2])


def test_never_above_ten_starts_of_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    data = Path(os.environ.get("NNCODEC_DATA") or Path(__file__).parents[3] / "shared" / "data")
    file = data / "weights" / "resnet20_cifar10.safetensors"
    if not file.is_file():
        pytest.skip("no data folder: set NNCODEC_DATA")
    from bench.datasets import read_safetensors

    tensors = [t for t in read_safetensors(file).values() if t.ndim > 1][:4]
    for tensor in tensors:
        x = np.ascontiguousarray(np.sort(tensor.astype(np.float64).ravel())[::4])
        _, ours = _core.kmeans_optimal(x, None, 16)
        theirs = cluster.KMeans(16, n_init=3, random_state=0).fit(x[:, None]).inertia_
        assert ours <= theirs * (1 + 1e-9)
