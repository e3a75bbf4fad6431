"""The interface of training methods: copies, seeds, checkpoints, progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import (  # noqa: E402
    SLQ,
    CompensatedClustering,
    MLPrune,
    StraightThrough,
    Universal,
    Weightless,
)
from nncodec.train.base import Method, Run, codec_mapping  # noqa: E402
from nncodec.train.steps import cosine, epoch, sgd  # noqa: E402


class Interrupted(Exception):
    pass


class PlainRun(Run):
    def __init__(self, model: nn.Module, loader: Any, loss: Any, epochs: int) -> None:
        super().__init__(model, loader, loss)
        self.epochs = epochs
        self.optimizer = sgd(model.parameters(), 0.05)

    @property
    def units(self) -> int:
        return self.epochs

    def unit(self, index: int) -> dict[str, Any]:
        self.model.train()
        value = epoch(
            self.model,
            self.loader,
            self.loss,
            self.optimizer,
            rate=lambda share: cosine(0.05, (index + share) / self.epochs),
        )
        return {"epoch": index, "loss": value, "noise": float(torch.rand(()))}

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])

    def codec(self) -> dict[str, Any]:
        return codec_mapping({"0.weight": "lossless"})


@dataclass(frozen=True)
class Plain(Method):
    epochs: int = 3

    def _begin(self, model: nn.Module, loader: Any, loss: Any) -> Run:
        return PlainRun(model, loader, loss, self.epochs)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


@pytest.fixture
def loader() -> DataLoader[Any]:
    rng = np.random.default_rng(2)
    x = torch.from_numpy(rng.normal(size=(96, 6)).astype(np.float32))
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=16, shuffle=True)


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_leaves_the_callers_model_and_generator_alone(model: nn.Module, loader: Any) -> None:
    model.eval()
    before, state = values(model), torch.get_rng_state()
    result = Plain().fit(model, loader, F.cross_entropy)
    assert same(values(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert result.model is not model
    assert not same(values(result.model), before)
    assert not any(module.training for module in result.model.modules())
    assert [row["epoch"] for row in result.history] == [0, 1, 2]
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_in_place(model: nn.Module, loader: Any) -> None:
    assert Plain(inplace=True).fit(model, loader, F.cross_entropy).model is model


def test_deterministic_for_a_seed(model: nn.Module, loader: Any) -> None:
    runs = [Plain(seed=seed).fit(model, loader, F.cross_entropy) for seed in (3, 3, 4)]
    assert same(values(runs[0].model), values(runs[1].model))
    assert runs[0].history == runs[1].history
    assert not same(values(runs[0].model), values(runs[2].model))


def test_resumes_to_the_same_bits(model: nn.Module, loader: Any, tmp_path: Path) -> None:
    whole = Plain(epochs=4).fit(model, loader, F.cross_entropy)

    def stop(done: int, total: int) -> None:
        assert total == 4
        if done == 2:
            raise Interrupted

    path = tmp_path / "run.nncz"
    with pytest.raises(Interrupted):
        Plain(epochs=4, checkpoint=path, progress=stop).fit(model, loader, F.cross_entropy)
    seen: list[int] = []
    resumed = Plain(epochs=4, checkpoint=path, progress=lambda done, _: seen.append(done)).fit(
        model, loader, F.cross_entropy
    )
    assert seen == [3, 4]
    assert same(values(resumed.model), values(whole.model))
    assert resumed.history == whole.history


@pytest.mark.parametrize("change", ["options", "seed", "model", "kind"])
def test_refuses_a_foreign_checkpoint(change: str, model: nn.Module, loader: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.nncz"
    Plain(epochs=1, checkpoint=path).fit(model, loader, F.cross_entropy)
    other = Plain(epochs=2 if change == "options" else 1, seed=int(change == "seed"), checkpoint=path)
    if change == "model":
        model = nn.Sequential(nn.Linear(6, 3))
    if change == "kind":
        nncodec.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="checkpoint"):
        other.fit(model, loader, F.cross_entropy)


def test_codec_mapping_names_exactly() -> None:
    tensors = {"a[0].w": np.zeros((2, 2), np.float32), "a0.w": np.ones((2, 2), np.float32)}
    mapping = codec_mapping({"a[0].w": "stored"})
    back = nncodec.decode(nncodec.encode(tensors, mapping))
    assert all((back[name] == tensors[name]).all() for name in tensors)
    with pytest.raises(ValueError, match="matches no tensor"):
        nncodec.encode(tensors, codec_mapping({"a?.w": "stored"}))


class Endless(torch.utils.data.IterableDataset):
    """Examples without a number of them."""

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(0)
        for _ in range(64):
            yield torch.randn(20, generator=generator), torch.randint(0, 5, (), generator=generator)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5))


@pytest.mark.parametrize(
    "method",
    [
        SLQ(clusters=3, epochs=1),
        StraightThrough(clusters=3, epochs=1),
        Weightless(density=0.2, clusters=4, prune_epochs=2, retrain_epochs=1),
        Universal(prune_epochs=1, quantise_epochs=1, tune_epochs=1),
    ],
    ids=lambda method: type(method).__name__,
)
def test_loaders_of_unknown_length(method: Method) -> None:
    loader = DataLoader(Endless(), batch_size=16)
    method.fit(small(), loader, F.cross_entropy)


def test_what_a_method_froze_learns_again() -> None:
    model = small()
    model[0].bias.requires_grad_(False)
    method = Weightless(density=0.2, clusters=4, prune_epochs=1, retrain_epochs=0)
    loader = DataLoader(Endless(), batch_size=16)
    result = method.fit(model, loader, F.cross_entropy)
    assert {n for n, p in result.model.named_parameters() if not p.requires_grad} == {"0.bias"}


def test_examples_that_are_no_numbers_are_named() -> None:
    x, y = torch.full((35, 20), float("nan")), torch.arange(35) % 5
    for method in (MLPrune(sparsity=0.5, steps=1), CompensatedClustering(clusters=3, steps=1)):
        with pytest.raises(ValueError, match=r"layer '0.weight' are NaN"):
            method.fit(small(), [(x, y)], F.cross_entropy)


def test_arguments_that_are_something_else(model: nn.Module, loader: Any) -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got OrderedDict"):
        Plain().fit(model.state_dict(), loader, F.cross_entropy)
    with pytest.raises(TypeError, match="loader must give batches"):
        Plain().fit(model, None, F.cross_entropy)


def test_an_empty_loader_is_named(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="loader"):
        Plain().fit(model, [], F.cross_entropy)


@pytest.mark.parametrize(
    ("loader", "batch"),
    [
        (torch.zeros(4, 2, 6), "batch 0 is a Tensor"),  # which would unpack into two
        ([torch.zeros(4, 6)], "batch 0 is a Tensor"),
        (DataLoader(TensorDataset(torch.zeros(8, 6)), batch_size=4), r"batch 0 is a (list|tuple) of 1"),
        ([(torch.zeros(4, 6), torch.zeros(4).long()), {"x": 1}], "batch 1 is a dict"),
    ],
)
@pytest.mark.parametrize("method", [Plain(), MLPrune(sparsity=0.5, steps=1), Universal(prune_epochs=1)])
def test_batches_that_are_no_pairs_are_named(
    method: Method, loader: Any, batch: str, model: nn.Module
) -> None:
    with pytest.raises(TypeError, match=rf"loader must give pairs \(inputs, targets\), but {batch}"):
        method.fit(model, loader, F.cross_entropy)
