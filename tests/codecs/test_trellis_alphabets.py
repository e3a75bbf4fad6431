"""Codec `trellis` on pruned and peaked tensors: two zeros at any rate where they pay, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nncodec
from nncodec import _core
from nncodec.codecs import Trellis, Uniform
from nncodec.codecs.base import LossyCodec

Matrix = NDArray[np.float32]


def pruned(share: float, shape: tuple[int, int] = (200, 200)) -> Matrix:
    rng = np.random.default_rng(5)
    return (rng.standard_normal(shape) * (rng.random(shape) >= share)).astype(np.float32)


def power(exponent: float) -> Matrix:
    x = np.random.default_rng(6).standard_normal((200, 200))
    return (np.sign(x) * np.abs(x) ** exponent).astype(np.float32)


def rows_apart() -> Matrix:
    """Gaussian rows whose deviations differ by more than a hundred: peaked only as a whole."""
    rng = np.random.default_rng(7)
    return (rng.standard_normal((200, 200)) * np.exp(rng.standard_normal((200, 1)))).astype(np.float32)


def size(w: Matrix, codec: LossyCodec, rel_mse: float) -> int:
    return len(nncodec.encode({"w": w}, codec, rel_mse=rel_mse))


def alphabet_of(w: Matrix, rel_mse: float, path: Path) -> str:
    nncodec.save_file({"w": w}, path, Trellis(states=8), rel_mse=rel_mse)
    with nncodec.open(path) as file:
        return str(file.info("w").options.get("alphabet", "plain"))


@pytest.mark.parametrize(
    ("w", "rel_mse"),
    [(pruned(0.5), 0.03), (pruned(0.5), 0.001), (pruned(0.8), 0.01), (pruned(0.9), 0.001), (power(3), 0.01)],
    ids=["half, 0.03", "half, 0.001", "four fifths", "nine tenths", "third power"],
)
def test_zeros_are_cheap_at_every_rate(w: Matrix, rel_mse: float, tmp_path: Path) -> None:
    """With one zero a path pays for nearly every other zero that it meets."""
    automatic = size(w, Trellis(states=8), rel_mse)
    assert alphabet_of(w, rel_mse, tmp_path / "w.nncz") == "both_zero"
    assert automatic < 0.97 * size(w, Trellis(states=8, alphabet="plain"), rel_mse)
    assert automatic < 1.005 * size(w, Uniform(), rel_mse)


@pytest.mark.parametrize("rel_mse", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("w", [power(1), rows_apart()], ids=["gaussian", "rows apart"])
def test_what_is_round_keeps_one_zero(w: Matrix, rel_mse: float, tmp_path: Path) -> None:
    assert alphabet_of(w, rel_mse, tmp_path / "w.nncz") == "plain"
    assert size(w, Trellis(states=8), rel_mse) < size(w, Trellis(states=8, alphabet="both_zero"), rel_mse)


def test_alphabets_are_compared_at_the_same_error() -> None:
    """At one step two zeros give less error for more bits; where both are tried, the cheaper in the end is taken."""
    x = np.random.default_rng(8).laplace(size=(512, 512))
    w = (np.sign(x) * np.abs(x) ** 1.5).astype(np.float32)
    sizes = {a: size(w, Trellis(states=8, alphabet=a), 0.01) for a in ("auto", "plain", "both_zero")}
    assert sizes["auto"] <= 1.002 * min(sizes["plain"], sizes["both_zero"])


@pytest.mark.parametrize("rel_mse", [0.1, 0.05, 0.01])
def test_errors_of_large_pruned_tensors_are_met(rel_mse: float) -> None:
    """Chunks are searched one by one in the end: what a trial of the whole told is measured, and put right."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((500, 800)) * (rng.random((500, 800)) >= 0.9)
    w = (w * np.exp(rng.standard_normal((500, 1)))).astype(np.float32)
    back = nncodec.decode(nncodec.encode({"w": w}, Trellis(states=8), rel_mse=rel_mse), framework="np")["w"]
    error = float(((back - w).astype(np.float64) ** 2).sum() / (w.astype(np.float64) ** 2).sum())
    assert error == pytest.approx(rel_mse, rel=0.004)


def test_outcomes_change_as_steps_do() -> None:
    """Classes stay what they were at a step nearby: no leaps where a scale over the step meets the next class."""
    rng = np.random.default_rng(1)
    w = (rng.standard_normal((300, 300)) * np.exp(rng.standard_normal((300, 1)))).astype(np.float32)
    part = (2, [w.shape], w.reshape(-1).view(np.uint8), "w")
    (study,) = _core.trellis_studies(
        [part], [(0.2, None, 1.0)], 8, "auto", False, False, True, True, threads=1
    )
    steps = 0.2 * 1.004 ** np.arange(24)
    errors = [_core.trellis_trials([study], [float(step)], threads=1)[0][1] for step in steps]
    ratios = np.array(errors[1:]) / np.array(errors[:-1])
    assert ratios.min() > 1.002
    assert ratios.max() < 1.02


def test_error_feedback_takes_two_zeros_too() -> None:
    """`hessian`: what a layer reads is known."""
    w = pruned(0.7, (128, 96))
    inputs = np.random.default_rng(11).standard_normal((400, 96))
    moment = (inputs @ np.random.default_rng(12).standard_normal((96, 96))).astype(np.float32)
    hessian = {"w": (moment.T @ moment / len(moment)).astype(np.float32)}
    sizes = {
        a: len(nncodec.encode({"w": w}, Trellis(states=8, alphabet=a), hessian=hessian, snr_db=18))
        for a in ("auto", "plain")
    }
    assert sizes["auto"] < 0.95 * sizes["plain"]


def test_error_feedback_on_rows_and_columns_apart() -> None:
    """Paths go along columns: small columns need no second zero, small rows among large ones do."""
    rng = np.random.default_rng(13)
    hessian = {"w": np.eye(192, dtype=np.float32)}
    for deviations, better in (
        (rng.standard_normal((1, 192)), "plain"),
        (rng.standard_normal((256, 1)), "both_zero"),
    ):
        w = (rng.standard_normal((256, 192)) * np.exp(deviations)).astype(np.float32)
        sizes = {
            a: len(nncodec.encode({"w": w}, Trellis(states=8, alphabet=a), hessian=hessian, snr_db=8))
            for a in ("auto", "plain", "both_zero")
        }
        other = sizes["plain" if better == "both_zero" else "both_zero"]
        assert sizes[better] < 0.97 * other
        assert sizes["auto"] <= 1.005 * sizes[better]


def test_scales_of_sparse_tensors_must_pay() -> None:
    """However large a tensor is: here rows and columns have a handful of weights each, and are all alike."""
    w = np.random.default_rng(14).standard_normal((400, 400)).astype(np.float32)
    w[np.abs(w) < np.quantile(np.abs(w), 0.99)] = 0
    automatic = size(w, Trellis(states=8), 0.01)
    assert automatic <= 1.02 * size(w, Trellis(states=8, classes="none"), 0.01)
    assert automatic < 1.05 * size(w, Uniform(), 0.01)
