"""Codebooks of scalars."""

from __future__ import annotations

import numpy as np
import pytest

from nncodec.clusters import scalar_centroids


@pytest.mark.parametrize("count", [3000, 100_000])
def test_every_centroid_is_the_mean_of_its_cluster(count: int) -> None:
    numbers = np.random.default_rng(3).standard_t(3, count)
    centres = scalar_centroids(numbers, None, 7)
    nearest = np.abs(numbers[:, None] - centres).argmin(axis=1)
    means = [numbers[nearest == k].mean() for k in range(7)]
    np.testing.assert_allclose(
        means, centres, rtol=1e-9 if count < 10_000 else 1e-2
    )  # those of bins may still move


def test_no_start_of_lloyds_iteration_is_better() -> None:
    rng = np.random.default_rng(4)
    numbers, weights = rng.normal(size=500) ** 3, rng.uniform(0, 2, 500)

    def error(centres: np.ndarray) -> float:
        return float((weights * ((numbers[:, None] - centres) ** 2).min(axis=1)).sum())

    found = error(scalar_centroids(numbers, weights, 5))
    for _ in range(20):
        centres = np.sort(rng.choice(numbers, 5, replace=False))
        for _ in range(50):
            nearest = np.abs(numbers[:, None] - centres).argmin(axis=1)
            shares = [weights[nearest == k].sum() for k in range(5)]
            sums = [(weights * numbers)[nearest == k].sum() for k in range(5)]
            centres = np.array([t / w if w > 0 else c for t, w, c in zip(sums, shares, centres, strict=True)])
        assert found <= error(centres) * (1 + 1e-12)


def test_few_numbers_are_their_own_centroids() -> None:
    assert scalar_centroids(np.array([3.0, -1.0, 3.0]), None, 5).tolist() == [-1.0, 3.0]
