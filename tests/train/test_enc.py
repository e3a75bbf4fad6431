"""ENC: layers split exactly, factors that are best, a network within its budget, resumed to the same bits."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import ENC  # noqa: E402
from nncodec.train.kfac import Factors, factors  # noqa: E402
from nncodec.train.layer_costs import Sizes, coded_bytes, dense_cost, layer_sizes, rank_cost  # noqa: E402
from nncodec.train.lowrank import Factored, fitted, forms_of, full_rank, replacement, rise, split  # noqa: E402
from nncodec.train.rank_curves import Network  # noqa: E402
from nncodec.train.refit import refit  # noqa: E402

LAYERS: dict[str, Any] = {
    "plain": lambda: nn.Conv2d(6, 8, 3, padding=1),
    "strided": lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
    "uneven": lambda: nn.Conv2d(4, 6, (3, 5), stride=(2, 3), padding=(1, 2), dilation=(2, 1)),
    "groups": lambda: nn.Conv2d(8, 4, 3, groups=2, padding=1),
    "same": lambda: nn.Conv2d(4, 6, (3, 5), padding="same"),
    "circular": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
    "pointwise": lambda: nn.Conv2d(6, 8, 1, stride=2),
    "linear": lambda: nn.Linear(7, 5),
}


def inputs_of(module: nn.Module, count: int = 3) -> Tensor:
    torch.manual_seed(4)
    if isinstance(module, nn.Linear):
        return torch.randn(count, module.in_features)
    assert isinstance(module, nn.Conv2d)
    return torch.randn(count, module.in_channels, 11, 12)


@pytest.mark.parametrize("kind", LAYERS)
def test_full_rank_is_the_layer_itself(kind: str) -> None:
    torch.manual_seed(1)
    module = LAYERS[kind]()
    x = inputs_of(module)
    expected = module(x)
    assert forms_of(module)
    for form in forms_of(module):
        whole = split(module, form)
        assert whole.rank == full_rank(module, form)
        assert torch.allclose(whole.weight(module).float(), module.weight, atol=1e-6)
        made = replacement(module, whole)
        assert isinstance(made, Factored)
        error = (made(x) - expected).norm() / expected.norm()
        assert float(error.detach()) < 1e-5


def test_layers_that_gain_nothing_have_no_form() -> None:
    assert forms_of(nn.Conv2d(8, 8, 3, groups=8)) == ()
    assert forms_of(nn.Conv1d(3, 3, 3)) == ()
    assert forms_of(nn.BatchNorm2d(3)) == ()
    assert forms_of(nn.Conv2d(3, 4, (1, 3))) == ("channel",)


@pytest.mark.parametrize("kind", LAYERS)
def test_costs_are_those_of_the_replacement(kind: str) -> None:
    """Counted on the layers that take its place."""
    module = LAYERS[kind]()
    batches = [(inputs_of(module), torch.zeros(3))]
    (sizes,) = layer_sizes(nn.Sequential(module), {"0.weight": module}, batches).values()
    assert dense_cost(module, sizes, "parameters") == module.weight.numel()
    for form in forms_of(module):
        made = nn.Sequential(replacement(module, split(module, form, rank=2)))
        parts = {"0.0.weight": made[0][0], "0.1.weight": made[0][1]}
        measured = layer_sizes(made, parts, batches)
        for complexity in ("macs", "parameters"):
            counted = sum(dense_cost(m, measured[name], complexity) for name, m in parts.items())
            assert rank_cost(module, form, sizes, complexity) * 2 == counted


def moments(module: nn.Module, examples: int = 64) -> Factors:
    model = nn.Sequential(module, nn.Flatten())
    torch.manual_seed(6)
    x = inputs_of(module, examples)
    x = x * torch.linspace(0.1, 3, x.shape[1]).reshape(-1, *[1] * (x.ndim - 2))
    out = model(x)
    mix = torch.randn(out.shape[1], 4)
    found = factors(model, [(x, None)], output=lambda z: z @ mix, bias=False)
    return found["0.weight"]


@pytest.mark.parametrize("kind", ["plain", "groups", "linear"])
def test_whitened_factors_are_never_worse(kind: str) -> None:
    """In the loss that the curvature predicts; and for one position that is what the dropped values say."""
    torch.manual_seed(2)
    module = LAYERS[kind]()
    of = moments(module)
    for form in forms_of(module):
        for rank in range(1, full_rank(module, form), 2):
            plain = rise(module, of, split(module, form, rank=rank))
            white = split(module, form, of, rank=rank)
            best = rise(module, of, fitted(module, white, of, fits=3))
            assert best <= plain * (1 + 1e-6)
            once = rise(module, of, fitted(module, white, of))
            assert best <= once * (1 + 1e-6)
            if form == "channel":
                assert rise(module, of, white) <= plain * (1 + 1e-6)
                assert best == pytest.approx(rise(module, of, white), rel=2e-2, abs=1e-9)


def test_refit_matches_the_outputs_of_the_network_as_it_was() -> None:
    torch.manual_seed(3)
    original = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()
    model = deepcopy(original)
    for name in ("0", "2"):
        module = model.get_submodule(name)
        setattr(model, name, replacement(module, split(module, "spatial", rank=6)))
    x = torch.randn(8, 3, 10, 10)

    def error() -> float:
        with torch.no_grad():
            return float((model(x) - original(x)).norm())

    before = error()
    refit(model, original, ["0", "2"], [(x, None)])
    assert error() < 0.95 * before


# --- the method


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.conv2(x)).mean((2, 3))
        out: Tensor = self.head(x)
        return out


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(7)
    x = torch.randn(count, 32, 1, 8, 8)
    return [
        (b, (b[:, 0, :4].mean((1, 2)) > 0).long() + 2 * (b[:, 0, :, 4:].mean((1, 2)) > 0).long()) for b in x
    ]


def small() -> nn.Module:
    torch.manual_seed(8)
    return Small().eval()


def macs(model: nn.Module) -> float:
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    sizes = layer_sizes(model, layers, batches(1))
    return sum(dense_cost(m, sizes[n], "macs") for n, m in layers.items())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"search": "map", "metric": "pca", "form": "paper", "factors": "svd"},
        {"search": "model", "metric": "accuracy", "form": "spatial"},
        {"search": "inf", "metric": "pca", "form": "channel"},
        {"search": "uniform", "form": "paper"},
    ],
)
def test_every_search_keeps_the_budget(options: dict[str, Any]) -> None:
    model = small()
    before = deepcopy(model.state_dict())
    result = ENC(0.6, **options).fit(model, batches(), F.cross_entropy)
    assert macs(result.model) <= 0.6 * macs(model)
    row = result.history[0]
    assert row["cost"] == pytest.approx(macs(result.model) / macs(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not result.model.training
    x = batches(1)[0][0]
    assert result.model(x).shape == (32, 4)
    blob = nncodec.encode(result.model.state_dict(), result.codec)
    back = nncodec.decode(blob)
    assert all(torch.equal(value, back[name]) for name, value in result.model.state_dict().items())
    assert any(isinstance(module, Factored) for module in result.model.modules())


@pytest.mark.parametrize("complexity", ["parameters", "bytes"])
def test_other_costs(complexity: Any) -> None:
    model = small()
    result = ENC(0.7, complexity).fit(model, batches(), F.cross_entropy)
    weights = [p for p in result.model.parameters() if p.ndim > 1]
    if complexity == "parameters":
        assert sum(p.numel() for p in weights) <= 0.7 * sum(
            p.numel() for p in model.parameters() if p.ndim > 1
        )
    assert result.history[0]["cost"] <= 0.7


def test_coded_bytes_fall_with_the_rank() -> None:
    torch.manual_seed(1)
    whole = split(nn.Linear(60, 40), "channel")
    sizes = [coded_bytes([whole.cut(rank).left, whole.cut(rank).right]) for rank in (2, 10, 30)]
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.3 * sizes[2]


def test_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "training.nncz"
    method: dict[str, Any] = {"target": 0.6, "epochs": 2, "lr": 1e-3}
    whole = ENC(**method).fit(small(), batches(), F.cross_entropy)
    assert [row["stage"] for row in whole.history] == ["decompose", "tune", "tune"]

    class Interrupted(Exception):
        pass

    def interrupt(done: int, _: int) -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        ENC(**method, checkpoint=path, progress=interrupt).fit(small(), batches(), F.cross_entropy)
    resumed = ENC(**method, checkpoint=path).fit(small(), batches(), F.cross_entropy)
    assert resumed.history == whole.history
    assert list(resumed.codec) == list(whole.codec)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Linear(9, 4))
    with pytest.raises(ValueError, match="another model"):
        ENC(**method, checkpoint=path).fit(other, batches(), F.cross_entropy)


def test_shared_and_unlisted_layers_stay() -> None:
    torch.manual_seed(9)
    inner = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 64)]
    model = nn.Sequential(nn.Flatten(), *inner, nn.Linear(64, 4))
    model[4].weight = model[3].weight
    result = ENC(0.75, layers=("1.weight", "3.weight")).fit(model, batches(), F.cross_entropy)
    assert isinstance(result.model[1], Factored)
    assert all(isinstance(result.model[i], nn.Linear) for i in (3, 4, 5))
    assert result.model[3].weight is result.model[4].weight


def test_inplace_changes_the_callers_model() -> None:
    model = small()
    result = ENC(0.6, inplace=True).fit(model, batches(), F.cross_entropy)
    assert result.model is model
    assert macs(model) <= 0.6 * macs(small())


def test_search_is_fast_and_better_than_uniform() -> None:
    """The predicted rise at equal cost; process time is printed, not asserted."""
    model, data = small(), batches()
    best = Network(ENC(0.5, form="spatial"), model, data)
    start = time.process_time()
    found = best.search(0.5)
    print(f"search: {time.process_time() - start:.3f} s")
    equal = Network(ENC(0.5, form="spatial", search="uniform"), model, data).search(0.5)
    assert found.metric > equal.metric


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"target": 0.0}, "target"),
        ({"target": 1.2}, "target"),
        ({"search": "best"}, "search"),
        ({"metric": "energy"}, "metric"),
        ({"form": "tucker"}, "form"),
        ({"factors": "qr"}, "factors"),
        ({"complexity": "time"}, "complexity"),
        ({"examples": 0}, "examples"),
        ({"epochs": -1}, "epochs"),
        ({"search": "uniform"}, "form"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ENC(**options)


def test_bad_models_and_budgets() -> None:
    with pytest.raises(ValueError, match="Sequential"):
        ENC().fit(nn.Linear(64, 4), batches(), F.cross_entropy)
    with pytest.raises(ValueError, match="the least these take"):
        ENC(0.001).fit(small(), batches(), F.cross_entropy)
    with pytest.raises(ValueError, match="matches no"):
        ENC(layers=("nothing",)).fit(small(), batches(), F.cross_entropy)
    floats = [(x, y.float()) for x, y in batches()]
    with pytest.raises(ValueError, match="classes"):
        ENC(metric="accuracy").fit(small(), floats, lambda z, y: z.mean())
    assert np.isfinite(ENC(0.6).fit(small(), floats, lambda z, y: z.mean()).history[0]["metric"])


def test_sizes_of_a_layer_that_runs_twice() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    found = layer_sizes(model, {"0.weight": layer}, [(torch.ones(3, 4), None)])
    assert found["0.weight"] == Sizes(2, 2)
