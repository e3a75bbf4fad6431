"""SLQ, MLQ, straight-through clustering, compensated clustering: what they promise of every weight, on a toy."""

from __future__ import annotations

import itertools
import math
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
    "straight-through": StraightThrough(clusters=3, epochs=3, refresh=5),
    "straight-through, entropy": StraightThrough(clusters=9, epochs=3, refresh=5, entropy=0.1),
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


@pytest.mark.parametrize("name", ["slq", "mlq", "straight-through, entropy", "compensated"])
def test_resumes_to_the_same_bits(name: str, model: nn.Module, batches: list[Any], tmp_path: Path) -> None:
    from dataclasses import replace

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise Stop

    method = METHODS[name]
    whole = method.fit(model, batches, F.cross_entropy)
    path = tmp_path / "run.nncz"
    with pytest.raises(Stop):
        replace(method, checkpoint=path, progress=stop).fit(model, batches, F.cross_entropy)
    resumed = replace(method, checkpoint=path).fit(model, batches, F.cross_entropy)
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)
    assert resumed.history == whole.history


@pytest.mark.parametrize("method", [SLQ(bits=3, epochs=1), MLQ(clusters=3, epochs=1)])
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
        (lambda: StraightThrough(clusters=3, entropy=-1), "entropy"),
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
    from nncodec.train.slq import _Layer

    generator = torch.Generator().manual_seed(seed)
    layer = _Layer(nn.Parameter(torch.randn(200, generator=generator)), k, True, rejoin)
    while not layer.settled.all():
        layer.cluster()
        kept = layer.weight.detach()[~layer.free].clone(), ~layer.free
        left = (~layer.settled).nonzero()[:, 0]
        chosen = torch.zeros(k, dtype=torch.bool)
        chosen[left[torch.randperm(len(left), generator=generator)[: (len(left) + 2) // 3]]] = True
        layer.freeze(chosen, True)
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
