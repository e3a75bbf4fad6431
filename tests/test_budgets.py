"""Budgets of lossy codecs hold over the whole file; what no lossy codec should touch stays exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import nncodec
from nncodec.codecs import CODECS

LOSSY = sorted(name for name, codec in CODECS.items() if codec.budgeted)


def checkpoint() -> dict:
    rng = np.random.default_rng(0)
    state = {f"layer{i}.weight": rng.normal(size=(100, 200)).astype(np.float32) * (i + 1) for i in range(4)}
    state["layer0.bias"] = rng.normal(size=200).astype(np.float32)
    state["steps"] = np.arange(10)
    state["grid"] = np.arange(12).reshape(3, 4)
    state["empty"] = np.empty((0, 3), np.float32)
    state["half"] = torch.from_numpy(rng.normal(size=(64, 64))).to(torch.bfloat16)
    state["tied"] = state["layer1.weight"]
    return state


WEIGHTS = [f"layer{i}.weight" for i in range(4)] + ["half"]


def relative_error(state, out) -> float:
    error = energy = 0.0
    for name in WEIGHTS:
        a, b = (np.asarray(torch.as_tensor(t[name]).double()) for t in (state, out))
        error += ((a - b) ** 2).sum()
        energy += (a**2).sum()
    return error / energy


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize(
    "budget", [("snr_db", 16.0), ("rel_mse", 1e-3), ("bits_per_weight", 3.0), ("ratio", 9.0)]
)
def test_the_budget_is_met(codec, budget):
    kind, value = budget
    state = checkpoint()
    blob = nncodec.encode(state, codec, **{kind: value})
    out = nncodec.decode(blob)
    assert list(out) == list(state)
    for name in ("layer0.bias", "steps", "grid", "empty"):
        assert np.array_equal(out[name], state[name])
    assert out["tied"] is out["layer1.weight"]
    assert out["half"].dtype == torch.bfloat16
    stored = [tensor for name, tensor in state.items() if name != "tied"]
    found = {
        "snr_db": -10 * np.log10(relative_error(state, out)),
        "rel_mse": relative_error(state, out),
        "bits_per_weight": 8 * len(blob) / sum(np.prod(tensor.shape) for tensor in stored),
        "ratio": sum(tensor.nbytes for tensor in stored) / len(blob),
    }[kind]
    assert found == pytest.approx(value, rel=0.02)


@pytest.mark.parametrize("codec", LOSSY)
def test_importance_moves_the_error(codec):
    state = checkpoint()
    name = "layer0.weight"
    weights = np.full((100, 1), 100.0, np.float32)
    plain, moved = (
        nncodec.decode(nncodec.encode(state, codec, bits_per_weight=3.0, importance=importance))
        for importance in (None, {name: weights})
    )
    assert ((moved[name] - state[name]) ** 2).sum() < 0.2 * ((plain[name] - state[name]) ** 2).sum()


@pytest.mark.parametrize("codec", LOSSY)
def test_importance_may_lie_anywhere_in_memory(codec):
    state = checkpoint()
    weights = np.random.default_rng(3).random(state["layer0.weight"].shape, np.float32)
    odd = np.frombuffer(b"x" + weights.tobytes(), np.uint8)[1:].view(np.float32).reshape(weights.shape)
    blobs = [nncodec.encode(state, codec, step=0.1, importance={"layer0.weight": w}) for w in (weights, odd)]
    assert not odd.flags.aligned
    assert blobs[0] == blobs[1]


@pytest.mark.parametrize("codec", LOSSY)
def test_a_pattern_makes_a_vector_lossy(codec, tmp_path):
    path = tmp_path / "x.nncz"
    nncodec.save_file(checkpoint(), path, {"layer0.bias": codec, "layer[12]*": codec}, step=0.1)
    with nncodec.open(path) as file:
        kinds = {name: file.info(name).codec for name in file}
    assert {name for name, kind in kinds.items() if kind == codec} == {
        "layer0.bias",
        "layer1.weight",
        "layer2.weight",
        "tied",
    }
    with pytest.raises(ValueError, match="'steps'"):
        nncodec.encode(checkpoint(), {"steps": codec}, step=0.1)


@pytest.mark.parametrize("codec", LOSSY)
def test_writer_holds_the_budget_for_each_tensor(codec, tmp_path):
    path = tmp_path / "x.nncz"
    state = checkpoint()
    with nncodec.Writer(path, codec, snr_db=20.0) as writer:
        for name, tensor in state.items():
            writer.add(name, tensor)
    out = nncodec.load_file(path)
    for name in WEIGHTS[:4]:
        error = ((out[name] - state[name]) ** 2).sum() / (state[name] ** 2).sum()
        assert -10 * np.log10(error) == pytest.approx(20.0, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({}, ValueError, "exactly one of"),
        ({"step": 1.0, "ratio": 2.0}, ValueError, r"not 2 \(step, ratio\)"),
        ({"ratio": -1.0}, ValueError, "ratio must be"),
        ({"snr_db": float("nan")}, ValueError, "snr_db must be"),
        ({"step": "x"}, TypeError, "step must be a number"),
        ({"step": 1.0, "importance": {"x": np.ones(3)}}, ValueError, "importance names 'x'"),
        ({"step": 1.0, "importance": {"half": np.ones(3)}}, ValueError, "shape"),
        ({"step": 1.0, "importance": {"half": np.ones((64, 64), int)}}, TypeError, "importance"),
        ({"step": 1.0, "importance": {"half": -np.ones((64, 64))}}, ValueError, "importance"),
    ],
)
@pytest.mark.parametrize("codec", LOSSY)
def test_bad_budgets_are_named(codec, arguments, error, why):
    with pytest.raises(error, match=why):
        nncodec.encode(checkpoint(), codec, **arguments)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_error_is_met_where_a_step_tried_again_gives_another(seed):
    """Peaked tensors have several equilibria of path and tables at one step."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (300, 200), "b": (32, 16, 3, 3), "c": (500, 64)}
    state = {name: (rng.standard_normal(shape) ** 5).astype(np.float32) for name, shape in shapes.items()}
    out = nncodec.decode(nncodec.encode(state, "trellis", rel_mse=0.01))
    error = sum(((state[name] - out[name]).astype(float) ** 2).sum() for name in state)
    assert error / sum((x.astype(float) ** 2).sum() for x in state.values()) == pytest.approx(0.01, rel=0.005)
