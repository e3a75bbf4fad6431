"""Budgets: each is met, more bits never give more error, and what cannot be met says what can."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

import nncodec
from nncodec import allocate
from nncodec.codecs import Trellis, Uniform
from nncodec.codecs.base import LossyCodec, Part, Setting

OVERHEAD = 4000


def tensor(rows: int, columns: int, scale: float, seed: int) -> Part:
    x = (np.random.default_rng(seed).standard_t(4, (rows, columns)) * scale).astype(np.float32)
    return Part(2, (x.shape,), x.reshape(-1).view(np.uint8), (f"t{seed}",))


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    return [tensor(100, 90, 0.05, 0), tensor(200, 150, 0.02, 1), tensor(64, 64, 1.0, 2)]


def solve(
    parts: list[Part], kind: str, value: float, importance: list[NDArray[np.float32] | None] | None = None
) -> list[Setting]:
    codec: LossyCodec = Uniform()
    elements = sum(p.data.size // 4 for p in parts)
    return allocate.settings(
        [(codec, p) for p in parts],
        budget=(kind, value),
        importance=importance or [None] * len(parts),
        overhead_bits=OVERHEAD,
        total_elements=elements,
        total_bytes=4 * elements,
        threads=1,
    )


def outcome(parts: list[Part], found: list[Setting]) -> dict[str, float]:
    """What the real bytes of these settings give."""
    elements = sum(p.data.size // 4 for p in parts)
    bits = OVERHEAD + sum(
        8 * (len(e.model) + sum(map(len, e.chunks))) for e in Uniform().encode(parts, found, 1)
    )
    error = sum(t.squared_error for t in Uniform().trial(parts, found, 1))
    energy = sum(float((p.data.view(np.float32).astype(float) ** 2).sum()) for p in parts)
    return {
        "step": found[0].step,
        "rel_mse": error / energy,
        "snr_db": -10 * math.log10(error / energy),
        "bits_per_weight": bits / elements,
        "ratio": 32 * elements / bits,
    }


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("step", 0.03),
        ("snr_db", 3.0),
        ("snr_db", 16.0),
        ("snr_db", 40.0),
        ("snr_db", 90.0),
        ("rel_mse", 0.2),
        ("rel_mse", 1e-3),
        ("bits_per_weight", 0.4),
        ("bits_per_weight", 3.0),
        ("bits_per_weight", 9.0),
        ("ratio", 40.0),
        ("ratio", 8.0),
    ],
)
def test_budgets_are_met(parts: list[Part], kind: str, value: float) -> None:
    got = outcome(parts, solve(parts, kind, value))[kind]
    if kind == "snr_db":
        assert got == pytest.approx(value, abs=0.02)
    else:
        assert got == pytest.approx(value, rel=5e-3)


def test_more_bits_never_give_more_error(parts: list[Part]) -> None:
    results = [outcome(parts, solve(parts, "bits_per_weight", b)) for b in np.geomspace(0.5, 8, 50)]
    errors = [r["rel_mse"] for r in results]
    assert errors == sorted(errors, reverse=True)


def test_all_tensors_share_a_step_and_importance_divides_it(parts: list[Part]) -> None:
    assert len({s.step for s in solve(parts, "snr_db", 20.0)}) == 1
    weights = [np.full(p.data.size // 4, w, np.float32) for p, w in zip(parts, (1, 16, 4), strict=True)]
    steps = [s.step for s in solve(parts, "snr_db", 20.0, list(weights))]
    assert [steps[0] / s for s in steps] == [1, 4, 2]


def test_more_important_tensors_err_less(parts: list[Part]) -> None:
    weights = [np.full(p.data.size // 4, w, np.float32) for p, w in zip(parts, (1, 30, 1), strict=True)]
    plain = solve(parts, "bits_per_weight", 3.0)
    weighted = solve(parts, "bits_per_weight", 3.0, list(weights))
    before, after = (
        [t.squared_error for t in Uniform().trial(parts, [Setting(s.step) for s in found], 1)]
        for found in (plain, weighted)
    )
    assert after[1] < 0.5 * before[1]
    assert after[0] > before[0]


@pytest.mark.parametrize(
    ("kind", "value", "match"),
    [
        ("bits", 3, "unknown: one of"),
        ("snr_db", math.nan, "finite"),
        ("snr_db", -1.0, "positive"),
        ("rel_mse", 0.0, "positive"),
        ("rel_mse", 1.5, "below 1"),
        ("ratio", 0, "positive"),
    ],
)
def test_what_is_no_budget(parts: list[Part], kind: str, value: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        solve(parts, kind, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("bits_per_weight", 0.02), ("bits_per_weight", 40.0), ("ratio", 1e5), ("snr_db", 300.0)],
)
def test_what_cannot_be_met_says_what_can(parts: list[Part], kind: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{kind}=\S+ cannot be met: \S+ to \S+ can"):
        solve(parts, kind, value)


@pytest.mark.parametrize("codec", ["uniform", "trellis", "lowrank"])
def test_a_codec_is_asked_for_no_step_that_it_refuses(codec: str) -> None:
    rng = np.random.default_rng(3)
    sparse = rng.standard_normal((64, 64)) * (rng.random((64, 64)) < 0.05)
    for weights, budget in [
        (sparse, {"ratio": 4}),
        (np.zeros((64, 64)), {"ratio": 8}),
        (rng.standard_normal((64, 64)), {"snr_db": 300}),
    ]:
        with pytest.raises(ValueError, match=r"cannot be met: \S+ to \S+ can"):
            nncodec.encode({"w": weights.astype(np.float32)}, codec, **budget)


def test_a_step_is_shown_with_its_digits() -> None:
    with pytest.raises(ValueError, match=r"step 1e-09 is too small for a magnitude of 3e\+20"):
        nncodec.encode({"w": np.full((4, 4), 3e20, np.float32)}, "uniform", step=1e-9)


def test_bad_tensors_and_weights_are_named(parts: list[Part]) -> None:
    bad = tensor(4, 4, 1.0, 3)
    bad.data.view(np.float32)[5] = np.nan
    with pytest.raises(ValueError, match="'t3' has 1 NaN"):
        solve([*parts, bad], "snr_db", 10.0)
    for weights, match in [
        (np.ones(3, np.float32), "float32 with 16 elements"),
        (np.full(16, -1, np.float32), "finite and at least 0"),
        (np.full(16, np.inf, np.float32), "finite and at least 0"),
    ]:
        with pytest.raises(ValueError, match=match):
            solve([tensor(4, 4, 1.0, 4)], "snr_db", 10.0, [weights])


def test_zeros_and_nothing() -> None:
    zero = Part(2, ((3, 3),), np.zeros(36, np.uint8), ("z",))
    assert solve([zero], "snr_db", 10.0)[0].step > 0
    assert solve([], "snr_db", 10.0) == []


def test_sizes_that_leap_are_met_and_monotone() -> None:
    """Few weights, low rates: the alphabet of the trellis changes, and sizes scatter by more than they may miss."""
    x = np.random.default_rng(1).standard_t(3, (100, 200)).astype(np.float32)
    errors = []
    for bits in np.geomspace(0.7, 3, 50):
        blob = nncodec.encode({"w": x}, Trellis(8), bits_per_weight=bits)
        assert 8 * len(blob) / x.size == pytest.approx(bits, rel=5e-3)
        errors.append(float(((nncodec.decode(blob)["w"] - x) ** 2).sum()))
    # What half a per cent of the size is worth.
    assert all(later < 1.005 * earlier for earlier, later in pairwise(errors))


@pytest.mark.parametrize("draw", ["laplace", "standard_normal"])
def test_some_hundred_bytes_are_met(draw: str) -> None:
    x = getattr(np.random.default_rng(0), draw)(size=(64, 64)).astype(np.float32)
    for bits in np.geomspace(0.7, 3, 8):
        blob = nncodec.encode({"w": x}, Trellis(8), bits_per_weight=bits)
        assert 8 * len(blob) / x.size == pytest.approx(bits, rel=5e-3)


def test_a_search_from_far_does_not_overshoot(parts: list[Part]) -> None:
    """Where a few rows have nearly all importance, the first guess is far too coarse."""
    rng = np.random.default_rng(0)
    weights: list[NDArray[np.float32] | None] = []
    for part in parts:
        rows, columns = part.shapes[0]
        heavy = np.exp(4 * rng.standard_normal((rows, 1))).astype(np.float32)
        weights.append(np.broadcast_to(heavy, (rows, columns)).reshape(-1).copy())
    codec: LossyCodec = Trellis(8)
    elements = sum(p.data.size // 4 for p in parts)
    found = allocate.settings(
        [(codec, p) for p in parts],
        budget=("bits_per_weight", 3.0),
        importance=weights,
        overhead_bits=OVERHEAD,
        total_elements=elements,
        total_bytes=4 * elements,
        threads=1,
    )
    bits = OVERHEAD + sum(8 * (len(e.model) + sum(map(len, e.chunks))) for e in codec.encode(parts, found, 1))
    assert bits / elements == pytest.approx(3.0, rel=5e-3)
