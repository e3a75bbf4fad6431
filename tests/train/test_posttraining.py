"""PostTraining, pipelines and rounding: sizes are met, values are few, files hold what was made."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import MLPrune, Pipeline, PostTraining, Round, StraightThrough  # noqa: E402
from nncodec.train.anchored import Anchored  # noqa: E402
from nncodec.train.exact import smallest_exact, smallest_file  # noqa: E402
from nncodec.train.kfac import Factors  # noqa: E402
from nncodec.train.posttraining import _move_values  # noqa: E402

NAMES = ("0.weight", "4.weight", "6.weight")


@pytest.fixture(scope="module")
def batches() -> list[Any]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(600, 1, 6, 6)).astype(np.float32))
    y = torch.stack([x[:, 0, :3].sum((1, 2)), x[:, 0, 3:].sum((1, 2)), x[:, 0, :, 3:].sum((1, 2))], 1)
    return list(zip(x.split(100), y.argmax(1).split(100), strict=True))


@pytest.fixture(scope="module")
def trained(batches: list[Any]) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 40), nn.ReLU(),
        nn.Linear(40, 3),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.1)
    for _ in range(30):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, batches: list[Any]) -> float:
    model.eval()
    with torch.no_grad():
        return float(np.mean([float((model(x).argmax(1) == y).float().mean()) for x, y in batches]))


def distinct(model: nn.Module) -> list[int]:
    return [int(model.get_parameter(name).unique().numel()) for name in NAMES]


def stored(result: Any) -> int:
    """Bytes of the file; what decodes is what was made."""
    state = result.model.state_dict()
    blob = nncodec.encode(state, result.codec)
    back = nncodec.decode(blob)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    return len(blob)


# --- PostTraining


def test_sparsity_and_clusters(trained: nn.Module, batches: list[Any]) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    result = PostTraining(sparsity=0.9, clusters=7, prune_steps=5, steps=6).fit(
        trained, batches, F.cross_entropy
    )
    assert max(distinct(result.model)) <= 7
    weights = [result.model.get_parameter(name) for name in NAMES]
    count = sum(w.numel() for w in weights)
    assert sum(int(w.count_nonzero()) for w in weights) <= round(0.1 * count)
    assert accuracy(result.model, batches) > accuracy(trained, batches) - 0.05
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    norm = result.model[1]
    assert bool((norm.running_mean == 0).all())
    assert stored(result) < len(nncodec.encode(before)) / 8
    assert set(result.importance) == set(NAMES)
    assert [row for row in result.history if "settle" in row]


@pytest.mark.parametrize(("target", "unit"), [(12.0, "ratio"), (2500.0, "bytes"), (3.0, "bits")])
def test_targets_are_met(trained: nn.Module, batches: list[Any], target: float, unit: Any) -> None:
    state = trained.state_dict()
    raw = sum(v.numel() * v.element_size() for v in state.values())
    elements = sum(v.numel() for v in state.values())
    limit = {"ratio": raw / target, "bytes": target, "bits": elements * target / 8}[unit]
    result = PostTraining(target=target, unit=unit, prune_steps=4, steps=5).fit(
        trained, batches, F.cross_entropy
    )
    made = stored(result)
    assert 0.85 * limit < made <= limit
    assert accuracy(result.model, batches) > accuracy(trained, batches) - 0.1


def test_grids_are_multiples_of_a_step(trained: nn.Module, batches: list[Any]) -> None:
    result = PostTraining(target=10.0, prune_steps=3, steps=4).fit(trained, batches, F.cross_entropy)
    for name in NAMES:
        values = result.model.get_parameter(name).detach().unique().abs()
        ordered = torch.cat((torch.zeros(1), values.sort().values)).unique()
        whole = ordered / ordered.diff().min()
        assert float((whole - whole.round()).abs().max()) < 0.01
        assert len(ordered) < 60


def test_it_beats_rounding_to_nearest(trained: nn.Module, batches: list[Any]) -> None:
    from copy import deepcopy

    def loss_of(model: nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            return float(np.mean([float(F.cross_entropy(model(x), y)) for x, y in batches]))

    result = PostTraining(target=20.0, prune_steps=5, steps=8).fit(trained, batches, F.cross_entropy)
    size = stored(result)
    plain = deepcopy(trained)
    blob = nncodec.encode(plain.state_dict(), "uniform", ratio=4 * 5_700 / size if size else 1.0)
    plain.load_state_dict(nncodec.decode(blob))
    assert loss_of(result.model) < loss_of(plain)


class Interrupted(Exception):
    pass


def test_an_interrupted_run_ends_in_the_same_bits(
    trained: nn.Module, batches: list[Any], tmp_path: Path
) -> None:
    options: Any = {"target": 12.0, "prune_steps": 2, "steps": 3, "examples": 300}
    whole = PostTraining(**options).fit(trained, batches, F.cross_entropy)
    path = tmp_path / "run.nncz"
    for stop in (1, 4):

        def progress(done: int, total: int, stop: int = stop) -> None:
            assert total == 6
            if done == stop:
                raise Interrupted

        with pytest.raises(Interrupted):
            PostTraining(**options, checkpoint=path, progress=progress).fit(trained, batches, F.cross_entropy)
    result = PostTraining(**options, checkpoint=path).fit(trained, batches, F.cross_entropy)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(result.model.state_dict()[name], value), name
    assert result.history == whole.history


def test_values_settle_where_the_loss_is_least() -> None:
    generator = torch.Generator().manual_seed(1)
    layer = nn.Linear(12, 8)
    roots = [torch.randn(1, n, n + 4, generator=generator, dtype=torch.float64) for n in (13, 8)]
    of = Factors(roots[0] @ roots[0].transpose(1, 2), roots[1] @ roots[1].transpose(1, 2), True)
    anchored = Anchored(layer)
    anchored.free[:] = False
    with torch.no_grad():
        layer.weight.copy_(torch.where(layer.weight.abs() < 0.1, 0.0, 0.2 * layer.weight.sign()))
        anchored.compensate(of, 200)
        before = float(of.loss(anchored.change(of)))
        _move_values(anchored, of, True)
        anchored.compensate(of, 200)
        after = float(of.loss(anchored.change(of)))
        assert after < before
        for value in layer.weight.unique():
            if value != 0:
                for factor in (0.98, 1.02):
                    kept = layer.weight.clone(), layer.bias.clone()
                    layer.weight.copy_(torch.where(layer.weight == value, value * factor, layer.weight))
                    anchored.compensate(of, 200)
                    assert float(of.loss(anchored.change(of))) > after * (1 - 1e-6)
                    layer.weight.copy_(kept[0])
                    layer.bias.copy_(kept[1])


@pytest.mark.parametrize(
    ("options", "of_words", "of_bias"),
    [({"precision": 0.25}, 0.25, 0.25), ({"precision": 0.5, "embedding_precision": 0.0625}, 0.0625, 0.5)],
)
def test_embeddings_are_rounded_and_other_weights_left(
    options: dict[str, float], of_words: float, of_bias: float
) -> None:
    torch.manual_seed(0)
    words = nn.Embedding(50, 8).requires_grad_(False)
    model = nn.Sequential(words, nn.Flatten(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3))
    x = torch.randint(50, (90, 3))
    batches = [(x, torch.arange(90) % 3)]
    method = PostTraining(
        sparsity=0.5, prune_steps=1, steps=2, fisher="empirical", layers=("4.*",), **options
    )
    result = method.fit(model, batches, F.cross_entropy)
    for index, before, share in (("0.weight", words.weight, of_words), ("2.bias", model[2].bias, of_bias)):
        rounded, of = result.model.get_parameter(index).detach(), before.detach()
        step = 2.0 ** math.floor(math.log2(share * float(of.square().mean().sqrt())))
        torch.testing.assert_close(rounded, (of / step).round() * step)
    assert torch.equal(result.model[2].weight, model[2].weight)
    state = result.model.state_dict()
    stored = nncodec.decode(nncodec.encode(state, result.codec))
    assert all(torch.equal(stored[name], value) for name, value in state.items())
    assert len(nncodec.encode({"w": state["0.weight"]}, "lossless")) < 0.6 * words.weight.nbytes


class Tied(nn.Module):
    """Words in and words out by one weight, which bears the embedding's name first."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 8)
        self.out = nn.Linear(8, 12, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.words(x).sum(1))
        return logits


def test_a_layer_that_shares_its_weight_with_an_embedding_keeps_its_values() -> None:
    torch.manual_seed(0)
    model, x = Tied(), torch.randint(12, (96, 3))
    plain, rounded = (
        PostTraining(sparsity=0.5, clusters=4, prune_steps=1, steps=2, precision=precision)
        .fit(model, [(x, torch.arange(96) % 12)], F.cross_entropy)
        .model
        for precision in (0.0, 0.5)
    )
    assert torch.equal(rounded.out.weight, plain.out.weight)
    assert rounded.out.weight is rounded.words.weight
    assert plain.out.weight.unique().numel() <= 4
    assert plain.out.weight.count_nonzero() <= 48


def test_options_are_checked() -> None:
    for wrong in (
        {}, {"target": 5.0, "sparsity": 0.5}, {"target": 0.0}, {"sparsity": 1.0}, {"target": 5.0, "unit": "MB"},
        {"target": 5.0, "clusters": 1}, {"target": 5.0, "dead_zone": 0.0}, {"target": 5.0, "precision": -1.0},
        {"target": 5.0, "embedding_precision": -1.0},
        {"target": 5.0, "prune_steps": 0}, {"target": 5.0, "steps": 0}, {"target": 5.0, "cap": 0.0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must|one of"):
            PostTraining(**wrong)  # type: ignore[arg-type]


# --- rounding, exact codecs


def test_rounding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 40), nn.BatchNorm1d(40))
    result = Round(precision=0.125).fit(model, [], F.mse_loss)
    bias = result.model[0].bias.detach()
    size = float(model[0].bias.detach().square().mean().sqrt())
    steps = torch.log2(bias[bias != 0].abs().min())
    assert 2.0 ** float(steps.floor()) <= 0.125 * size * 2
    assert float((bias - model[0].bias.detach()).abs().max()) <= 0.125 * size / 2
    assert torch.equal(result.model[0].weight, model[0].weight)
    stored(result)
    with pytest.raises(ValueError, match="precision"):
        Round(precision=0.0)


def test_smallest_exact_codec() -> None:
    rng = np.random.default_rng(0)
    sparse = torch.from_numpy((rng.integers(-2, 3, 20000) * (rng.random(20000) < 0.02)).astype(np.float32))
    dense = torch.from_numpy(rng.normal(size=5000).astype(np.float32))
    few = sparse.reshape(100, 200), -sparse.reshape(50, 400), torch.zeros(5, 5)
    for value in (*few, dense.reshape(50, 100), torch.zeros(0, 3)):
        chosen = smallest_exact(value)
        blob = nncodec.encode({"w": value}, {"w": chosen})
        assert torch.equal(nncodec.decode(blob)["w"].view(torch.int32), value.view(torch.int32))
        assert len(blob) <= len(nncodec.encode({"w": value}))
    assert smallest_exact(sparse.reshape(100, 200)) != "lossless"
    assert smallest_exact(torch.arange(9)) == "lossless"


def test_smallest_file_is_no_larger_than_the_parts_ask_for() -> None:
    rng = np.random.default_rng(0)
    sparse = (rng.integers(-2, 3, (60, 80)) * (rng.random((60, 80)) < 0.05)).astype(np.float32)
    state: dict[str, Any] = {"w": torch.from_numpy(sparse), "count": torch.tensor(3)}
    state |= {f"b{i}": torch.from_numpy(rng.integers(-4, 5, 30).astype(np.float32) / 8) for i in range(5)}
    codec = smallest_file(state)
    blob = nncodec.encode(state, codec)
    assert all(torch.equal(value, state[name]) for name, value in nncodec.decode(blob).items())
    each = {name: smallest_exact(value) for name, value in state.items()}
    assert len(blob) <= len(nncodec.encode(state, each))
    assert len(blob) < len(nncodec.encode(state))


# --- pipelines


def stages() -> list[Any]:
    return [
        MLPrune(sparsity=0.9, steps=4, epochs=2),
        StraightThrough(clusters=4, epochs=2, sparse=True, refresh=3),
        Round(precision=0.1),
    ]


def test_pipeline_makes_file_and_table(trained: nn.Module, batches: list[Any], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    pipeline = Pipeline(
        stages(),
        score=lambda model: accuracy(model, batches),
        progress=lambda done, total: seen.append((done, total)),
        path=tmp_path / "model.nncz",
        folder=tmp_path / "run",
    )
    result = pipeline.fit(trained, batches, F.cross_entropy)
    assert [stage.name for stage in result.stages] == ["original", "MLPrune", "StraightThrough", "Round"]
    sizes = [stage.bytes for stage in result.stages]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == len(result.file) == (tmp_path / "model.nncz").stat().st_size
    assert result.stages[-1].score is not None
    assert result.stages[-1].score > result.stages[0].score - 0.12
    assert result.stages[-1].nonzero < 0.2
    back = nncodec.decode(result.file)
    state = result.model.state_dict()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert sum(int(state[name].count_nonzero()) for name in NAMES) <= 0.1 * sum(
        state[n].numel() for n in NAMES
    )
    assert max(distinct(result.model)) <= 5
    assert len(result.table().splitlines()) == 5
    assert seen == [*((i, 6) for i in range(1, 7)), (1, 2), (2, 2), (1, 1)]
    assert {row["method"] for row in result.history} == {"MLPrune", "StraightThrough", "Round"}

    again = Pipeline(stages(), folder=tmp_path / "run").fit(trained, batches, F.cross_entropy)
    assert again.file == result.file  # all units were there
    broken = stages()

    def stop(done: int, total: int) -> None:
        if (done, total) == (1, 2):
            raise Interrupted

    with pytest.raises(Interrupted):
        Pipeline(broken, folder=tmp_path / "other", progress=stop).fit(trained, batches, F.cross_entropy)
    resumed = Pipeline(broken, folder=tmp_path / "other").fit(trained, batches, F.cross_entropy)
    assert resumed.file == result.file


def test_pipelines_are_checked() -> None:
    with pytest.raises(ValueError, match="stages"):
        Pipeline([])
    with pytest.raises(TypeError, match="methods"):
        Pipeline(["mlprune"])  # type: ignore[list-item]


def test_sparse_codebooks_keep_zeros(trained: nn.Module, batches: list[Any]) -> None:
    pruned = MLPrune(sparsity=0.8, steps=3).fit(trained, batches, F.cross_entropy).model
    zeros = {name: pruned.get_parameter(name) == 0 for name in NAMES}
    result = StraightThrough(clusters=4, epochs=2, sparse=True, zero=False, refresh=3).fit(
        pruned, batches, F.cross_entropy
    )
    for name in NAMES:
        assert torch.equal(result.model.get_parameter(name) == 0, zeros[name])
    assert max(distinct(result.model)) <= 5
    assert accuracy(result.model, batches) > 0.9
