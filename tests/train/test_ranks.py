"""Searches for ranks, held to the published tables of ENC and to brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("torch")

from nncodec.train.rank_metrics import (
    monotone_cubic,
    pca_energy,
    points_to_measure,
    rising_points,
    through_points,
    vbmf_rank,
)
from nncodec.train.ranks import Curve, Found, bounded, equal_metric, exact, measured, uniform

# VGG-16 on 224 x 224 pixels: (inputs, outputs, side of the output), largest rank; then ranks and what was measured at
# them. Published by the authors (github.com/Hyeji-Kim/ENC, MIT licence).
VGG = [
    (3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56), (256, 256, 56),
    (256, 512, 28), (512, 512, 28), (512, 512, 28), (512, 512, 14), (512, 512, 14), (512, 512, 14),
]  # fmt: skip
LARGEST = [19, 96, 128, 192, 256, 384, 384, 512, 768, 768, 768, 768, 768]
RANKS = [
    [2, 10, 13, 19, 26, 38, 38, 51, 77, 77, 77, 77, 77],
    [3, 14, 20, 29, 36, 58, 56, 74, 114, 112, 109, 110, 125],
    [4, 18, 27, 39, 47, 79, 75, 98, 151, 147, 141, 144, 173],
    [8, 36, 54, 78, 94, 158, 150, 196, 302, 294, 282, 289, 346],
]
MEASURED = [
    [0.8415, 0.9678, 0.6996, 0.8451, 0.7587, 0.6463, 0.9048, 0.9430, 0.9686, 0.9351, 0.9147, 0.8977, 0.9077],
    [0.8851, 0.9898, 0.9679, 0.9667, 0.9685, 0.9908, 0.9497, 0.9812, 0.9869, 0.9724, 0.9631, 0.9501, 0.9605],
    [0.9125, 0.9994, 0.9988, 0.9921, 0.9935, 0.9971, 0.9820, 0.9959, 0.9953, 0.9876, 0.9822, 0.9749, 0.9833],
    [0.9997, 1.0004, 0.9999, 0.9990, 0.9991, 0.9993, 0.9989, 0.9998, 1.0009, 0.9982, 0.9988, 0.9964, 0.9969],
]
DERIVED = [10, 16, 26, 51, 57, 74, 123, 100, 164, 239, 233, 287, 330]
SHIPPED = [10, 16, 26, 52, 57, 74, 124, 100, 164, 241, 234, 287, 331]
TOTAL = sum(9 * i * o * side**2 for i, o, side in VGG)

SPECTRA = Path(__file__).with_name("resnet56_spectra.txt")


def vgg(first: int | None = 10) -> list[Curve]:
    """The fixture; the first layer stays at a rank of 10, as the authors have it."""
    curves = []
    for layer, ((inputs, outputs, side), largest) in enumerate(zip(VGG, LARGEST, strict=True)):
        per_rank = (9 * inputs + outputs if layer == 0 else 3 * (inputs + outputs)) * side**2
        points = rising_points([r[layer] for r in RANKS], [m[layer] for m in MEASURED], largest)
        metric = through_points(points, largest)
        cost = per_rank * np.arange(largest + 1.0)
        if layer == 0 and first is not None:
            curves.append(Curve("0", cost[first : first + 1], metric[first : first + 1], 0))
        else:
            curves.append(Curve(str(layer), cost, metric, max(1, round(largest / 10)), points=points))
    return curves


def ranks_of(found: Found) -> list[int]:
    return [10, *found.choices[1:]]


def metric_of(ranks: Sequence[int]) -> float:
    return float(np.prod([curve.metric[rank] for curve, rank in zip(vgg(None), ranks, strict=True)]))


# --- golden vectors


def test_equal_metric_gives_the_published_ranks() -> None:
    found = equal_metric(vgg(), 0.251 * TOTAL)
    ranks = np.array(ranks_of(found))
    assert np.abs(ranks - DERIVED).max() <= 1
    assert np.abs(ranks - SHIPPED).max() <= 2
    assert found.cost / TOTAL == pytest.approx(0.251, abs=1e-3)
    weights = sum(r * (9 * i + o if i == 3 else 3 * (i + o)) for r, (i, o, _) in zip(ranks, VGG, strict=True))
    assert weights / sum(9 * i * o for i, o, _ in VGG) == pytest.approx(0.3065, abs=2e-3)


def test_exact_search_is_the_best_on_the_published_curves() -> None:
    budget = 0.25 * TOTAL
    found = exact(vgg(), budget)
    assert found.cost <= budget
    assert found.metric == pytest.approx(0.9628, abs=1e-4)
    assert metric_of(SHIPPED) == pytest.approx(0.9588, abs=5e-4)
    assert uniform(vgg(None), budget).metric == pytest.approx(0.8780, abs=5e-4)
    model = bounded(vgg(), budget, TOTAL)[0]
    assert model.cost <= budget
    assert equal_metric(vgg(), budget).metric <= model.metric <= found.metric
    assert model.metric >= 0.9572


def test_spectra_of_resnet56_give_the_published_ranks() -> None:
    """And squared singular values do not."""
    rows = [line.split() for line in SPECTRA.read_text().splitlines() if not line.startswith("#")]
    shipped = np.array([int(row[0]) for row in rows])
    spectra = [np.array(row[1:], np.float64) for row in rows]
    assert len(rows) == 54
    costs, total = [], 0
    for layer, values in enumerate(spectra):
        width, side = ((16, 32), (32, 16), (64, 8))[layer // 18]
        inputs = width // 2 if layer in (18, 36) else width  # the first of the stages two and three
        costs.append(3 * (inputs + width) * side**2 * np.arange(len(values) + 1.0))
        total += 9 * inputs * width * side**2

    def off(power: int, budget: float) -> NDArray[np.int64]:
        curves = [
            Curve(str(layer), cost, pca_energy(values**power, len(values)), max(1, round(len(values) / 10)))
            for layer, (cost, values) in enumerate(zip(costs, spectra, strict=True))
        ]
        return np.abs(np.array(equal_metric(curves, budget).choices) - shipped)

    spent = sum(float(cost[rank]) for cost, rank in zip(costs, shipped, strict=True))
    assert spent / total == pytest.approx(0.5, abs=0.006)
    assert off(1, 0.5 * total).max() == 1
    assert off(1, 0.5 * total).mean() <= 0.34
    assert off(1, spent).mean() <= 0.1
    assert off(2, spent).max() > 10


# --- searches


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Curve], float]:
    curves = []
    for layer in range(draw(st.integers(1, 4))):
        length = draw(st.integers(2, 6))
        steps = draw(st.lists(st.integers(0, 9), min_size=length, max_size=length))
        gains = draw(st.lists(st.floats(0, 1), min_size=length, max_size=length))
        metric = np.cumsum(gains)
        metric = metric / metric[-1] if metric[-1] > 0 else np.ones(length)
        metric[-1] = 1.0
        curves.append(
            Curve(str(layer), np.cumsum(steps).astype(float), np.minimum(metric, 1), draw(st.integers(0, 1)))
        )
    least = sum(curve.cost[curve.least] for curve in curves)
    return curves, float(least + draw(st.integers(0, 60)))


@settings(max_examples=150)
@given(problems())
def test_exact_search_is_that_of_brute_force(problem: tuple[list[Curve], float]) -> None:
    curves, budget = problem
    best = 0.0
    for choices in product(*(range(curve.least, curve.last + 1) for curve in curves)):
        if sum(c.cost[i] for c, i in zip(curves, choices, strict=True)) <= budget:
            best = max(best, float(np.prod([c.metric[i] for c, i in zip(curves, choices, strict=True)])))
    found = exact(curves, budget)
    assert found.cost <= budget
    assert found.metric == pytest.approx(best, rel=1e-9, abs=1e-29)
    for other in (equal_metric(curves, budget), uniform(curves, budget), *bounded(curves, budget, 100.0)[:3]):
        assert other.cost <= budget
        assert other.metric <= found.metric + 1e-12


def test_costs_without_a_common_divisor() -> None:
    rng = np.random.default_rng(3)
    curves = [
        Curve(
            str(i), np.arange(40) * rng.uniform(1, 7), pca_energy(np.sort(rng.exponential(size=39))[::-1], 39)
        )
        for i in range(12)
    ]
    for share in (0.3, 0.5, 0.8):
        budget = share * sum(curve.cost[-1] for curve in curves)
        found = exact(curves, budget)
        assert found.cost <= budget
        assert found.metric >= equal_metric(curves, budget).metric
        assert found.metric >= bounded(curves, budget, budget / share)[0].metric * (1 - 1e-3)


def test_layers_of_equal_cost_are_folded_and_unfolded() -> None:
    """Two equal layers: the best split is even, and a candidate's figures are those of its choices."""
    values = np.linspace(1, 0.05, 20)
    curves = [Curve(str(i), 3 * np.arange(21.0), pca_energy(values, 20)) for i in range(2)]
    candidates = bounded(curves, 60.0, 120.0, density=0.5)
    assert abs(candidates[0].choices[0] - candidates[0].choices[1]) <= 1
    for found in candidates[:50]:
        assert found.cost == sum(3 * rank for rank in found.choices)
        assert found.metric == pytest.approx(
            np.prod([c.metric[i] for c, i in zip(curves, found.choices, strict=True)])
        )


def test_measured_candidates() -> None:
    candidates = [Found((i,), float(i), 1 - i / 10) for i in range(6)]
    assert measured(candidates, lambda found: -abs(found.cost - 3)).choices == (3,)
    assert measured(candidates, lambda found: found.cost, count=2).choices == (1,)


def test_a_budget_too_small_is_an_error() -> None:
    for search in (uniform, equal_metric, exact):
        with pytest.raises(ValueError, match="the least these take"):
            search(vgg(), 0.001 * TOTAL)


def test_curves_must_rise() -> None:
    with pytest.raises(ValueError, match="must not decrease"):
        Curve("w", np.array([0.0, 2, 1]), np.array([0, 0.5, 1]))
    with pytest.raises(ValueError, match="w"):
        Curve("w", np.array([0.0]), np.array([1.0]), least=1)


# --- metrics


def test_pca_energy() -> None:
    assert pca_energy([4, 2, 1, 1], 4).tolist() == [0, 0, 0.5, 0.75, 1]
    assert pca_energy([4, 2, 1, 1], 3) == pytest.approx([0, 0, 2 / 3, 1])
    assert pca_energy([4], 1).tolist() == [0, 1]
    with pytest.raises(ValueError, match="largest"):
        pca_energy([4, 2], 3)


def test_points_that_do_not_rise_are_dropped() -> None:
    x, y = rising_points([2, 4, 6, 8], [0.5, 0.4, 0.7, 1.01], 10)
    assert x == (0, 2, 6, 8)
    assert y == (0, 0.5, 0.7, 1.01)
    metric = through_points((x, y), 10)
    assert metric[[0, 2, 6, 8, 10]] == pytest.approx([0, 0.5, 0.7, 1, 1])
    assert np.all(np.diff(metric) >= 0)


def test_monotone_cubic_is_monotone_and_exact_on_lines() -> None:
    x = np.array([0, 1, 3, 4, 9.0])
    assert monotone_cubic(x, 2 * x + 1, np.linspace(0, 9, 50)) == pytest.approx(2 * np.linspace(0, 9, 50) + 1)
    y = np.array([0, 0.9, 0.91, 0.911, 1.0])
    curve = monotone_cubic(x, y, np.linspace(0, 9, 500))
    assert np.all(np.diff(curve) >= 0)
    assert monotone_cubic(x, y, x) == pytest.approx(y)
    assert monotone_cubic([0, 2], [1, 5], [0.5]) == pytest.approx([2])


def test_bayesian_rank_finds_the_signal() -> None:
    rng = np.random.default_rng(1)
    for rank in (3, 10):
        signal = rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 100))
        values = np.linalg.svd(signal + 0.5 * rng.normal(size=(60, 100)), compute_uv=False)
        assert vbmf_rank(values, 60, 100) == rank == vbmf_rank(values, 100, 60)
    assert vbmf_rank(np.zeros(5), 5, 5) == 1


def test_points_to_measure_are_those_of_the_paper() -> None:
    assert points_to_measure(109, 192) == (19, 23, 27, 54)
    assert points_to_measure(2, 20) == (2,)
    assert points_to_measure(400, 100) == (10, 55)
