"""Trellis quantisation: every instruction set finds the twin's path; values are the twin's; gaps to R(D) hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference import trellis as twin

STATES = sorted(twin.CODES)
ALPHABETS = ["plain", "both_zero"]
LAMBDA = 24227  # 0.8 * 2 ln 2 / 3


@pytest.fixture(autouse=True)
def _restore_isa() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, object]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 90))
    contexts = draw(st.integers(1, 3))
    radius = draw(st.sampled_from([3, 4, 9, 40]))
    values = (rng.standard_normal(n) * draw(st.sampled_from([0.1, 1.0, 6.0, 1e4]))).astype(np.float32)
    odd = draw(st.lists(st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 3e38, 1e-45]), max_size=3))
    values[: len(odd)] = odd[:n]
    return {
        "values": values,
        "step": float(np.float32(draw(st.sampled_from([0.3, 0.5, 1.0, 2.7])))),
        "contexts": rng.integers(0, contexts, n).astype(np.uint8),
        # Few distinct costs make ties; the greatest make saturation.
        "costs": rng.integers(0, draw(st.sampled_from([1, 3, 4000, 65536])), (contexts, 2, 2 * radius + 1)),
        "radius": radius,
        "lanes": draw(st.sampled_from([1, 2, 3, 31, 32, 33, 64, 100])),
        "states": draw(st.sampled_from(STATES)),
        "alphabet": draw(st.sampled_from(ALPHABETS)),
        "lambda_": draw(st.sampled_from([0, 18171, LAMBDA, 1 << 20])),
    }


@settings(max_examples=60, deadline=None)
@given(problems())
def test_every_isa_finds_the_path_of_the_twin(p: dict) -> None:
    n_contexts = len(p["costs"])
    quantiser = _core.TrellisQuantiser(
        p["costs"].astype(np.uint16), n_contexts, p["radius"], p["states"], p["alphabet"], p["lambda_"]
    )
    kind = {"states": p["states"], "alphabet": p["alphabet"], "lanes": p["lanes"]}
    values, contexts = p["values"].tolist(), p["contexts"].tolist()
    expected = twin.quantise(values, p["step"], p["costs"].tolist(), p["lambda_"], **kind, contexts=contexts)
    for isa in _core.supported_isas():
        _core.force_isa(isa)
        levels = np.empty(len(values), np.int16)
        quantiser.quantise(p["values"], levels, p["step"], p["lanes"], p["contexts"])
        assert levels.tolist() == expected, isa

    statistics = _core.TrellisStatistics()
    statistics.add(p["values"], levels, p["step"], n_contexts, p["radius"], contexts=p["contexts"], **kind)
    counts, errors, squared = twin.accumulate(
        values, expected, p["step"], n_contexts, p["radius"], **kind, contexts=contexts
    )
    shape = p["costs"].shape
    assert np.reshape(statistics.counts, shape).tolist() == counts
    assert np.reshape(statistics.errors, shape).tolist() == errors
    assert statistics.squared_error == squared
    assert np.reshape(statistics.costs(n_contexts, p["radius"]), shape).tolist() == twin.costs_of(counts)
    reach = 2
    offsets = twin.centroids(counts, errors, reach)
    ours = np.array(statistics.centroids(n_contexts, p["radius"], reach), np.int16)
    assert ours.reshape(n_contexts, 2, -1).tolist() == offsets


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(st.integers(-32768, 32767) | st.integers(-3, 3), max_size=80),
    step=st.floats(2.0**-120, 2.0**100, width=32),
    states=st.sampled_from(STATES),
    alphabet=st.sampled_from(ALPHABETS),
    lanes=st.integers(1, 40),
    offsets=st.none() | st.lists(st.integers(-32768, 32767), min_size=20, max_size=20),
)
def test_values_are_those_of_the_twin(
    levels: list[int], step: float, states: int, alphabet: str, lanes: int, offsets: list[int] | None
) -> None:
    contexts = [i % 2 for i in range(len(levels))]
    table = None if offsets is None else np.array(offsets).reshape(2, 2, 5)
    expected = twin.dequantise(
        levels, step, states, alphabet, lanes, contexts, None if table is None else table.tolist()
    )
    out = np.empty(len(levels), np.float32)
    _core.trellis_dequantise(
        np.array(levels, np.int16),
        out,
        step,
        states,
        alphabet,
        lanes,
        np.array(contexts, np.uint8),
        None if table is None else table.astype(np.int16),
        2,
        2,
    )
    assert out.tolist() == expected


def _path_cost(levels: tuple[int, ...], values: NDArray[np.float32], states: int, alphabet: str) -> int:
    """Cost of any sequence of levels at step 1, with 256 * |level| / 256 bits a level and lambda = step^2."""
    state, cost = 0, 0
    for level, value in zip(levels, values, strict=True):
        distance = round(float(value) * 256) - 256 * twin.point_of(alphabet, state & 1, level)
        cost += (distance * distance >> 7) + 512 * abs(level)
        state = twin.next_state(states, state, level & 1)
    return cost


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize("states", [8, 16])
def test_no_sequence_of_levels_is_cheaper(states: int, alphabet: str) -> None:
    radius = 4
    costs = np.tile(256 * np.abs(np.arange(-radius, radius + 1)), (1, 2, 1)).astype(np.uint16)
    quantiser = _core.TrellisQuantiser(costs, 1, radius, states, alphabet, 1 << 16)
    rng = np.random.default_rng(states)
    for _ in range(4):
        values = rng.uniform(-3, 3, 5).astype(np.float32)
        levels = np.empty(5, np.int16)
        quantiser.quantise(values, levels, 1.0, 1)
        all_costs = (_path_cost(path, values, states, alphabet) for path in product(range(-2, 3), repeat=5))
        assert _path_cost(tuple(levels.tolist()), values, states, alphabet) == min(all_costs)


@pytest.mark.parametrize("states", STATES)
def test_codes_are_trellises(states: int) -> None:
    # Two ways into each state, and all states within log2(states) steps: what bounds the path metrics.
    ways_in = [0] * states
    for state in range(states):
        after = {twin.next_state(states, state, parity) for parity in (0, 1)}
        assert len(after) == 2
        for s in after:
            ways_in[s] += 1
    assert ways_in == [2] * states
    reached = {0}
    for _ in range(states.bit_length() - 1):
        reached = {twin.next_state(states, s, parity) for s in reached for parity in (0, 1)}
    assert len(reached) == states


def _entropy(counts: NDArray[np.float64]) -> float:
    """Bits of all levels under their own tables, one table per row."""
    sums = counts.sum(axis=1, keepdims=True)
    return float(-(counts * np.log2(np.where(counts > 0, counts, 1) / np.maximum(sums, 1))).sum())


def _gap(
    values: NDArray[np.float32], step: float, states: int, alphabet: str = "plain"
) -> tuple[float, float]:
    """Bits a value (ideal entropy coding) and squared error over variance, after five iterations."""
    radius = int(np.abs(values).max() / step / 2) + 4
    levels, out = np.empty(values.size, np.int16), np.empty_like(values)
    grid = np.arange(-radius, radius + 1)
    points = np.stack([np.array([twin.point_of(alphabet, u, int(q)) for q in grid]) for u in (0, 1)]) * step
    costs = np.minimum(points**2 / values.var() / 2 / math.log(2) * 256 + 256, 6000).astype(np.uint16)
    for _ in range(5):
        _core.TrellisQuantiser(costs, 1, radius, states, alphabet, LAMBDA).quantise(values, levels, step)
        statistics = _core.TrellisStatistics()
        statistics.add(values, levels, step, 1, radius, states, alphabet)
        costs = np.array(statistics.costs(1, radius), np.uint16)
    offsets = np.array(statistics.centroids(1, radius, 2), np.int16)
    _core.trellis_dequantise(levels, out, step, states, alphabet, 32, None, offsets, 2)
    bits = _entropy(np.reshape(statistics.counts, (2, -1)).astype(float)) / values.size
    return bits, float(np.mean((values.astype(float) - out) ** 2) / values.var())


@pytest.mark.parametrize(("states", "limit"), [(8, 0.080), (64, 0.050), (256, 0.037), (1024, 0.030)])
@pytest.mark.parametrize("step", [0.95, 0.24])
def test_gaussian_source_comes_close_to_shannon(step: float, states: int, limit: float) -> None:
    values = np.random.default_rng(3).standard_normal(1 << 17).astype(np.float32)
    bits, distortion = _gap(values, step, states)
    assert 0.9 < bits < 3.2
    assert bits + 0.5 * math.log2(distortion) < limit


def test_bad_arguments_are_named() -> None:
    costs = np.zeros((1, 2, 7), np.uint16)
    values, levels = np.zeros(4, np.float32), np.zeros(4, np.int16)
    with pytest.raises(ValueError, match="not 7"):
        _core.TrellisQuantiser(costs, 1, 3, 7)
    with pytest.raises(ValueError, match="costs has 14 entries, 28"):
        _core.TrellisQuantiser(costs, 2, 3)
    with pytest.raises(ValueError, match="radius 2"):
        _core.TrellisQuantiser(costs, 1, 2)
    quantiser = _core.TrellisQuantiser(costs, 1, 3)
    with pytest.raises(ValueError, match="step"):
        quantiser.quantise(values, levels, 0.0)
    with pytest.raises(ValueError, match="step"):
        quantiser.quantise(values, levels, math.nan)
    with pytest.raises(ValueError, match="lanes is 0"):
        quantiser.quantise(values, levels, 1.0, 0)
    with pytest.raises(ValueError, match="levels has 4"):
        quantiser.quantise(values[:3], levels, 1.0)
    with pytest.raises(ValueError, match="context 1 has no tables"):
        quantiser.quantise(values, levels, 1.0, 1, np.ones(4, np.uint8))
    with pytest.raises(ValueError, match="at most 65536"):
        quantiser.quantise(np.zeros(1 << 17, np.float32), np.zeros(1 << 17, np.int16), 1.0, 1)
    with pytest.raises(ValueError, match="beyond the radius"):
        _core.TrellisStatistics().add(values, levels + 9, 1.0, 1, 3)
    with pytest.raises(ValueError, match="offsets has 3 entries"):
        _core.trellis_dequantise(levels, values, 1.0, offsets=np.zeros(3, np.int16), reach=1)
