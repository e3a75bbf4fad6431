"""Universal training: what was trained is what decodes, for every lattice; pruning, averages, resuming."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nncodec
from nncodec.train.batchnorm import fold_statistics
from nncodec.train.shared import SharedVectors, scalar_levels
from nncodec.train.sparsity import cubic_density, keep_largest, lamp_scores
from nncodec.train.universal import Universal

Batches = list[tuple[Tensor, Tensor]]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 24), nn.ReLU(),
        nn.Linear(24, 4),
    )  # fmt: skip


def batches() -> Batches:
    """Which quarter of a picture is brightest."""
    random = torch.Generator().manual_seed(1)
    images = torch.rand(256, 1, 8, 8, generator=random)
    quarters = images.view(256, 2, 4, 2, 4).mean((2, 4)).view(256, 4)
    return list(zip(images.split(32), quarters.argmax(1).split(32), strict=True))


def accuracy(model: nn.Module, data: Batches) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in data)
    return right / 256


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    model, data = network(), batches()
    optimiser = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    for _ in range(25):
        for x, y in data:
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
    assert accuracy(model, data) > 0.95
    return model


OPTIONS: dict[str, dict[str, Any]] = {
    "ternary": {},
    "fine": {"fine_below": 100},
    "levels": {"levels": 4, "step": 0.5, "scales": "network"},
    "pairs": {"dimension": 2, "step": 0.6},
    "dither": {"dither": True, "step": 0.5},
    "dithered pairs": {"dither": True, "dimension": 2, "scales": "network", "step": 0.8},
    "e8": {"lattice": "e8", "step": 0.5},
    "dithered d4": {"lattice": "d4", "dither": True, "step": 0.5},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_was_trained_is_what_decodes(trained: nn.Module, name: str) -> None:
    data = batches()
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    method = Universal(
        density=0.4,
        prune_epochs=2,
        quantise_epochs=2,
        tune_epochs=2,
        lr=0.05,
        distill=0.3,
        seed=3,
        **OPTIONS[name],
    )
    result = method.fit(trained, data, F.cross_entropy)
    for key, value in trained.state_dict().items():
        assert torch.equal(value, before[key]), "the caller's model is left alone"
    state = result.model.state_dict()
    blob = nncodec.encode(state, result.codec)
    for key, value in nncodec.decode(blob, framework="pt").items():
        np.testing.assert_array_equal(value.numpy(), state[key].numpy())
    assert result.history[-1]["density"] == pytest.approx(0.4, abs=0.01)
    assert accuracy(result.model, data) > 0.6
    zeros = sum(int((state[k] == 0).sum()) for k in ("0.weight", "4.weight", "6.weight"))
    assert zeros / (54 + 216 * 24 + 96) == pytest.approx(0.6, abs=0.01)
    assert len(blob) < sum(v.numel() * 4 for v in state.values()) / (3 if name != "e8" else 1.2)


def test_ternary_layers_have_three_values(trained: nn.Module) -> None:
    result = Universal(density=0.2, prune_epochs=1, quantise_epochs=1, tune_epochs=1).fit(
        trained, batches(), F.cross_entropy
    )
    for key in ("0.weight", "4.weight", "6.weight"):
        assert len(torch.unique(result.model.state_dict()[key])) <= 3


def test_levels_come_step_by_step(trained: nn.Module) -> None:
    """Over the share of the epochs that `blend` says, and then the network sees nothing else."""

    def values_seen(blend: float) -> list[int]:
        model, seen = deepcopy(trained), []

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            seen.append(model.get_parameter("6.weight").unique().numel())
            return F.cross_entropy(outputs, targets)

        method = Universal(
            density=0.4, prune_epochs=0, quantise_epochs=4, tune_epochs=0, blend=blend, lr=0.01, inplace=True
        )
        method.fit(model, batches(), loss)  # four epochs of eight batches
        return seen

    assert max(values_seen(0.0)) <= 3
    seen = values_seen(0.5)
    assert min(seen[:16]) > 3
    assert max(seen[16:]) <= 3


def test_resumed_runs_end_in_the_same_bits(trained: nn.Module, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "density": 0.3,
        "prune_epochs": 1,
        "quantise_epochs": 1,
        "tune_epochs": 1,
        "distill": 0.5,
    }
    whole = Universal(**options).fit(trained, batches(), F.cross_entropy)

    class Stop(Exception):
        pass

    def stop(done: int, of: int) -> None:
        if done == 2:
            raise Stop

    path = tmp_path / "run"
    with pytest.raises(Stop):
        Universal(**options, checkpoint=path, progress=stop).fit(trained, batches(), F.cross_entropy)
    resumed = Universal(**options, checkpoint=path).fit(trained, batches(), F.cross_entropy)
    assert len(resumed.history) == 3
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def test_gradient_of_an_element_is_the_average() -> None:
    shared = SharedVectors(
        torch.tensor([0, 2, 3, 5, 6, -1]), torch.tensor([1, 0, 1]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    )
    gradient = torch.arange(8.0)
    shared.step(gradient, rate=1.0, momentum=0.0)
    # Row 0: elements 3, 5. Row 1: elements 0 and 6, and 2 alone (the other is padding).
    assert torch.allclose(shared.table, torch.tensor([[1.0 - 3, 2.0 - 5], [3.0 - 3, 4.0 - 2]]))
    shown = torch.full((8,), 9.0)
    shared.write_to(shown)
    assert shown.tolist() == [0, 0, 2, -2, 0, -3, 0, 0]


def test_levels_are_means_of_their_weights() -> None:
    latent = torch.tensor([0.1, -0.9, 1.1, 2.4, 0.0, -1.1])
    mask = torch.tensor([False, True, True, True, False, True])
    shared = scalar_levels(
        latent, mask, torch.zeros(6, dtype=torch.long), torch.tensor([0.8]), torch.tensor([2.0]), 2
    )
    shown = torch.empty(6)
    shared.write_to(shown)
    assert torch.allclose(shown, torch.tensor([0, -1.0, 1.1, 2.4, 0, -1.0]))


def test_scores_do_not_depend_on_the_scale_of_a_layer() -> None:
    weights = torch.randn(100, generator=torch.Generator().manual_seed(1))
    pieces = [slice(0, 40), slice(40, 100)]
    scaled = weights.clone()
    scaled[40:] *= 1000
    scores = lamp_scores(weights, pieces)
    assert torch.allclose(scores, lamp_scores(scaled, pieces), rtol=1e-4)
    assert scores[:40].max() == scores[40:].max() == 1  # the largest weight of every layer survives
    assert int(keep_largest(scores, 0.25).sum()) == 25
    assert keep_largest(scores, 1.0).all()
    assert [cubic_density(p, 1.0, 0.1) for p in (0, 1, 2)] == [1.0, 0.1, 0.1]
    assert cubic_density(0.5, 1.0, 0.2) == pytest.approx(0.3)


def test_folded_normalisation_is_the_same_function() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    model.train()
    for _ in range(20):
        model(torch.randn(16, 5) * 3 + 1)
    model.eval()
    x = torch.randn(50, 5)
    before = model(x)
    assert fold_statistics(model) == 1
    assert torch.allclose(model(x), before, atol=1e-5)
    assert model[1].running_mean.tolist() == [0] * 7
    assert model[1].running_var.tolist() == [1] * 7


@pytest.mark.parametrize(
    "kw",
    [{"density": 0}, {"lattice": "b"}, {"dimension": 3, "lattice": "a2"}, {"step": 0}, {"scales": "x"},
     {"prune_epochs": -1}, {"blend": 1.5}],
)  # fmt: skip
def test_bad_options(kw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(kw)).split("_")[-1]):
        Universal(**kw)


def test_nothing_to_do() -> None:
    with pytest.raises(ValueError, match="no parameter"):
        Universal(patterns=("x*",)).fit(network(), batches(), F.cross_entropy)
    with pytest.raises(ValueError, match="loader is empty"):
        Universal().fit(network(), [], F.cross_entropy)
