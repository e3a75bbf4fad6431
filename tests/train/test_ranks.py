"""Searches for ranks, held to the published tables of ENC and to brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

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

# ResNet-56 on CIFAR-10, stage 1, layers 1 to 12: singular values and ranks at half the operations (ENC-Map), likewise.
SPECTRA = """
.9345 .8546 .7930 .4631 .4357 .4007 .2806 .2514 .1960 .1795 .1614 .1497 .1365 .1214 .1074 .0909 .0812 .0655 .0548 .0476 .0174 .0001 .0001 .0000
.7913 .6550 .5894 .3475 .2792 .2311 .2018 .1739 .1710 .1354 .1098 .0937 .0874 .0840 .0665 .0596 .0448 .0406 .0345 .0270 .0141 .0002 .0001 .0000
.9554 .9118 .8055 .5980 .4980 .4074 .3839 .3463 .2682 .2596 .2349 .2231 .1966 .1841 .1640 .1356 .1306 .1168 .1096 .0966 .0882 .0851 .0685 .0602
.8515 .7442 .5421 .4855 .4466 .3501 .3159 .2876 .2630 .2361 .2149 .1766 .1713 .1622 .1404 .1374 .1239 .1209 .1057 .0841 .0719 .0648 .0627 .0575
.6014 .5477 .5005 .4351 .3931 .3246 .2934 .2474 .2292 .1821 .1702 .1538 .1458 .1118 .0958 .0916 .0796 .0682 .0599 .0547 .0470 .0428 .0405 .0307
.5826 .5625 .4614 .3224 .2477 .2164 .1869 .1769 .1567 .1369 .1142 .1024 .0934 .0888 .0802 .0687 .0594 .0503 .0492 .0414 .0354 .0325 .0310 .0229
.8634 .6036 .5701 .5468 .4597 .4239 .4045 .3476 .3019 .2973 .2484 .2469 .1993 .1773 .1735 .1465 .1312 .1138 .0977 .0932 .0785 .0710 .0639 .0577
.7847 .6070 .5293 .4651 .4200 .4002 .3765 .3209 .2751 .2564 .2312 .2223 .2048 .1802 .1667 .1555 .1229 .1153 .1036 .0839 .0784 .0708 .0575 .0533
.8126 .6083 .5840 .5237 .4705 .4451 .3959 .3669 .3291 .3254 .2888 .2549 .2416 .2251 .2064 .1826 .1787 .1576 .1430 .1228 .1061 .1010 .0930 .0900
.8323 .6384 .4737 .4585 .4290 .3654 .3372 .3131 .2868 .2725 .2346 .2007 .1737 .1617 .1531 .1390 .1248 .1184 .1008 .0847 .0832 .0821 .0748 .0698
.8475 .6518 .6380 .5958 .5138 .4721 .4169 .3669 .3468 .3406 .2784 .2321 .2264 .2059 .1881 .1667 .1472 .1377 .1162 .1122 .0961 .0878 .0843 .0800
.7023 .6359 .5805 .5412 .4155 .3702 .3009 .2913 .2701 .2511 .2067 .1991 .1825 .1701 .1618 .1401 .1284 .1227 .1047 .0960 .0859 .0701 .0632 .0567
"""  # noqa: E501
SHIPPED_56 = [9, 9, 12, 12, 11, 11, 12, 13, 14, 13, 13, 13]


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
    spectra = np.array([line.split() for line in SPECTRA.split("\n") if line], np.float64)

    def ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
        cost = np.arange(25.0)
        curves = [Curve(str(i), cost, pca_energy(v, 24), 2) for i, v in enumerate(values)]
        return np.array(equal_metric(curves, sum(SHIPPED_56)).choices)

    assert np.abs(ranks(spectra) - SHIPPED_56).max() <= 1
    assert np.mean(np.abs(ranks(spectra) - SHIPPED_56)) <= 0.34
    for values, rank in zip(spectra, SHIPPED_56, strict=True):  # at the common metric of the whole network
        assert abs(Curve("", np.arange(25.0), pca_energy(values, 24), 2).choice(0.761) - rank) <= 1
        assert Curve("", np.arange(25.0), pca_energy(values**2, 24), 2).choice(0.761) < rank - 2


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
