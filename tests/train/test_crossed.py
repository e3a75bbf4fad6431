"""Targets that keep a layer's outputs when its inputs have changed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from nncodec.train import MLPrune  # noqa: E402
from nncodec.train.crossed import cross_moments, shifted_target  # noqa: E402
from nncodec.train.kfac import as_matrix, factors  # noqa: E402


def test_a_mixed_up_input_is_undone() -> None:
    """The layer before now gives M x: the next one should compute W M^-1."""
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 3)).double()
    model = deepcopy(original)
    mix = torch.eye(5, dtype=torch.float64) + 0.3 * torch.randn(5, 5, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight.copy_(mix @ model[0].weight)
    batches = [(torch.randn(400, 5, dtype=torch.float64), None)]
    cross = cross_moments(original, model, ["0.weight", "1.weight"], batches, 10_000)
    of = factors(model, batches, output=lambda z: z, dtype=torch.float64)
    with torch.no_grad():
        found = shifted_target(
            of["1.weight"],
            of["1.weight"],
            cross["1.weight"],
            as_matrix(of["1.weight"], model[1].weight, model[1].bias),
        )
        first = shifted_target(of["0.weight"], of["0.weight"], cross["0.weight"], model[0].weight[None])
    torch.testing.assert_close(
        found[0, :, :5], original[1].weight @ torch.linalg.inv(mix), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(found[0, :, 5], original[1].bias, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first[0], model[0].weight, rtol=1e-4, atol=1e-4)


def test_unchanged_networks_want_their_weights(batches: list[Any], deep: nn.Module) -> None:
    names = [f"{i}.weight" for i in (0, 2, 4)]
    cross = cross_moments(deep, deepcopy(deep), names, batches, 500)
    of = factors(deep, batches, enough=500)
    for name in names:
        module = deep.get_submodule(name[0])
        damped = of[name].damped(1e-4)
        target = as_matrix(of[name], module.weight.detach(), module.bias.detach())
        found = shifted_target(of[name], damped, cross[name], target)
        torch.testing.assert_close(found, target, rtol=0.02, atol=0.01)


@pytest.fixture(scope="module")
def batches() -> list[Any]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(1000, 2, 8, 8)).astype(np.float32))
    y = torch.stack([x[:, 0, :4].sum((1, 2)), x[:, 1, 4:].sum((1, 2)), x[:, 0, :, 4:].sum((1, 2))], 1)
    return list(zip(x.split(100), y.argmax(1).split(100), strict=True))


@pytest.fixture(scope="module")
def deep(batches: list[Any]) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs in (2, 10, 10, 10, 10, 10):
        layers += [nn.Conv2d(inputs, 10, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(40, 3))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
    for _ in range(25):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def divergence(original: nn.Module, model: nn.Module, batches: list[Any]) -> float:
    with torch.no_grad():
        each: list[Tensor] = [
            F.kl_div(
                model(x).log_softmax(1), original(x).log_softmax(1), reduction="batchmean", log_target=True
            )
            for x, _ in batches
        ]
    return float(torch.stack(each).mean())


def test_correction_keeps_deep_networks_closer(deep: nn.Module, batches: list[Any]) -> None:
    pruned = {
        name: MLPrune(sparsity=0.8, steps=4, compensation=name, gamma=1e-4, iterations=60).fit(
            deep, batches, F.cross_entropy
        )  # type: ignore[arg-type]
        for name in ("anchored", "corrected")
    }
    found = {name: divergence(deep, result.model, batches) for name, result in pruned.items()}
    assert found["corrected"] < found["anchored"]
