"""Option ``optimizer``: stochastic gradient descent or Adam, in every method that has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import MLPrune, StraightThrough, Weightless  # noqa: E402

METHODS: dict[str, Callable[..., Any]] = {
    "straight-through": lambda **o: StraightThrough(clusters=3, epochs=3, **o),
    "mlprune": lambda **o: MLPrune(sparsity=0.5, steps=2, examples=256, epochs=6, **o),
    "weightless": lambda **o: Weightless(
        density=0.3, prune_epochs=3, retrain_epochs=1, cell_bits=(8,), exact_below=1, tolerance=1.0, **o
    ),
}


def rate(name: str, value: float) -> dict[str, float]:
    return {"learning_rate" if name == "weightless" else "lr": value}


def batches() -> list[tuple[Any, Any]]:
    generator = torch.Generator().manual_seed(3)
    centres = 2 * torch.randn(4, 12, generator=generator)
    labels = torch.randint(0, 4, (256,), generator=generator)
    inputs = centres[labels] + 0.5 * torch.randn(256, 12, generator=generator)
    return list(zip(inputs.split(32), labels.split(32), strict=True))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 4))


def right(model: nn.Module) -> float:
    with torch.no_grad():
        return sum(float((model(x).argmax(1) == y).float().mean()) for x, y in batches()) / len(batches())


@pytest.mark.parametrize("name", METHODS)
def test_adam_trains_and_differs(name: str) -> None:
    data, model = batches(), network()
    taught = METHODS[name](optimizer="adam", **rate(name, 0.02)).fit(model, data, F.cross_entropy)
    assert right(model) < 0.5
    assert right(taught.model) > 0.9
    state = taught.model.state_dict()
    back = nncodec.decode(nncodec.encode(state, taught.codec))
    assert all(torch.equal(back[key], value) for key, value in state.items())
    plain = METHODS[name](**rate(name, 0.02)).fit(model, data, F.cross_entropy)
    assert any(not torch.equal(plain.model.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize("name", METHODS)
def test_adam_resumes_to_the_same_bits(name: str, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise Stop

    options = {"optimizer": "adam", **rate(name, 0.02)}
    path = tmp_path / "training.nncz"
    with pytest.raises(Stop):
        METHODS[name](**options, checkpoint=path, progress=stop).fit(network(), batches(), F.cross_entropy)
    resumed = METHODS[name](**options, checkpoint=path).fit(network(), batches(), F.cross_entropy)
    whole = METHODS[name](**options).fit(network(), batches(), F.cross_entropy)
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.model.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_other_optimizers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"optimizer must be 'sgd' or 'adam', got 'rmsprop'"):
        METHODS[name](optimizer="rmsprop")
