"""Error feedback: the twin's levels on every instruction set, and less output error than without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference import feedback as twin

LAMBDA = 24227


@pytest.fixture(autouse=True)
def _restore_isa() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


def lower(rng: np.random.Generator, n: int, size: float) -> NDArray[np.float32]:
    return np.tril(rng.standard_normal((n, n)) * size, -1).astype(np.float32)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    groups = draw(st.sampled_from([0, 1, 1, 2, 3]))
    rows = draw(st.integers(1, 14)) * max(groups, 1)
    columns = draw(st.integers(1, 6)) if rows > 6 else draw(st.sampled_from([1, 3, 40]))
    contexts = draw(st.integers(1, 3))
    radius = draw(st.sampled_from([3, 8, 40]))
    ends = sorted({*rng.integers(1, rows + 1, draw(st.integers(0, 3))).tolist(), rows})
    reach = draw(st.sampled_from([None, 0, 2]))
    return {
        "weights": (rng.standard_normal((rows, columns)) * draw(st.sampled_from([0.3, 2.0, 9.0]))).astype(
            np.float32
        ),
        "strands": ends,
        "input": np.stack([lower(rng, columns, 0.4) for _ in range(groups)]) if groups else None,
        "output": lower(rng, rows, 0.4) if draw(st.booleans()) else None,
        # Few distinct costs make ties; great ones make the best path change its mind.
        "costs": rng.integers(0, draw(st.sampled_from([1, 4000, 65536])), (contexts, 2, 2 * radius + 1)),
        "radius": radius,
        "contexts": rng.integers(0, contexts, (rows, columns)).astype(np.uint8),
        "offsets": None if reach is None else rng.integers(-60, 60, (contexts, 2, 2 * reach + 1)),
        "reach": reach or 0,
        "delay": draw(st.sampled_from([0, 2, 5, 100])),
        "states": draw(st.sampled_from([8, 16, 64])),
        "alphabet": draw(st.sampled_from(["plain", "both_zero"])),
    }


def run(p: dict[str, Any], threads: int = 1) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    levels, targets = np.empty(p["weights"].shape, np.int16), np.empty(p["weights"].shape, np.float32)
    _core.feedback_quantise(
        p["weights"],
        levels,
        targets,
        *p["weights"].shape,
        p["strands"],
        p["input"],
        p["output"],
        p["costs"].astype(np.uint16),
        len(p["costs"]),
        p["radius"],
        p["states"],
        p["alphabet"],
        LAMBDA,
        None if p["offsets"] is None else p["offsets"].astype(np.int16),
        p["reach"],
        p["contexts"],
        p["delay"],
        threads,
    )
    return levels, targets


@settings(max_examples=60, deadline=None)
@given(problems())
def test_every_isa_chooses_the_levels_of_the_twin(p: dict[str, Any]) -> None:
    levels, targets = twin.quantise(
        p["weights"].tolist(),
        p["strands"],
        [] if p["input"] is None else p["input"].tolist(),
        None if p["output"] is None else p["output"].tolist(),
        p["costs"].tolist(),
        LAMBDA,
        p["delay"],
        p["states"],
        p["alphabet"],
        p["contexts"].tolist(),
        None if p["offsets"] is None else p["offsets"].tolist(),
    )
    for isa in _core.supported_isas():
        _core.force_isa(isa)
        found = run(p, threads=2)
        assert found[0].tolist() == levels
        assert found[1].tolist() == targets


@pytest.mark.parametrize("states", [8, 32, 256, 1024])
def test_without_feedback_and_with_time_enough_the_path_is_the_best(states: int) -> None:
    rng = np.random.default_rng(states)
    x = (3 * rng.standard_normal((700, 1))).astype(np.float32)
    costs = rng.integers(0, 3000, (1, 2, 41)).astype(np.uint16)
    problem = {
        "weights": x, "strands": [350, 700], "input": None, "output": None, "costs": costs, "radius": 20,
        "contexts": None, "offsets": None, "reach": 0, "delay": 400, "states": states, "alphabet": "plain",
    }  # fmt: skip
    expected = np.empty((350, 2), np.int16)  # the quantiser's lanes take turns
    in_turns = np.ascontiguousarray(x.reshape(2, 350).T)
    _core.TrellisQuantiser(costs, 1, 20, states).quantise(in_turns, expected, 1.0, 2)
    assert np.array_equal(run(problem)[0].ravel(), expected.T.ravel())


def values_of(levels: NDArray[np.int16], strands: list[int], states: int) -> NDArray[np.float32]:
    """What a decoder makes of levels of the plain alphabet, in steps."""
    values = np.empty(levels.shape, np.float32)
    first = 0
    for end in strands:
        scan = np.ascontiguousarray(levels[first:end].T).reshape(-1)
        out = np.empty(scan.size, np.float32)
        _core.trellis_dequantise(scan, out, 1.0, states, lanes=1)
        values[first:end] = out.reshape(levels.shape[1], -1).T
        first = end
    return values


def roots(seed: int, rows: int, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    sides = []
    for n in (columns, rows):
        x = rng.standard_normal((4 * n, n)) @ (np.eye(n) + 0.5 * rng.standard_normal((n, 1)))
        root = x.T @ x / len(x)
        _core.lower_root(root, n)
        sides.append(root)
    return sides[0], sides[1]


def test_output_error_is_least_with_both_sides() -> None:
    rows, columns, strands = 128, 48, [64, 128]
    input_root, output_root = roots(3, rows, columns)
    rng = np.random.default_rng(0)
    steps = 1 / np.diagonal(input_root), 1 / np.diagonal(output_root)
    triangle = [
        np.tril(root, -1) / np.diagonal(root)[:, None] * step / step[:, None]
        for root, step in zip((input_root, output_root), steps, strict=True)
    ]
    in_steps = [np.ascontiguousarray(t, np.float32) for t in triangle]
    w = (4 * rng.standard_normal((rows, columns))).astype(np.float32)

    def output_error(input_: Any, output: Any) -> float:
        levels = np.empty(w.shape, np.int16)
        _core.feedback_levels(w, levels, rows, columns, strands, input_, output, 16, "plain")
        error = (w - values_of(levels, strands, 16)) * steps[1][:, None] * steps[0]
        return float(((output_root @ error @ input_root.T) ** 2).sum())

    plain, one, both = output_error(None, None), output_error(in_steps[0], None), output_error(*in_steps)
    assert both < 0.8 * one
    assert one < 0.8 * plain


def test_the_squared_error_is_that_of_the_targets() -> None:
    w = np.random.default_rng(5).standard_normal((40, 30)).astype(np.float32) * 3
    levels = np.empty(w.shape, np.int16)
    error = _core.feedback_levels(w, levels, 40, 30, [40], None, None, 8, "plain")
    assert error == pytest.approx(float(((w - values_of(levels, [40], 8)) ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strands": [3]}, "last strand"),
        ({"strands": [2, 2, 4]}, "rising"),
        ({"input": np.zeros((1, 2, 2), np.float32)}, "input"),
        ({"output": np.zeros((3, 3), np.float32)}, "output"),
        ({"costs": np.zeros((1, 2, 7))}, "costs"),
        ({"contexts": np.full((4, 3), 9, np.uint8)}, "context 9"),
        ({"weights": np.full((4, 3), np.nan, np.float32)}, "finite"),
        ({"states": 12}, "states"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    good = {
        "weights": np.ones((4, 3), np.float32), "strands": [4], "input": None, "output": None,
        "costs": np.zeros((1, 2, 17)), "radius": 8, "contexts": None, "offsets": None, "reach": 0, "delay": 3,
        "states": 8, "alphabet": "plain",
    }  # fmt: skip
    run(good)
    with pytest.raises(ValueError, match=message):
        run(good | change)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32))
def test_root_is_the_twins(n: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((2 * n, n))
    moment = x.T @ x + 0.1 * np.eye(n)
    root = moment.copy()
    _core.lower_root(root, n)
    # Subtractions of finished rows come in the same order, from the last row up.
    assert root.tolist() == twin.lower_root(moment.tolist())
    assert np.allclose(root.T @ root, moment)


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), -np.eye(2), np.full((2, 2), np.nan)])
def test_no_root_of_what_is_not_positive(bad: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="positive definite"):
        _core.lower_root(bad.copy(), 2)
    with pytest.raises(ValueError, match="positive definite"):
        twin.lower_root(bad.tolist())
