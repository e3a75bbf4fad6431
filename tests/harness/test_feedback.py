"""Feedback between weights costs no bits and lowers the error that counts."""

from __future__ import annotations

import numpy as np
import pytest
from bench.research.feedback import Factor, code_length, factor, quantise


def moment(n: int, seed: int) -> np.ndarray:
    """Strongly correlated, with a few large directions."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(4 * n, n)) @ (draw.normal(size=(n, n)) + 3 * np.eye(n)) * draw.lognormal(0, 1, n)
    return x.T @ x / len(x)


def cost(error: np.ndarray, outputs: np.ndarray, inputs: np.ndarray) -> float:
    return float(np.trace(outputs @ error @ inputs @ error.T))


@pytest.mark.parametrize("feedback", [False, True])
def test_factor_is_a_root(feedback: bool) -> None:
    wanted = moment(12, 0)
    side = factor(wanted, 0.1, feedback=feedback)
    damped = wanted + 0.1 * np.trace(wanted) / 12 * np.eye(12)
    if not feedback:
        np.testing.assert_allclose(side.diagonal**2, np.diagonal(damped))
        return
    root = side.diagonal[:, None] * side.unit
    np.testing.assert_allclose(root.T @ root, damped[np.ix_(side.permutation, side.permutation)])
    assert (np.diff(np.diagonal(wanted)[side.permutation]) >= 0).all()


def test_no_moments_is_plain_rounding() -> None:
    w = np.random.default_rng(1).normal(size=(7, 9))
    got = quantise(w, factor(np.ones(7), 0), factor(np.eye(9), 0), 0.25)
    np.testing.assert_array_equal(got.levels, np.rint(w / 0.25))
    np.testing.assert_allclose(got.values, got.levels * 0.25)


def test_what_remains_of_each_weight_is_at_most_half_a_step() -> None:
    """The promise of successive cancellation: |S D R^T| <= step / 2 everywhere."""
    outputs, inputs = moment(10, 2), moment(14, 3)
    w = np.random.default_rng(4).normal(size=(10, 14))
    rows, columns = factor(outputs, 0), factor(inputs, 0)
    error = (w - quantise(w, rows, columns, 0.3).values)[np.ix_(rows.permutation, columns.permutation)]
    roots = [side.diagonal[:, None] * side.unit for side in (rows, columns)]
    assert np.abs(roots[0] @ error @ roots[1].T).max() <= 0.15 * (1 + 1e-4)


def test_each_side_of_feedback_helps_at_equal_size() -> None:
    outputs, inputs = moment(40, 5), moment(60, 6)
    w = np.random.default_rng(7).normal(size=(40, 60))

    def at_equal_size(row_feedback: bool, column_feedback: bool) -> float:
        sides: list[Factor] = [
            factor(outputs, 1e-3, feedback=row_feedback), factor(inputs, 1e-3, feedback=column_feedback)
        ]  # fmt: skip
        low, high = 1e-3, 1e3
        for _ in range(40):
            step = (low * high) ** 0.5
            got = quantise(w, *sides, step)
            low, high = (step, high) if code_length(got.levels) > 3 * w.size else (low, step)
        return cost(w - got.values, outputs, inputs)

    plain, inputs_only, both = (
        at_equal_size(False, False),
        at_equal_size(False, True),
        at_equal_size(True, True),
    )
    assert both < inputs_only < plain
    assert both < 0.6 * plain


def test_code_length_of_a_known_source() -> None:
    """Uniform levels over eight values take three bits; a scale per row is found and used."""
    draw = np.random.default_rng(8)
    flat = draw.integers(0, 8, (200, 300)).astype(np.int32)
    assert code_length(flat) == pytest.approx(3 * flat.size, rel=0.02)
    scaled = np.rint(draw.normal(size=(200, 300)) * np.repeat([0.7, 12.0], 100)[:, None]).astype(np.int32)
    mixed = draw.permuted(scaled.ravel()).reshape(scaled.shape)
    assert code_length(scaled) < code_length(mixed) - 0.5 * scaled.size
