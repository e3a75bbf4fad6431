"""What batch normalisation tells without examples: who belongs to whom, what goes in, what counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import nncodec

Tensors = dict[str, NDArray[Any]]
Array = NDArray[np.float64]


def layer(
    tensors: Tensors, conv: str, norm: str | None, shape: tuple[int, ...], seed: int
) -> tuple[Array, Array]:
    """Add a convolution, and a normalisation that has seen inputs of the mean and deviation returned."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=shape) * np.exp(0.7 * rng.normal(size=(shape[0],) + (1,) * (len(shape) - 1)))
    mean, deviation = np.abs(rng.normal(size=shape[1])) + 0.2, np.exp(0.5 * rng.normal(size=shape[1]))
    tensors[f"{conv}.weight"] = w.astype(np.float32)
    if norm is not None:
        sums = w.reshape(*shape[:2], -1)
        found = {
            "weight": np.exp(0.8 * rng.normal(size=shape[0])),
            "bias": rng.normal(size=shape[0]),
            "running_mean": sums.sum(2) @ mean,
            "running_var": (sums**2).sum(2) @ deviation**2,
        }
        tensors |= {f"{norm}.{key}": value.astype(np.float32) for key, value in found.items()}
    return mean, deviation


def network() -> Tensors:
    tensors: Tensors = {}
    layer(tensors, "stem", "norm_a", (16, 3, 3, 3), 0)
    layer(tensors, "one", "norm_b", (16, 16, 3, 3), 1)
    layer(tensors, "shortcut", None, (16, 16, 1, 1), 2)
    layer(tensors, "two", "norm_c", (16, 16, 3, 3), 3)
    layer(tensors, "three", "norm_d", (24, 16, 1, 1), 4)
    tensors["head.weight"] = np.random.default_rng(5).normal(size=(10, 24)).astype(np.float32)
    tensors["head.bias"] = np.zeros(10, np.float32)
    return tensors


def weight_of_rows(tensors: Tensors, norm: str) -> Array:
    gamma, variance = (tensors[f"{norm}.{key}"].astype(np.float64) for key in ("weight", "running_var"))
    return gamma**2 / variance


@pytest.mark.parametrize("norms_first", [False, True])
def test_each_convolution_gets_the_normalisation_that_follows_it(norms_first: bool) -> None:
    tensors = network()
    if norms_first:
        tensors = dict(sorted(tensors.items(), key=lambda item: not item[0].startswith("norm")))
    found = nncodec.calibrate_without_data(tensors)
    assert set(found) == {f"{n}.weight" for n in ("stem", "one", "shortcut", "two", "three", "head")}
    for conv, norm in (("stem", "norm_a"), ("one", "norm_b"), ("two", "norm_c"), ("three", "norm_d")):
        output, wanted = found[f"{conv}.weight"].output, weight_of_rows(tensors, norm)
        np.testing.assert_allclose(output / output.sum(), wanted / wanted.sum(), rtol=1e-3)
    for name in ("shortcut", "head"):  # nothing is known but how large they are
        assert np.ptp(found[f"{name}.weight"].output) == 0
        assert not found[f"{name}.weight"].mean.any()


def test_numbers_in_alphabetical_order_count_as_numbers() -> None:
    tensors: Tensors = {}
    for i in range(12):
        layer(tensors, f"conv_{i}", None if i == 5 else f"norm_{i}", (8, 8, 3, 3), i)
    tensors = dict(sorted(tensors.items()))
    found = nncodec.calibrate_without_data(tensors)
    for i in (1, 4, 6, 10, 11):
        output, wanted = found[f"conv_{i}.weight"].output, weight_of_rows(tensors, f"norm_{i}")
        np.testing.assert_allclose(output / output.sum(), wanted / wanted.sum(), rtol=1e-3)


def test_means_and_variances_of_inputs_are_found_again() -> None:
    tensors: Tensors = {}
    mean, deviation = layer(tensors, "conv", "norm", (64, 16, 1, 1), 7)
    tensors["conv.bias"] = np.full(64, 3.0, np.float32)
    tensors["norm.running_mean"] += 3
    found = nncodec.calibrate_without_data(tensors)["conv.weight"]
    assert np.corrcoef(found.mean[0], mean)[0, 1] > 0.98
    variances = np.diagonal(found.input[0]) - found.mean[0] ** 2
    assert np.corrcoef(np.log(variances), np.log(deviation))[0, 1] > 0.8


def test_what_is_left_after_normalisation_is_less_at_the_same_size() -> None:
    tensors: Tensors = {}
    mean, deviation = layer(tensors, "conv", "norm", (128, 64, 1, 1), 8)
    x = mean + deviation * np.random.default_rng(9).normal(size=(2000, 64))
    scale = np.sqrt(weight_of_rows(tensors, "norm"))
    w = tensors["conv.weight"].reshape(128, 64)

    def error(**arguments: Any) -> float:
        blob = nncodec.encode(tensors, "trellis", bits_per_weight=5, **arguments)
        out = nncodec.decode(blob)["conv.weight"].reshape(128, 64)
        return float((((x @ (out - w).T) * scale) ** 2).mean())

    assert error(hessian=nncodec.calibrate_without_data(tensors)) < 0.6 * error()


def test_without_normalisation_nothing_is_known() -> None:
    tensors = {"a.weight": np.ones((4, 4), np.float32), "b.running_var": np.ones(3, np.float32)}
    found = nncodec.calibrate_without_data(tensors)
    assert not found
    assert nncodec.encode(tensors, "trellis", step=0.1, hessian=found) == nncodec.encode(
        tensors, "trellis", step=0.1
    )


def test_types_and_bad_values() -> None:
    torch = pytest.importorskip("torch")
    tensors = network()
    rounded = {name: torch.from_numpy(value).to(torch.bfloat16) for name, value in tensors.items()}
    exact = nncodec.calibrate_without_data({name: value.float() for name, value in rounded.items()})
    found = nncodec.calibrate_without_data(rounded)
    assert all(np.array_equal(found[name].input, exact[name].input) for name in exact)
    tensors["norm_b.running_var"][3] = np.nan
    with pytest.raises(ValueError, match=r"norm_b\.running_var"):
        nncodec.calibrate_without_data(tensors)
