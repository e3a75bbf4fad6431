"""``hessian=``: less error of a layer's output at the same size, and clear errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nncodec
from nncodec.calibration import Calibration, LayerMoments

Tensors = dict[str, NDArray[Any]]


def moment(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    x = rng.standard_normal((6 * n, n)) @ (
        np.eye(n) + rng.standard_normal((n, 2)) @ rng.standard_normal((2, n)) / 2
    )
    return np.asarray(x.T @ x)


def example(seed: int = 0) -> tuple[Tensors, Calibration]:
    rng = np.random.default_rng(seed)
    tensors = {
        "linear.weight": rng.standard_normal((192, 64)).astype(np.float32),
        "conv.weight": (0.1 * rng.standard_normal((32, 4, 3, 3))).astype(np.float32),  # two groups
        "embedding.weight": rng.standard_normal((300, 24)).astype(np.float32),
        "other.weight": (5 * rng.standard_normal((50, 40))).astype(np.float32),
        "linear.bias": rng.standard_normal(192).astype(np.float32),
    }

    def layer(name: str, groups: int) -> LayerMoments:
        shape = tensors[name].shape
        k = int(np.prod(shape[1:]))
        inputs = np.stack([moment(rng, k) for _ in range(groups)])
        return LayerMoments(shape, inputs, inputs[:, 0], moment(rng, shape[0]), 6 * k)

    counts = np.floor(2000 / np.arange(1, 301) ** 1.2)
    layers = {
        "linear.weight": layer("linear.weight", 1),
        "conv.weight": layer("conv.weight", 2),
        "embedding.weight": LayerMoments(
            (300, 24), counts, np.empty((0, 0)), moment(rng, 24), int(counts.sum())
        ),
    }
    return tensors, Calibration(layers, 100)


def output_error(tensors: Tensors, decoded: Tensors, calibration: Calibration) -> float:
    total = 0.0
    for name, layer in calibration.items():
        error = (tensors[name].astype(np.float64) - decoded[name]).reshape(len(tensors[name]), -1)
        if layer.is_embedding:
            share = (layer.input + 1) / (layer.input + 1).sum()
            total += float((share * np.einsum("ri,ij,rj->r", error, layer.output, error)).sum())
            continue
        groups = len(layer.input)
        per_group = error.reshape(groups, -1, error.shape[1])
        inputs = np.concatenate([e @ a for e, a in zip(per_group, layer.input, strict=True)]) / layer.vectors
        # The rows of one group do not meet the inputs of another: an upper bound of what they share is enough here.
        total += float((layer.output * (inputs @ error.T)).sum()) if groups == 1 else 0.0
    return total / calibration.examples


def test_output_error_is_lower_at_the_same_size() -> None:
    tensors, calibration = example()
    errors, sizes = [], []
    for extra in ({}, {"hessian": calibration}):
        blob = nncodec.encode(tensors, "trellis", bits_per_weight=4.5, **extra)
        sizes.append(len(blob))
        errors.append(output_error(tensors, nncodec.decode(blob), calibration))
    assert sizes[1] <= 1.005 * sizes[0]
    assert errors[1] < 0.3 * errors[0]


def test_the_bytes_do_not_depend_on_threads() -> None:
    tensors, calibration = example()
    blobs = {nncodec.encode(tensors, "trellis", step=0.05, hessian=calibration, threads=n) for n in (1, 2, 5)}
    assert len(blobs) == 1


@pytest.mark.parametrize(
    "budget", [{"bits_per_weight": 5.0}, {"ratio": 6.0}, {"snr_db": 20.0}, {"rel_mse": 0.01}]
)
def test_budgets(budget: dict[str, float]) -> None:
    tensors, calibration = example()
    blob = nncodec.encode(tensors, "trellis", hessian=calibration, **budget)
    elements = sum(x.size for x in tensors.values())
    if "bits_per_weight" in budget:
        assert 8 * len(blob) / elements == pytest.approx(5.0, rel=0.006)
    elif "ratio" in budget:
        assert 4 * elements / len(blob) == pytest.approx(6.0, rel=0.006)
    else:
        finer = nncodec.encode(tensors, "trellis", hessian=calibration, rel_mse=0.001)
        assert len(finer) > len(blob)
    assert list(nncodec.decode(blob)) == list(tensors)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_element_types_and_plain_matrices(dtype: type) -> None:
    rng = np.random.default_rng(1)
    w = rng.standard_normal((70, 20)).astype(dtype)
    second = moment(rng, 20)
    decoded = nncodec.decode(nncodec.encode({"w": w}, "trellis", step=0.02, hessian={"w": second}))["w"]
    assert decoded.dtype == dtype
    assert float(np.abs(decoded.astype(np.float64) - w).mean()) < 0.2


def test_weights_of_no_entry_are_coded_at_the_usual_precision() -> None:
    tensors, calibration = example()
    decoded = nncodec.decode(nncodec.encode(tensors, "trellis", bits_per_weight=5, hessian=calibration))
    found = float(np.var(decoded["other.weight"] - tensors["other.weight"]) / np.var(tensors["other.weight"]))
    assert 1e-4 < found < 0.1
    assert np.array_equal(decoded["linear.bias"], tensors["linear.bias"])


def test_dead_layers_and_rare_shapes() -> None:
    zero = LayerMoments((3, 5), np.zeros((1, 5, 5)), np.zeros((1, 5)), np.zeros((3, 3)), 7)
    one = LayerMoments((1, 1), np.ones((1, 1, 1)), np.ones((1, 1)), np.empty((0, 0)), 7)
    tensors = {"dead": np.ones((3, 5), np.float32), "one": np.full((1, 1), 0.5, np.float32)}
    blob = nncodec.encode(tensors, "trellis", step=0.01, hessian=Calibration({"dead": zero, "one": one}, 7))
    decoded = nncodec.decode(blob)
    assert all(np.allclose(decoded[name], tensors[name], atol=0.2) for name in tensors)


@pytest.mark.parametrize(
    ("hessian", "error", "message"),
    [
        ({"w": np.eye(3)}, ValueError, r"hessian\['w'\] has shape \(3, 3\).*\(6, 6\)"),
        ({"w": np.zeros((3, 6, 6))}, ValueError, "group of rows"),
        ({"w": np.full((6, 6), np.nan)}, ValueError, "symmetric and finite"),
        ({"w": np.triu(np.ones((6, 6)))}, ValueError, "symmetric and finite"),
        ({"w": np.eye(6, dtype=np.int64)}, TypeError, "expected floats"),
        ({"w": -np.eye(6)}, ValueError, "positive definite"),
        ({"v": np.eye(6)}, ValueError, "names none"),
        ([1], TypeError, "Calibration or a mapping"),
    ],
)
def test_bad_hessians(hessian: Any, error: type[Exception], message: str) -> None:
    tensors = {"w": np.ones((4, 6), np.float32)}
    with pytest.raises(error, match=message):
        nncodec.encode(tensors, "trellis", step=0.1, hessian=hessian)


def test_who_cannot_use_it_says_so() -> None:
    tensors = {"w": np.ones((4, 6), np.float32)}
    with pytest.raises(ValueError, match="needs codec 'trellis'"):
        nncodec.encode(tensors, "uniform", step=0.1, hessian={"w": np.eye(6)})
    with pytest.raises(ValueError, match="needs a lossy codec"):
        nncodec.encode(tensors, hessian={"w": np.eye(6)})
    layer = LayerMoments((6, 4), np.eye(4)[None], np.zeros((1, 4)), np.eye(6), 1)
    with pytest.raises(ValueError, match=r"weight of shape \(6, 4\), the tensor has \(4, 6\)"):
        nncodec.encode(tensors, "trellis", step=0.1, hessian=Calibration({"w": layer}, 1))
    bad = {"w": np.array([[np.nan] * 6] * 4, np.float32)}
    with pytest.raises(ValueError, match="NaN or infinite"):
        nncodec.encode(bad, "trellis", step=0.1, hessian={"w": np.eye(6)})
