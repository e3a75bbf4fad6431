"""Estimators of mutual information: closed forms, bounds, invariances, bad arguments."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec.information import EBAB, AdaptiveKDE, Binning, Estimator, FixedKDE

N = 4096
ALL = [Binning(), Binning(width=0.07), EBAB(), FixedKDE(), AdaptiveKDE(), AdaptiveKDE(rule="deviation")]


def bits_of(n: int) -> NDArray[np.float64]:
    """All patterns of n bits, one a row."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_one_to_one_activations_tell_all(estimator: Estimator) -> None:
    patterns = bits_of(12)
    labels = (patterns.sum(axis=1) >= 6).astype(int)
    found = estimator.estimate(2 * patterns - 1, labels)
    share = labels.mean()
    label_entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    assert found.i_xt == pytest.approx(12, abs=1e-6)
    assert found.i_ty == pytest.approx(label_entropy, abs=1e-6)
    assert found.saturated


@pytest.mark.parametrize("estimator", ALL, ids=repr)
@pytest.mark.parametrize("value", [0.0, -3.5, 1e6])
def test_constant_activations_tell_nothing(estimator: Estimator, value: float) -> None:
    found = estimator.estimate(np.full((100, 3), value), np.arange(100) % 2)
    assert (found.i_xt, found.i_ty) == pytest.approx((0, 0), abs=1e-9)
    assert not found.saturated


@pytest.mark.parametrize(
    "estimator", [Binning(bins=4, low=0, high=4), EBAB(bins=4), FixedKDE(1e-2)], ids=repr
)
def test_discrete_channel(estimator: Estimator) -> None:
    """Y of 4 symbols, seen as another one in a share of the cases: I = 2 - H(error) - error log2(3)."""
    counts = (
        np.full((4, 4), 64) + np.eye(4, dtype=int) * 768
    )  # 4096 samples, shares exactly those of the channel
    y, t = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices((4, 4)))
    error = 3 * 64 / 1024
    expected = 2 + (1 - error) * np.log2(1 - error) + error * np.log2(error / 3)
    found = estimator.estimate(t.astype(float), y, inputs=t)
    assert found.i_ty == pytest.approx(expected, abs=1e-6)
    assert found.i_xt == pytest.approx(2, abs=1e-6)


@pytest.mark.parametrize("ratio", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_bounds_hold_a_gaussian_channel(ratio: float, d: int) -> None:
    """T = X + noise: I = d/2 log2(1 + s^2 / sigma^2) lies between the two bounds."""
    x = np.random.default_rng(d).normal(0, np.sqrt(ratio), (N, d))
    found = FixedKDE(1.0).estimate(x)
    assert found.i_xt_lower is not None
    assert found.i_xt_lower <= d / 2 * np.log2(1 + ratio) <= found.i_xt
    assert found.i_xt_lower < found.i_xt


def test_gaussian_channel_within_five_hundredths() -> None:
    """The upper bound is exact where few noises overlap... and where all do: weak signals."""
    for ratio in (0.01, 0.03):
        x = np.random.default_rng(1).normal(0, np.sqrt(ratio), (N, 1))
        assert FixedKDE(1.0).estimate(x).i_xt == pytest.approx(0.5 * np.log2(1 + ratio), abs=0.05)


def test_density_estimate_of_a_label_in_noise() -> None:
    """Y = ±1 in noise of variance 1/4: I(T;Y) by integration."""
    rng = np.random.default_rng(4)
    y = np.arange(N) % 2
    t = (2 * y - 1) + rng.normal(0, 0.5, N)
    sigma = 0.1
    grid = np.linspace(-6, 6, 20001)
    variance = 0.25 + sigma**2
    each = [np.exp(-((grid - m) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance) for m in (-1, 1)]
    step = grid[1] - grid[0]

    def entropy(p: NDArray[np.float64]) -> float:
        return float(-(p * np.log2(np.maximum(p, 1e-300))).sum() * step)

    expected = entropy((each[0] + each[1]) / 2) - entropy(each[0])
    assert FixedKDE(sigma**2).estimate(t[:, None], y).i_ty == pytest.approx(expected, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.exp, np.tanh, lambda v: 5 * v - 2, lambda v: v**3]))
def test_ebab_does_not_see_increasing_functions(seed: int, function: object) -> None:
    rng = np.random.default_rng(seed)
    t = np.maximum(rng.normal(0, 1, (300, 3)).round(3), -0.5)  # ties, and many at the bottom
    y = rng.integers(0, 3, 300)
    mapped = function(t)  # type: ignore[operator]
    assert EBAB().estimate(mapped, y) == EBAB().estimate(t, y)
    low = float(function(np.float64(-0.5)))  # type: ignore[operator]
    assert EBAB(low=low).estimate(mapped, y) == EBAB(low=-0.5).estimate(t, y)


def test_plain_bins_do_see_them() -> None:
    t = np.random.default_rng(1).normal(0, 0.3, (N, 3))
    plain, wide = Binning().estimate(t), Binning().estimate(t / 100)
    assert wide.i_xt < plain.i_xt - 5
    assert EBAB().estimate(t / 100).i_xt == EBAB().estimate(t).i_xt


def direct(t: NDArray[np.float64], y: NDArray[Any], variance: float) -> list[float]:
    """Both bounds on I(X;T) and I(T;Y) from the entropies themselves, no terms cancelled."""
    d = t.shape[1]

    def upper(rows: NDArray[np.float64], v: float = variance) -> float:
        distance = ((rows[:, None] - rows[None]) ** 2).sum(axis=-1)
        density = np.exp(-distance / (2 * v)).mean(axis=1) / (2 * np.pi * v) ** (d / 2)
        return float(d / 2 - np.log(density).mean())

    def lower(rows: NDArray[np.float64]) -> float:
        return upper(rows, 4 * variance) + d / 2 * np.log(1 / 4)

    noise = d / 2 * (np.log(2 * np.pi * variance) + 1)
    shares = {label: float((y == label).mean()) for label in np.unique(y)}
    found = []
    for entropy in (upper, lower):
        of_labels = sum(share * entropy(t[y == label]) for label, share in shares.items())
        found += [entropy(t) - noise, entropy(t) - of_labels]
    return [value / np.log(2) for value in found]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([1e-3, 0.1, 10.0]), st.booleans())
def test_densities_as_their_definition_says(seed: int, d: int, scale: float, far: bool) -> None:
    """Also where groups of samples are so far apart that binary32 could not tell samples within one apart."""
    rng = np.random.default_rng(seed)
    t, y = rng.normal(size=(80, d)), rng.integers(0, 3, 80)
    if far:
        t += 1e7 * rng.integers(-1, 2, (80, d))
    variance = scale * (1.0 if far else float(np.abs(t).max()))
    found = (FixedKDE(variance) if far else AdaptiveKDE(scale)).estimate(t, y)
    assert (found.i_xt, found.i_ty, found.i_xt_lower, found.i_ty_lower) == pytest.approx(
        direct(t, y, variance), abs=1e-4
    )


def test_ebab_as_its_definition_says() -> None:
    rng = np.random.default_rng(8)
    for low in (None, 0.0):
        t, y = (
            np.maximum(rng.normal(size=(200, 2)).round(2), -np.inf if low is None else 0),
            rng.integers(0, 2, 200),
        )
        least = float(t.min()) if low is None else low
        values = sorted({float(v) for v in t.ravel() if v > least})
        borders = [least, *(values[k * len(values) // 30] for k in range(30))]
        words = [tuple(sum(v >= b for b in borders) for v in row) for row in t]

        def entropy(of: list[Any]) -> float:
            shares = np.array(list(Counter(of).values())) / len(of)
            return float(-(shares * np.log2(shares)).sum())

        given = sum(
            (y == c).mean() * entropy([w for w, label in zip(words, y, strict=True) if label == c])
            for c in (0, 1)
        )
        found = EBAB(low=low).estimate(t, y)
        assert (found.i_xt, found.i_ty) == pytest.approx((entropy(words), entropy(words) - given), abs=1e-9)


def test_gaussian_channel_of_the_specification() -> None:
    """d = 2, s^2 / sigma^2 = 10: 2.83 <= 3.46 <= 4.75 bits."""
    found = FixedKDE(1.0).estimate(np.random.default_rng(2).normal(0, np.sqrt(10), (N, 2)))
    assert found.i_xt_lower == pytest.approx(2.83, abs=0.03)
    assert np.log2(1 + 10) == pytest.approx(3.46, abs=0.005)
    assert found.i_xt == pytest.approx(4.75, abs=0.03)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_lower_bounds_are_lower(estimator: Estimator) -> None:
    for seed in range(5):
        found = estimator.estimate(np.random.default_rng(seed).standard_cauchy((300, 2)))
        if found.i_xt_lower is not None:
            assert 0 <= found.i_xt_lower <= found.i_xt


@pytest.mark.parametrize("rule", ["deviation", "rms"])
@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e200, 1e300])
def test_scale_free_at_any_scale(rule: str, scale: float) -> None:
    t = np.random.default_rng(2).normal(0, 1, (200, 2))
    estimator = AdaptiveKDE(0.1, rule=rule)  # type: ignore[arg-type]
    assert estimator.estimate(t * scale).i_xt == pytest.approx(estimator.estimate(t).i_xt, abs=1e-5)


@pytest.mark.parametrize("rule", ["deviation", "rms"])
def test_scale_free_densities(rule: str) -> None:
    rng = np.random.default_rng(2)
    t, y = rng.normal(0, 1, (500, 4)), rng.integers(0, 2, 500)
    estimator = AdaptiveKDE(0.3, rule=rule)  # type: ignore[arg-type]
    a, b = estimator.estimate(t, y), estimator.estimate(1000 * t, y)
    assert a.i_xt == pytest.approx(b.i_xt, abs=1e-5)
    assert a.i_ty == pytest.approx(b.i_ty, abs=1e-5)
    paper = AdaptiveKDE(0.3)
    assert paper.estimate(t).i_xt != pytest.approx(paper.estimate(1000 * t).i_xt, abs=0.1)
    assert paper.noise_variance(t) == pytest.approx(0.3 * np.abs(t).max())


@pytest.mark.parametrize("n_values", [31, 100, 1000, 4096])
def test_ebab_bins_hold_equally_many_values(n_values: int) -> None:
    values = np.sort(np.random.default_rng(n_values).normal(size=n_values))
    borders = EBAB(bins=30).borders(np.repeat(values, 2).reshape(-1, 2))
    counts = np.diff(np.append(np.searchsorted(values, borders[1:]), n_values))
    assert len(counts) == 30
    assert counts.max() - counts.min() <= 1


def test_relu_zeros_have_their_own_bin() -> None:
    t = np.maximum(np.random.default_rng(3).normal(size=(1000, 1)), 0)
    borders = EBAB(low=0.0).borders(t)
    assert borders[0] == 0
    assert borders[1] == t[t > 0].min()


def test_dead_layers_and_few_values() -> None:
    assert EBAB(low=0.0).estimate(np.zeros((50, 4))).i_xt == 0
    assert len(EBAB(bins=30).borders(np.array([[1.0], [2.0], [3.0]]))) == 3
    assert EBAB().estimate(np.zeros((10, 0))).i_xt == 0
    assert AdaptiveKDE().estimate(np.zeros((10, 0)), np.zeros(10, int)).i_ty == 0


def test_repeated_inputs_are_one_input() -> None:
    """A noisy layer: of its entropy, what differs between runs of one input tells nothing of the input."""
    inputs = np.repeat(bits_of(3), 2, axis=0)
    t = np.arange(16.0)[:, None]
    assert EBAB(bins=16).estimate(t).i_xt == 4
    assert EBAB(bins=16).estimate(t, inputs=inputs).i_xt == 3
    for found in (FixedKDE(1e-6).estimate(t), FixedKDE(1e-6).estimate(t, inputs=np.arange(16))):
        assert found.i_xt == pytest.approx(4, abs=1e-6)
    noisy = FixedKDE(1e-6).estimate(t, np.arange(16) % 2, inputs=inputs)
    assert (noisy.i_xt, noisy.i_xt_lower, noisy.i_ty) == pytest.approx((3, 3, 1), abs=1e-6)
    assert noisy.saturated


def test_estimates_from_torch() -> None:
    torch = pytest.importorskip("torch")
    t = np.random.default_rng(5).normal(size=(64, 2, 3)).astype(np.float32)
    y = np.arange(64) % 4
    for estimator in ALL:
        ours = estimator.estimate(t, y)
        assert estimator.estimate(torch.from_numpy(t).requires_grad_(), torch.from_numpy(y)) == ours
    for kind in (torch.bfloat16, torch.float16, torch.float8_e4m3fn):
        assert EBAB().estimate(torch.tensor([[1.0], [2.0]]).to(kind)).i_xt == 1


def test_estimates_from_small_floats_of_numpy() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert EBAB().estimate(np.array([[1.0], [2.0]], ml_dtypes.bfloat16)).i_xt == 1


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_labels_of_any_kind(estimator: Estimator) -> None:
    t = np.random.default_rng(6).normal(size=(60, 2))
    y = np.arange(60) % 3
    expected = estimator.estimate(t, y).i_ty
    for labels in (
        y.tolist(),
        y / 2,
        y.astype(str),
        [f"class {k}" for k in y],
        np.eye(3)[y],
        y[:, None] > [0, 1],
    ):
        assert estimator.estimate(t, labels).i_ty == pytest.approx(expected, abs=1e-9)


def test_negative_zero_is_zero() -> None:
    """Inputs are told apart as rows; the two zeros are one number."""
    inputs = np.array([[0.0, 1.0], [-0.0, 1.0]])
    assert EBAB(bins=2).estimate(np.array([[1.0], [2.0]]), inputs=inputs).i_xt == 0


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ((np.zeros((0, 3)),), "at least one sample"),
        ((np.array([[np.nan], [1.0], [np.inf]]),), "2 NaN or infinite"),
        ((np.zeros((4, 1)), np.zeros(3)), "one entry per sample"),
        ((np.float64(3),), "at least one sample"),
        ((np.zeros((2, 1)), [0.0, np.nan]), "labels hold 1 NaN"),
    ],
)
def test_bad_arguments(arguments: tuple[object, ...], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        EBAB().estimate(*arguments)


def test_more_bins_than_values() -> None:
    """As many bins as there are values, whatever was asked for."""
    t = np.random.default_rng(0).standard_normal((64, 2))
    assert EBAB(bins=10**12).estimate(t) == EBAB(bins=t.size).estimate(t)
    assert EBAB(bins=10**12).borders(t).size == t.size


def test_bad_options() -> None:
    for make in (
        lambda: EBAB(bins=0), lambda: Binning(bins=0), lambda: Binning(width=0), lambda: Binning(low=1, high=1),
        lambda: FixedKDE(0), lambda: AdaptiveKDE(-1), lambda: AdaptiveKDE(rule="median"),  # type: ignore[arg-type]
        lambda: EBAB(low=np.nan), lambda: EBAB(low=-np.inf), lambda: Binning(low=-np.inf),
        lambda: Binning(bins=1 << 40),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            make()
    with pytest.raises(TypeError, match="real numbers"):
        EBAB().estimate(np.array([["a"]]))
    with pytest.raises(ValueError, match="too large for noise"):
        FixedKDE().estimate(np.array([[1.7e308], [1.7e308], [-1.7e308]]))
    with pytest.raises(ValueError, match="too large for noise"):
        FixedKDE(1e-300).estimate(np.array([[1e200], [0.0]]))
