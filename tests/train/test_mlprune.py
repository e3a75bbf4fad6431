"""MLPrune: the formulas against the dense Kronecker matrix, the schedule, and what the method promises of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import MLPrune  # noqa: E402
from nncodec.train.calibrating import stratified, warn_of_missing  # noqa: E402
from nncodec.train.kfac import Factors, factors, solve  # noqa: E402
from nncodec.train.masks import masked  # noqa: E402
from nncodec.train.surgeon import VALUE_BITS, alive, lowest, position_bits, saliency, summed_update  # noqa: E402

INPUTS, OUTPUTS = 6, 4


def toy(seed: int, groups: int = 1) -> tuple[Factors, Tensor]:
    """Well-conditioned factors, and weights, in double precision."""
    rng = np.random.default_rng(seed)

    def spd(n: int) -> Tensor:
        roots = rng.normal(size=(groups, n, n + 3))
        return torch.from_numpy(roots @ roots.transpose(0, 2, 1) / (n + 3))

    weight = torch.from_numpy(rng.normal(size=(groups, OUTPUTS, INPUTS)))
    return Factors(spd(INPUTS), spd(OUTPUTS), False), weight


def hessian(of: Factors) -> Tensor:
    """G x A over the weights, row by row."""
    return torch.kron(of.output[0], of.input[0])


# --- formulas against brute force


@pytest.mark.parametrize("seed", range(3))
def test_saliency_and_update_are_optimal_brain_surgeons(seed: int) -> None:
    of, weight = toy(seed)
    inverse = torch.linalg.inv(hessian(of))
    w = weight.ravel()
    torch.testing.assert_close(
        saliency(of, weight).ravel(), w**2 / inverse.diagonal() / 2, rtol=1e-6, atol=1e-9
    )
    for q in (0, 7, 23):
        one = torch.zeros(24, dtype=torch.bool)
        one[q] = True
        expected = -w[q] / inverse[q, q] * inverse[:, q]
        found = summed_update(of, weight, one.reshape(weight.shape)).ravel()
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_joint_solve_is_the_dense_one_and_never_worse_than_the_sum(seed: int) -> None:
    of, weight = toy(seed)
    gone = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    start = torch.where(gone, torch.zeros_like(weight), weight)
    solved = solve(of, weight, start, ~gone, iterations=400, tolerance=1e-10)
    h, g, w = hessian(of), gone.ravel(), weight.ravel()
    kept = ~g
    expected = torch.zeros(24, dtype=torch.float64)
    # Stationary on kept entries: H_kk d_k = H_kg w_g.
    expected[kept] = w[kept] + torch.linalg.solve(h[kept][:, kept], h[kept][:, g] @ w[g])
    torch.testing.assert_close(solved.matrix.ravel(), expected, rtol=1e-6, atol=1e-8)
    assert solved.residual < 1e-3
    gradient = of.product(solved.matrix - weight)[~gone]
    assert float(gradient.norm()) < 1e-3 * float(of.product(start - weight)[~gone].norm())
    summed = weight + summed_update(of, weight, gone)
    assert bool((summed[gone] == 0).all())
    assert float(of.loss(solved.matrix - weight)) <= float(of.loss(summed - weight)) * (1 + 1e-9)


def test_lowest_takes_the_cheapest_of_all_layers_and_empties_none() -> None:
    scores = {"a": torch.tensor([[1.0, 5.0], [2.0, 6.0]]), "b": torch.tensor([0.5, 0.1, 0.2])}
    chosen = lowest(scores, 4, 1.0)
    assert chosen["a"].tolist() == [[True, False], [True, False]]
    assert chosen["b"].tolist() == [False, True, True]  # 0.5 is cheaper than 2.0, but the last of its layer
    assert sum(int(mask.sum()) for mask in lowest(scores, 99, 1.0).values()) == 5
    assert sum(int(mask.sum()) for mask in lowest(scores, 99, 0.5).values()) == 2 + 1
    assert not any(mask.any() for mask in lowest(scores, 0, 1.0).values())


def test_bits_of_positions() -> None:
    kept = torch.zeros(8, 32, dtype=torch.bool)
    kept[:2] = True
    kept[5, 3] = True
    bits = position_bits(kept)
    assert bits.shape == kept.shape
    assert float(bits[0, 4]) == pytest.approx(VALUE_BITS + 1)  # in full rows a place costs a bit
    assert bits[5, 3] > bits[0, 3] + 2
    assert bits[7, 3] > bits[5, 3]
    many = torch.rand(64, 400, generator=torch.Generator().manual_seed(0)) < 0.05
    assert float((position_bits(many) - VALUE_BITS).mean()) == pytest.approx(-np.log2(0.05), abs=0.5)


def test_at_equal_loss_lonely_weights_go_first() -> None:
    kept = torch.zeros(8, 32, dtype=torch.bool)
    kept[:2] = True
    kept[5, 3] = kept[6, 20] = True
    scores = torch.where(kept, 1 / position_bits(kept), -torch.inf)
    gone = lowest({"w": scores}, 256 - 64, 1.0)["w"]
    assert not gone[:2].any()
    assert bool(gone[2:].all())


def test_price_in_bits_prunes(trained: nn.Module, batches: list[Any]) -> None:
    result = MLPrune(sparsity=0.75, steps=6, gamma=1e-4, price="bits").fit(trained, batches, F.cross_entropy)
    assert result.history[-1]["sparsity"] == pytest.approx(0.75, abs=0.002)
    assert loss_of(result.model, batches) < loss_of(magnitude(trained, 0.75), batches)


def test_dead_inputs_and_outputs_go_first() -> None:
    of, weight = toy(3)
    dead_input = of.input.clone()
    dead_input[:, 2, :] = dead_input[:, :, 2] = 0
    dead_output = of.output.clone()
    dead_output[:, 1, :] = dead_output[:, :, 1] = 0
    dead = Factors(dead_input, dead_output, False)
    scores = saliency(dead.damped(1e-4), weight, alive(dead))[0]
    assert bool((scores[:, 2] == 0).all())
    assert bool((scores[1] == 0).all())
    assert bool((scores[[0, 2, 3]][:, [0, 1, 3, 4, 5]] > 0).all())


@pytest.mark.parametrize("fisher", ["sampled", "empirical"])
def test_other_fisher_matrices(fisher: str) -> None:
    """One layer under softmax, one input for all: E[g g^T] over labels of the predictions, or as they are."""
    from nncodec.train.anchored import curvature

    torch.manual_seed(0)
    layer = nn.Linear(3, 4).double()
    x = torch.randn(1, 3, dtype=torch.float64).expand(8000, 3)
    labels = torch.arange(8000) % 4
    found = curvature(
        layer, [(x[:5000], labels[:5000]), (x[5000:], labels[5000:])], fisher, F.cross_entropy, 1
    )  # type: ignore[arg-type]
    p = layer(x[:1]).softmax(1)[0].detach()
    shares = p if fisher == "sampled" else torch.full((4,), 0.25, dtype=torch.float64)
    expected = sum(
        s * torch.outer(p - row, p - row) for s, row in zip(shares, torch.eye(4).double(), strict=True)
    )
    torch.testing.assert_close(found["weight"].output[0].double(), expected, rtol=0.05, atol=0.01)


# --- drawing examples


def test_sorted_loaders_are_stratified() -> None:
    x = torch.arange(900.0)[:, None]
    y = torch.arange(900) // 300
    batches = list(zip(x.split(50), y.split(50), strict=True))
    torch.manual_seed(0)
    drawn = stratified(batches, 90, 40)
    labels = torch.cat([labels for _, labels in drawn])
    assert torch.bincount(labels).tolist() == [30, 30, 30]
    assert all(len(part.unique()) == 3 for _, part in drawn)
    inputs = torch.cat([inputs for inputs, _ in drawn])
    assert torch.equal(inputs[:, 0].long() // 300, labels)
    assert len(inputs.unique()) == 90
    assert sum(len(part) for _, part in stratified(batches, 5000)) == 900
    rare = [*batches, (torch.full((4, 1), 1000.0), torch.full((4,), 3))]
    assert torch.bincount(torch.cat([labels for _, labels in stratified(rare, 90)])).tolist()[3] == 4


def test_examples_of_other_kinds_are_drawn_by_the_batch() -> None:
    batches = [({"ids": torch.full((4, 3), i)}, None) for i in range(100)]
    torch.manual_seed(0)
    drawn = stratified(batches, 10)
    assert len(drawn) == 10  # without targets a batch counts as one
    assert len({int(inputs["ids"][0, 0]) for inputs, _ in drawn}) == 10
    with pytest.raises(ValueError, match="empty"):
        stratified([], 10)


def test_missing_classes_are_said() -> None:
    with pytest.warns(UserWarning, match="1 of 4 classes"):
        warn_of_missing(torch.zeros(2, 4), [(torch.zeros(3, 1), torch.tensor([0, 1, 3]))])
    warn_of_missing(torch.zeros(2, 3), [(torch.zeros(3, 1), torch.tensor([0, 1, 2]))])
    warn_of_missing(torch.zeros(2, 3), [(torch.zeros(3, 1), torch.zeros(3, 2))])


# --- masks


def test_masked_training_keeps_parameters_and_their_order() -> None:
    layer = nn.Linear(4, 3)
    parameter, order = layer.weight, list(layer.state_dict())
    mask = torch.rand(3, 4) < 0.5
    with masked([(layer, mask)]):
        assert {"weight_orig", "weight_mask"} <= set(layer.state_dict())
        assert layer.weight_orig is parameter
        layer(torch.ones(1, 4)).sum().backward()
    assert layer.weight is parameter
    assert list(layer.state_dict()) == order
    assert bool((layer.weight[~mask] == 0).all())
    assert not layer.weight[~mask].signbit().any()
    assert parameter.grad is not None
    assert bool((parameter.grad[~mask] == 0).all())
    assert not layer._forward_pre_hooks


# --- networks


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
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2, bias=False), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 3),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


NAMES = ("0.weight", "3.weight", "6.weight", "8.weight")


def loss_of(model: nn.Module, batches: list[Any]) -> float:
    model.eval()
    with torch.no_grad():
        return float(np.mean([float(F.cross_entropy(model(x), y)) for x, y in batches]))


def magnitude(model: nn.Module, sparsity: float) -> nn.Module:
    from copy import deepcopy

    model = deepcopy(model)
    weights = [model.get_parameter(name) for name in NAMES]
    every = torch.cat([w.detach().abs().ravel() for w in weights])
    threshold = every.sort().values[round(sparsity * len(every)) - 1]
    with torch.no_grad():
        for w in weights:
            w[w.abs() <= threshold] = 0
    return model


def test_sparsity_is_met_and_the_loss_is_below_magnitudes(trained: nn.Module, batches: list[Any]) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    result = MLPrune(sparsity=0.8, steps=6, gamma=1e-4).fit(trained, batches, F.cross_entropy)
    weights = [result.model.get_parameter(name) for name in NAMES]
    count = sum(w.numel() for w in weights)
    assert sum(int(w.count_nonzero()) for w in weights) == round(0.2 * count)
    assert all(int(w.count_nonzero()) > 0 for w in weights)
    assert loss_of(result.model, batches) < loss_of(magnitude(trained, 0.8), batches)
    shares = list(result.history[-1]["densities"].values())
    assert max(shares) > 1.5 * min(shares)  # unequal without being told
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert not trained.training
    state = result.model.state_dict()
    assert list(state) == list(before)
    back = nncodec.decode(nncodec.encode(state, result.codec))
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert {name: value.shape for name, value in result.importance.items()} == {
        n: state[n].shape for n in NAMES
    }
    covered = np.concatenate([value.ravel() for value in result.importance.values()])
    assert covered.mean() == pytest.approx(1, rel=1e-4)
    assert covered.min() >= 0
    nncodec.encode(state, {"*": "uniform"}, bits_per_weight=6, importance=result.importance)


def test_compensations_are_in_the_order_of_their_cost(trained: nn.Module, batches: list[Any]) -> None:
    losses = {}
    for name, steps in (("none", 1), ("summed", 1), ("joint", 1), ("anchored", 6)):
        method = MLPrune(sparsity=0.75, steps=steps, compensation=name, gamma=1e-4, batchnorm=False)  # type: ignore[arg-type]
        result = method.fit(trained, batches, F.cross_entropy)
        losses[name] = loss_of(result.model, batches)
        assert result.history[-1]["sparsity"] == pytest.approx(0.75, abs=0.002)
    assert losses["anchored"] < 0.5 * min(losses["none"], losses["summed"], losses["joint"])
    joint, summed, none = (
        MLPrune(sparsity=0.75, steps=1, compensation=name, gamma=1e-3, batchnorm=False, iterations=300)  # type: ignore[arg-type]
        .fit(trained, batches, F.cross_entropy)
        .history[-1]["predicted_rise"]
        for name in ("joint", "summed", "none")
    )
    assert joint <= summed * (1 + 1e-4)
    assert joint < none


@pytest.mark.parametrize("fisher", ["sampled", "empirical", "output"])
def test_every_fisher_matrix_prunes(trained: nn.Module, batches: list[Any], fisher: Any) -> None:
    result = MLPrune(sparsity=0.6, steps=3, fisher=fisher, gamma=1e-3).fit(trained, batches, F.cross_entropy)
    assert loss_of(result.model, batches) < 0.7
    assert result.history[-1]["sparsity"] == pytest.approx(0.6, abs=0.002)


def test_size_is_met(trained: nn.Module, batches: list[Any]) -> None:
    whole = len(nncodec.encode(trained.state_dict()))
    for codec in ("lossless", nncodec.codecs.Codebook()):
        size = round(0.55 * whole)
        result = MLPrune(size=size, codec=codec, steps=3).fit(trained, batches, F.cross_entropy)
        rules = dict.fromkeys(NAMES, codec) | {"*": "lossless"}
        made = len(nncodec.encode(result.model.state_dict(), rules))
        assert 0.9 * size < made <= size
    enough = MLPrune(size=2 * whole, steps=2).fit(trained, batches, F.cross_entropy)
    assert enough.history[-1]["sparsity"] == 0


def test_cap_holds(trained: nn.Module, batches: list[Any]) -> None:
    result = MLPrune(sparsity=0.7, steps=3, cap=0.75).fit(trained, batches, F.cross_entropy)
    assert min(result.history[-1]["densities"].values()) >= 0.25 - 1e-9


def test_retraining_keeps_the_masks_and_lowers_the_loss(trained: nn.Module, batches: list[Any]) -> None:
    plain = MLPrune(sparsity=0.9, steps=4).fit(trained, batches, F.cross_entropy)
    tuned = MLPrune(sparsity=0.9, steps=4, epochs=4, between=1).fit(trained, batches, F.cross_entropy)
    assert [row.get("step", "train") for row in tuned.history] == [
        0, "train", 1, "train", 2, "train", 3, "train", "train", "train", "train",
    ]  # fmt: skip
    assert loss_of(tuned.model, batches) < loss_of(plain.model, batches)
    nonzero = [sum(int(r.model.get_parameter(n).count_nonzero()) for n in NAMES) for r in (plain, tuned)]
    assert nonzero[0] == nonzero[1]
    assert not any(name.endswith(("_orig", "_mask")) for name in tuned.model.state_dict())


class Interrupted(Exception):
    pass


def test_an_interrupted_run_ends_in_the_same_bits(
    trained: nn.Module, batches: list[Any], tmp_path: Path
) -> None:
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(
            torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
        ),
        batch_size=100,
        shuffle=True,
    )
    options: Any = {"sparsity": 0.8, "steps": 3, "epochs": 2, "between": 1, "seed": 5, "examples": 300}
    whole = MLPrune(**options).fit(trained, loader, F.cross_entropy)
    path = tmp_path / "run.nncz"
    seen: list[tuple[int, int]] = []
    for stop in (2, 5):

        def progress(done: int, total: int, stop: int = stop) -> None:
            seen.append((done, total))
            if done == stop:
                raise Interrupted

        with pytest.raises(Interrupted):
            MLPrune(**options, checkpoint=path, progress=progress).fit(trained, loader, F.cross_entropy)
    result = MLPrune(**options, checkpoint=path).fit(trained, loader, F.cross_entropy)
    assert seen == [(done, 7) for done in range(1, 6)]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(result.model.state_dict()[name], value), name
    assert result.history == whole.history


def test_options_are_checked() -> None:
    for wrong in (
        {}, {"sparsity": 0.5, "size": 100}, {"sparsity": 1.0}, {"size": 0}, {"sparsity": 0.5, "steps": 0},
        {"sparsity": 0.5, "gamma": 0.0}, {"sparsity": 0.5, "fisher": "none"}, {"sparsity": 0.5, "cap": 0.0},
        {"sparsity": 0.5, "price": "euro"}, {"sparsity": 0.5, "compensation": "all"}, {"sparsity": 0.5, "epochs": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must|one of"):
            MLPrune(**wrong)  # type: ignore[arg-type]


def test_layers_out_of_reach_are_left_alone(batches: list[Any]) -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(36, 3), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x.flatten(1))

    torch.manual_seed(0)
    model = Partly()
    result = MLPrune(sparsity=0.5, steps=2).fit(model, batches, F.cross_entropy)
    assert torch.equal(result.model.unused.weight, model.unused.weight)
    assert int(result.model.used.weight.count_nonzero()) == 54
    with pytest.raises(ValueError, match="reached"):
        MLPrune(sparsity=0.5, layers=("unused.*",)).fit(model, batches, F.cross_entropy)


def test_factors_count_examples_under_a_loss() -> None:
    """The empirical matrix of a mean loss does not depend on the batches' sizes."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    x, y = torch.randn(12, 3), torch.arange(12) % 2
    one = factors(layer, [(x, y)], loss=F.cross_entropy)["weight"].output
    many = factors(layer, list(zip(x.split(5), y.split(5), strict=True)), loss=F.cross_entropy)[
        "weight"
    ].output
    torch.testing.assert_close(one, many)
