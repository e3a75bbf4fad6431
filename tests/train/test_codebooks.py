"""SLQ, MLQ, straight-through clustering, compensated clustering: what they promise of every weight, on a toy."""

from __future__ import annotations

import itertools
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import nncodec  # noqa: E402
from nncodec.envelope import cells  # noqa: E402
from nncodec.train import MLQ, SLQ, CompensatedClustering, Method, StraightThrough  # noqa: E402
from nncodec.train.clusters import lloyd, nearest, power_of_two, start  # noqa: E402
from nncodec.train.freezing import Freezing  # noqa: E402

NAMES = ("0.weight", "3.weight", "5.weight")


@pytest.fixture(scope="module")
def batches() -> list[Any]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(512, 1, 6, 6)).astype(np.float32))
    y = (x[:, 0, :3].sum((1, 2)) > 0).long() + (x[:, 0, 3:].sum((1, 2)) > 0).long()
    return list(zip(x.split(64), y.split(64), strict=True))


@pytest.fixture(scope="module")
def model(batches: list[Any]) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 24), nn.ReLU(), nn.Linear(24, 3)
    )
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(12):
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
    return net.eval()


def accuracy(net: nn.Module, batches: list[Any]) -> float:
    net.eval()
    with torch.no_grad():
        return float(torch.cat([net(x).argmax(1) == y for x, y in batches]).float().mean())


METHODS: dict[str, Method] = {
    "slq": SLQ(bits=3, epochs=2),
    "slq as published": SLQ(bits=3, epochs=2, rejoin=False),
    "slq by error": SLQ(clusters=9, epochs=1, order="error"),
    "slq by magnitude": SLQ(clusters=4, epochs=1, order="magnitude", zero=False),
    "eslq": SLQ(clusters=5, epochs=1, values="power_of_two"),
    "mlq": MLQ(clusters=3, epochs=1, rounds=(2, 3)),
    "mlq in groups": MLQ(clusters=3, epochs=1, groups=(("0.*",), ("3.*", "5.*"))),
    "slq through centroids": SLQ(clusters=5, epochs=1, through=True, refresh=3),
    "eslq through centroids": SLQ(clusters=5, epochs=1, values="power_of_two", through=True, refresh=3),
    "mlq through centroids": MLQ(
        clusters=3, epochs=1, groups=(("0.*",), ("3.*", "5.*")), through=True, refresh=3
    ),
    "straight-through": StraightThrough(clusters=3, epochs=3, refresh=5),
    "straight-through, entropy": StraightThrough(clusters=9, epochs=3, refresh=5, entropy=0.1),
    "straight-through, settled": StraightThrough(bits=3, epochs=3, refresh=4, entropy=0.02, settle=0.8),
    "straight-through, powers": StraightThrough(bits=3, epochs=2, refresh=5, values="power_of_two"),
    "compensated": CompensatedClustering(clusters=5, steps=6),
    "compensated, refreshed": CompensatedClustering(clusters=3, steps=4, refresh=True),
}
LOSSY = {"straight-through, powers": 0.2, "mlq": 0.2, "compensated, refreshed": 0.2}


@pytest.mark.parametrize("name", METHODS)
def test_weights_are_few_values_and_come_back_exactly(
    name: str, model: nn.Module, batches: list[Any]
) -> None:
    method = METHODS[name]
    result = method.fit(model, batches, F.cross_entropy)
    k = method.clusters or 1 + (1 << (method.bits - 1))  # type: ignore[attr-defined]
    weights = result.model.state_dict()
    for weight in NAMES:
        values = weights[weight].unique()
        assert len(values) <= k
        if getattr(method, "values", "float") == "power_of_two":
            assert all(math.frexp(abs(float(v)))[0] in (0, 0.5) for v in values)
        if getattr(method, "zero", True):
            assert (values == 0).any() or len(values) < k
    blob = nncodec.encode(weights, result.codec)
    back = nncodec.decode(blob)
    assert all(torch.equal(back[n], weights[n]) for n in weights)
    assert len(blob) < 0.5 * sum(w.numel() * w.element_size() for w in weights.values())
    assert accuracy(result.model, batches) > accuracy(model, batches) - LOSSY.get(name, 0.12)


@pytest.mark.parametrize(
    "name", ["slq", "mlq", "mlq through centroids", "straight-through, settled", "compensated"]
)
def test_resumes_to_the_same_bits(name: str, model: nn.Module, batches: list[Any], tmp_path: Path) -> None:
    from dataclasses import replace

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done < total:
            raise Stop

    method = METHODS[name]
    if isinstance(method, SLQ | MLQ):
        method = replace(method, epochs=2)  # so that it is stopped within rounds, too
    whole = method.fit(model, batches, F.cross_entropy)
    path = tmp_path / "run.nncz"
    stopped = 0
    while True:  # after every unit
        try:
            resumed = replace(method, checkpoint=path, progress=stop).fit(model, batches, F.cross_entropy)
            break
        except Stop:
            stopped += 1
    assert stopped == len(whole.history) - 1
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
    assert resumed.history == whole.history


@pytest.mark.parametrize(
    "method",
    [
        SLQ(bits=3, epochs=1),
        MLQ(clusters=3, epochs=1),
        SLQ(bits=3, epochs=1, through=True, refresh=2),
        MLQ(clusters=3, epochs=1, through=True, refresh=2, rejoin=False),
    ],
)
def test_what_is_frozen_stays(method: Method, model: nn.Module, batches: list[Any], monkeypatch: Any) -> None:
    from nncodec.train import slq

    seen: list[dict[str, tuple[Tensor, Tensor]]] = []
    original = slq._Quantising.unit

    def unit(self: Any, index: int) -> dict[str, Any]:
        row = original(self, index)
        now = {n: (~layer.free, layer.weight.detach().clone()) for n, layer in self.layers.items()}
        for earlier in seen:
            for n, (frozen, values) in earlier.items():
                assert torch.equal(now[n][1][frozen], values[frozen])
        for frozen, values in now.values():
            assert len(values[frozen].unique()) <= len(next(iter(self.layers.values())).centroids)
        seen.append(now)
        return row

    monkeypatch.setattr(slq._Quantising, "unit", unit)
    result = method.fit(model, batches, F.cross_entropy)
    shares = [row["frozen"] for row in result.history]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize("values", ["float", "power_of_two"])
def test_freezing_what_was_shown_changes_nothing(
    values: Any, model: nn.Module, batches: list[Any], monkeypatch: Any
) -> None:
    """With centroids where they were, that is; weights that were not shown would move far."""
    method = SLQ(clusters=3, rounds=(3,), epochs=3, last_epochs=0, through=True, values=values)
    run = method._begin(deepcopy(model), batches, F.cross_entropy)
    for index in range(run.units - 1):
        run.unit(index)
    monkeypatch.setattr(Freezing, "cluster", lambda self: None)
    for layer in run.layers.values():
        layer.show()
    shown = {n: layer.weight.detach().clone() for n, layer in run.layers.items()}
    for layer in run.layers.values():
        layer.unveil()
    moved = max(float((layer.weight.detach() - shown[n]).abs().max()) for n, layer in run.layers.items())
    run.unit(run.units - 1)
    assert moved > 0.01
    assert all(torch.equal(layer.weight, shown[n]) for n, layer in run.layers.items())


def test_training_through_centroids_lowers_the_loss_at_them(model: nn.Module, batches: list[Any]) -> None:
    from nncodec.train.steps import mean_loss

    found = {}
    for epochs in (1, 8):
        method = SLQ(clusters=3, rounds=(3,), epochs=epochs, last_epochs=0, through=True, refresh=4)
        found[epochs] = mean_loss(
            method.fit(model, batches, F.cross_entropy).model.eval(), batches, F.cross_entropy
        )
    assert found[8] < 0.9 * found[1]


@pytest.mark.parametrize("values", ["float", "power_of_two"])
def test_what_has_settled_stays_in_its_cluster(values: Any, model: nn.Module, batches: list[Any]) -> None:
    """Its centroid may move, and all that are in it with it."""
    method = StraightThrough(bits=3, epochs=5, refresh=2, settle=0.8, values=values)
    run = method._begin(deepcopy(model), batches, F.cross_entropy)
    shares = []
    for index in range(run.units):
        before = {n: (layer.settled.clone(), layer.shadow.clone()) for n, layer in run.layers.items()}
        run.unit(index)
        for n, layer in run.layers.items():
            assert bool(layer.settled[before[n][0]].all())
            for value in before[n][1][before[n][0]].unique():
                together = before[n][0] & (before[n][1] == value)
                assert layer.shadow[together].unique().numel() == 1
                assert layer.weight[together].unique().numel() == 1
        shares.append(sum(int(la.settled.sum()) for la in run.layers.values()))
    assert shares[0] == 0 < shares[1] < shares[2] < shares[3]
    assert shares[-1] == sum(la.weight.numel() for la in run.layers.values())


def test_settled_weights_take_the_mean_of_their_steps(model: nn.Module, batches: list[Any]) -> None:
    run = StraightThrough(bits=3, epochs=1, settle=0.5)._begin(deepcopy(model), batches, F.cross_entropy)
    generator = torch.Generator().manual_seed(0)
    for layer in run.layers.values():
        layer.settle(0.6)
        old, settled, among = layer.centroids.clone(), layer.settled.clone(), layer.settled_in.clone()
        step = 0.01 * torch.randn(layer.weight.shape, generator=generator)
        with torch.no_grad():
            layer.weight.copy_(layer.shadow + step)
        free = (layer.shadow + step)[~settled]
        layer.keep()
        assert torch.equal(layer.shadow[~settled], free)
        for k, centroid in enumerate(old):
            mine = among == k
            wanted = centroid + step[mine].double().mean() if centroid and mine.any() else centroid
            assert float(layer.centroids[k]) == pytest.approx(float(wanted), abs=1e-6)
            assert bool((layer.shadow[mine] == layer.centroids[k]).all())
            assert centroid or float(layer.centroids[k]) == 0


def test_all_settle_whatever_the_loader_tells(model: nn.Module, batches: list[Any]) -> None:
    class WithoutLength:
        def __iter__(self) -> Any:
            return iter(batches)

    for loader, method in (
        (WithoutLength(), StraightThrough(bits=3, epochs=3, settle=0.5, refresh=3)),
        (batches, StraightThrough(bits=3, epochs=2, settle=0.5)),  # fewer steps than `refresh`
    ):
        run = method._begin(deepcopy(model), loader, F.cross_entropy)
        for index in range(run.units):
            run.unit(index)
        assert all(bool(layer.settled.all()) for layer in run.layers.values())


def test_a_pruned_layer_settles_too(model: nn.Module, batches: list[Any]) -> None:
    """Zeros stay, even where there is nothing else; and in another memory layout."""
    net = deepcopy(model).to(memory_format=torch.channels_last)
    with torch.no_grad():
        net[3].weight.zero_()
        net[0].weight[::2] = 0
    method = StraightThrough(clusters=5, epochs=3, refresh=2, entropy=0.05, settle=0.8, sparse=True)
    result = method.fit(net, batches, F.cross_entropy)
    assert not result.model[3].weight.any()
    assert not result.model[0].weight[::2].any()
    assert result.model[0].weight.unique().numel() <= 6
    again = method.fit(net.to(memory_format=torch.contiguous_format), batches, F.cross_entropy)
    assert result.history == again.history


def test_the_border_settles_first(model: nn.Module, batches: list[Any]) -> None:
    run = StraightThrough(bits=3, epochs=1)._begin(deepcopy(model), batches, F.cross_entropy)
    for layer in run.layers.values():
        shadow = layer.shadow.clone()
        distance = (shadow[..., None] - layer.thresholds).abs().min(-1).values
        layer.settle(0.25)
        assert int(layer.settled.sum()) == round(0.25 * shadow.numel())
        assert distance[layer.settled].max() <= distance[~layer.settled].min()
        assert torch.equal(layer.shadow[~layer.settled], shadow[~layer.settled])


def test_hard_weights_first_is_better(model: nn.Module, batches: list[Any]) -> None:
    rises = {
        order: CompensatedClustering(clusters=3, steps=8, order=order)  # type: ignore[arg-type]
        .fit(model, batches, F.cross_entropy).history[-1]["predicted_rise"]
        for order in ("largest", "smallest")
    }  # fmt: skip
    assert rises["largest"] < rises["smallest"]


def test_a_layer_without_use_for_its_clusters(batches: list[Any]) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Linear(4, 3))
    with torch.no_grad():
        net[1].weight.zero_()
        net[2].weight.fill_(0.5)
    methods: list[Method] = [SLQ(bits=5, epochs=1), StraightThrough(bits=4, epochs=1)]
    methods += [CompensatedClustering(clusters=3, steps=2)]
    for method in methods:
        weights = method.fit(net, batches, F.cross_entropy).model.state_dict()
        assert all(w.isfinite().all() for w in weights.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SLQ(), "bits or clusters"),
        (lambda: SLQ(bits=3, clusters=4), "bits or clusters"),
        (lambda: SLQ(clusters=3, rounds=(1, 2)), "rounds"),
        (lambda: SLQ(clusters=3, order="best"), "order"),  # type: ignore[arg-type]
        (lambda: MLQ(clusters=3, epochs=0), "epochs"),
        (lambda: SLQ(clusters=3, through=True, refresh=0), "refresh"),
        (lambda: StraightThrough(clusters=3, entropy=-1), "entropy"),
        (lambda: StraightThrough(clusters=3, settle=1.5), "settle"),
        (lambda: CompensatedClustering(clusters=3, gamma=0), "gamma"),
    ],
)
def test_bad_options(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@settings(deadline=None)
@given(k=st.sampled_from([5, 9, 17]), seed=st.integers(0, 2**16), rejoin=st.booleans())
def test_centroids_stay_in_order(k: int, seed: int, rejoin: bool) -> None:
    """Rounded to powers of two, some pass others that are not rounded yet; weights still go to the nearest."""
    generator = torch.Generator().manual_seed(seed)
    layer = Freezing(nn.Parameter(torch.randn(200, generator=generator)), k, True, rejoin, True)
    while not layer.settled.all():
        layer.cluster()
        kept = layer.weight.detach()[~layer.free].clone(), ~layer.free
        left = (~layer.settled).nonzero()[:, 0]
        chosen = torch.zeros(k, dtype=torch.bool)
        chosen[left[torch.randperm(len(left), generator=generator)[: (len(left) + 2) // 3]]] = True
        layer.freeze(chosen)
        assert bool((layer.centroids.diff() >= 0).all())
        assert torch.equal(layer.weight.detach()[kept[1]], kept[0])
        assert torch.equal(
            layer.weight.detach()[~layer.free], layer.centroids[layer.index[~layer.free].long()]
        )
        if rejoin:
            distance = (layer.weight.detach()[:, None] - layer.centroids).abs()
            assert torch.equal(distance.gather(1, layer.nearest()[:, None])[:, 0], distance.min(1).values)


@pytest.mark.parametrize("value", [-0.5, 0.5])
def test_a_constant_layer_stays(value: float, batches: list[Any]) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    nn.init.constant_(net[1].weight, value)
    result = StraightThrough(clusters=3, entropy=0.05, epochs=1, lr=1e-9).fit(net, batches, F.cross_entropy)
    torch.testing.assert_close(result.model[1].weight, net[1].weight, rtol=1e-3, atol=0)


def test_bad_groups(model: nn.Module, batches: list[Any]) -> None:
    with pytest.raises(ValueError, match="groups"):
        MLQ(clusters=3, groups=(("0.*",),)).fit(model, batches, F.cross_entropy)
    with pytest.raises(ValueError, match="layers"):
        SLQ(clusters=3, layers=("nothing.*",)).fit(model, batches, F.cross_entropy)


# --- clusters


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 1 << 30))
def test_lloyd_lowers_the_error_and_leaves_pinned_centroids(n: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=generator)
    first = start(x, k, True)
    pinned = first == 0
    assert torch.equal(first.sort().values, first)
    errors, now = [], first
    for _ in range(4):
        errors.append(float(((x - now[nearest(x, now)]) ** 2).sum()))
        now = lloyd(x, now, ~pinned, 1)
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(errors))
    assert torch.equal(now[pinned], first[pinned])


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 8), st.integers(0, 1 << 30))
def test_cells_are_where_the_cost_is_least(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    centroids = np.sort(np.round(rng.normal(size=k), 1))
    rates = np.where(rng.random(k) < 0.2, np.inf, rng.random(k))
    if np.isinf(rates).all():
        rates[0] = 0.0
    thresholds, kept = cells(centroids.tolist(), rates.tolist())
    assert thresholds == sorted(thresholds)
    x = rng.normal(size=50) * 2
    cost = (x[:, None] - centroids) ** 2 + rates
    mine = np.array(kept)[np.searchsorted(thresholds, x)]
    np.testing.assert_allclose(cost[np.arange(50), mine], cost.min(1))


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-30, 1e30))
def test_power_of_two_is_the_rule(c: float) -> None:
    c = float(np.float32(c))
    expected = 2.0 ** math.floor(math.log2(4 * c / 3))
    got = power_of_two(torch.tensor([c, -c, 0.0])).tolist()
    if not math.isclose(math.log2(4 * c / 3) % 1, 0, abs_tol=1e-6) and math.log2(4 * c / 3) % 1 < 1 - 1e-6:
        assert got == [expected, -expected, 0.0]
    assert min(abs(c - got[0]), abs(c - 2 * got[0]), abs(c - got[0] / 2)) == abs(c - got[0])
