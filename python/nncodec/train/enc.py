"""Efficient network compression: every layer as two of a lower rank, all ranks chosen at once.

Kim, Khan and Kyung (CVPR 2019, arXiv:1811.12781): a metric per layer, one cost for the whole network, one search.
Beside the paper's metrics and searches stand ours, which are the defaults: the rise of the loss that the layers'
curvature predicts, factors that are best for what the layer computes, two forms of each convolution to choose from, and
the exact search by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nncodec.train import ranks as search_for
from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.batchnorm import freeze_statistics, measure_statistics
from nncodec.train.kfac import factors
from nncodec.train.layer_costs import Complexity, dense_cost, layer_sizes, rank_cost, split_bytes
from nncodec.train.lowrank import Form, Split, fitted, forms_of, full_rank, replacement, rise, split
from nncodec.train.rank_metrics import (
    monotone_cubic,
    pca_energy,
    points_to_measure,
    rising_points,
    through_points,
    vbmf_rank,
)
from nncodec.train.ranks import Curve, Found
from nncodec.train.refit import refit
from nncodec.train.steps import (
    call,
    compressible,
    cosine,
    device_of,
    epoch,
    evaluating,
    first_examples,
    moved,
    sgd,
)

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["ENC"]

_POINTS = 8  # ranks at which a predicted or coded quantity is computed; between them it is interpolated
_LEAST = 0.1  # of the largest rank


@dataclass(frozen=True)
class ENC(Method):
    """Decompose, and train on if asked to.

    Parameters
    ----------
    target : float
        Cost afterwards, as a share of that of all linear and convolution layers now.
    complexity : {"macs", "parameters", "bytes"}
        Multiplications of one example of the loader's first batch; weights; or bytes of the trellis codec at a relative
        squared error of 1e-3.
    search : {"exact", "map", "model", "inf", "uniform"}
        Dynamic programming; ENC-Map; ENC-Model; ENC-Inf; or the same share of the largest rank everywhere.
    metric : {"loss", "pca", "accuracy"}
        Of a layer at a rank: exp(-rise of the loss by the layer's curvature); the energy of its singular values; or
        the accuracy with this layer cut, measured at the paper's ranks (targets must be classes). "model" and "inf" use
        "pca" as second metric beside "accuracy".
    form : {"auto", "paper", "spatial", "channel"}
        Of convolutions: for each what serves best at its cost; as in the paper, "spatial" but for the one that reads
        the data; or one form for all that can take it. Linear layers have one form.
    factors : {"curvature", "svd"}
        Best for what the layer computes, second factors then fitted to the network's own outputs, layer after layer;
        or truncated singular values of the weights.
    examples : int
        How many of the loader, from its start, curvature, accuracy and batch normalisation are measured on.
    epochs, lr, momentum, weight_decay
        Of training afterwards, by stochastic gradient descent; the rate falls to 0 along a cosine. Batch normalisation
        keeps its statistics.
    layers : tuple of str
        Glob patterns over names of weights. Layers that share their weight, and depthwise convolutions, stay as they
        are.
    """

    target: float = 0.5
    complexity: Complexity = "macs"
    search: Literal["exact", "map", "model", "inf", "uniform"] = "exact"
    metric: Literal["loss", "pca", "accuracy"] = "loss"
    form: Literal["auto", "paper", "spatial", "channel"] = "auto"
    factors: Literal["curvature", "svd"] = "curvature"
    examples: int = 2048
    epochs: int = 0
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ValueError(f"target must be above 0 and at most 1, got {self.target!r}")
        for name, known in (
            ("complexity", ("macs", "parameters", "bytes")),
            ("search", ("exact", "map", "model", "inf", "uniform")),
            ("metric", ("loss", "pca", "accuracy")),
            ("form", ("auto", "paper", "spatial", "channel")),
            ("factors", ("curvature", "svd")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(repr, known))}, got {getattr(self, name)!r}"
                )
        if self.examples < 1 or self.epochs < 0:
            raise ValueError("examples must be at least 1, epochs at least 0")
        if self.search == "uniform" and self.form == "auto":
            raise ValueError("search 'uniform' compares ranks of one form: give form")

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Decomposing(self, model, loader, loss)


class _Decomposing(Run):
    def __init__(self, method: ENC, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.method = method
        if isinstance(model, nn.Linear | nn.Conv2d):
            raise ValueError("model is a single layer: put it into an nn.Sequential")
        compressible(model, method.layers)
        self.chosen: dict[str, tuple[Form, int]] = {}
        self.optimizer: torch.optim.SGD | None = None

    @property
    def units(self) -> int:
        return 1 + self.method.epochs

    def unit(self, index: int) -> dict[str, Any]:
        if index == 0:
            return self._decompose()
        method = self.method
        optimizer = self._optimizer()
        self.model.train()
        freeze_statistics(self.model)
        value = epoch(
            self.model,
            self.loader,
            self.loss,
            optimizer,
            rate=lambda share: cosine(method.lr, (index - 1 + share) / method.epochs),
        )
        return {"stage": "tune", "epoch": index - 1, "loss": value}

    def _optimizer(self) -> torch.optim.SGD:
        if self.optimizer is None:
            method = self.method
            self.optimizer = sgd(self.model.parameters(), method.lr, method.momentum, method.weight_decay)
        return self.optimizer

    def _decompose(self) -> dict[str, Any]:
        network = Network(self.method, self.model, self.loader)
        found = network.search(self.method.target)
        original = deepcopy(self.model) if self.method.factors == "curvature" else None
        self.chosen = network.decompose(found)
        if original is not None:
            modules = [name.rpartition(".")[0] for name in network.sizes if name in self.chosen]
            refit(self.model, original, modules, network.batches)
        else:  # least squares have matched what the statistics were measured on; to measure again would undo it
            measure_statistics(self.model, network.batches)
        told = ", ".join(f"{name} {form} {rank}" for name, (form, rank) in self.chosen.items())
        return {
            "stage": "decompose",
            "cost": (network.fixed + found.cost) / network.total,
            "metric": found.metric,
            "ranks": told,
        }

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"chosen": {name: list(choice) for name, choice in self.chosen.items()}}
        if self.optimizer is not None:
            state["optimizer"] = self.optimizer.state_dict()
        return state

    def rebuild(self, state: Mapping[str, Any]) -> None:
        modules = dict(self.model.named_modules())
        for name, (form, rank) in state["chosen"].items():
            module = modules.get(name.rpartition(".")[0])
            if module is None or form not in forms_of(module) or rank > full_rank(module, form):
                raise ValueError(f"checkpoint is of another model: {name!r}")
            _put(self.model, module, replacement(module, split(module, form, rank=rank)))
            self.chosen[name] = (form, rank)

    def restore(self, state: Mapping[str, Any]) -> None:
        if "optimizer" in state:
            self._optimizer().load_state_dict(state["optimizer"])

    def codec(self) -> Mapping[str, str | Codec]:
        names = [f"{name.rpartition('.')[0]}.{part}.weight" for name in self.chosen for part in (0, 1)]
        return codec_mapping(dict.fromkeys(names, "lossless"))


@dataclass(frozen=True)
class _Layer:
    """One layer and its choices, in the order of the curve's: form and rank, or None for the layer as it is."""

    name: str
    module: nn.Module
    choices: list[tuple[Form, int] | None]
    curve: Curve


class Network:
    """Curves of a model's layers, the search over them, and what is made of its outcome.

    Attributes
    ----------
    batches : list
        What everything is measured on.
    curves : list of Curve
        Of the layers that can be cut.
    total, fixed : float
        Cost of all layers as they are, and of those that stay so.
    """

    def __init__(self, method: ENC, model: nn.Module, loader: Loader) -> None:
        self.method = method
        self.model = model
        self.batches = list(first_examples(loader, method.examples))
        every = compressible(model)
        self.sizes = layer_sizes(model, every, self.batches)
        cuttable = {
            name: module
            for name, module in compressible(model, method.layers).items()
            if name in self.sizes and forms_of(module) and _alone(model, module)
        }
        self._first = next(iter(self.sizes), "")
        wants_curvature = method.metric == "loss" or method.factors == "curvature"
        self._curvature = factors(model, self.batches, bias=False) if wants_curvature else {}
        self._splits: dict[tuple[str, Form], Split] = {}
        self._base = self._accuracy({}) if method.metric == "accuracy" else 1.0
        costs = {
            name: dense_cost(module, self.sizes[name], method.complexity)
            for name, module in every.items()
            if name in self.sizes
        }
        self.layers = [self._layer(name, module, costs[name]) for name, module in cuttable.items()]
        self.curves = [layer.curve for layer in self.layers]
        self.total = sum(costs.values())
        self.fixed = self.total - sum(costs[layer.name] for layer in self.layers)

    def search(self, target: float) -> Found:
        """Choices within ``target`` of the whole cost."""
        budget = target * self.total - self.fixed
        kind = self.method.search
        if kind == "uniform":
            return search_for.uniform(self.curves, budget)
        if kind == "map":
            return search_for.equal_metric(self.curves, budget)
        if kind == "exact":
            return search_for.exact(self.curves, budget)
        candidates = search_for.bounded(self.curves, budget, self.total)
        if kind == "model":
            return candidates[0]
        return search_for.measured(candidates, lambda found: self._accuracy(self._cut(found)))

    def decompose(self, found: Found) -> dict[str, tuple[Form, int]]:
        """Replace layers of the model; form and rank of each by the name of its weight."""
        chosen: dict[str, tuple[Form, int]] = {}
        for layer, number in zip(self.layers, found.choices, strict=True):
            choice = layer.choices[number]
            if choice is not None:
                chosen[layer.name] = choice
                _put(self.model, layer.module, replacement(layer.module, self._best(layer, *choice)))
        return chosen

    def _best(self, layer: _Layer, form: Form, rank: int) -> Split:
        if self.method.factors == "svd":
            return self._split(layer.name, layer.module, form).cut(rank)
        return split(layer.module, form, self._curvature[layer.name], rank=rank, fits=3)

    def _split(self, name: str, module: nn.Module, form: Form) -> Split:
        """All terms of a layer's singular value decomposition."""
        key = (name, form)
        if key not in self._splits:
            self._splits[key] = split(module, form)
        return self._splits[key]

    # --- curves

    def _layer(self, name: str, module: nn.Module, dense: float) -> _Layer:
        able = forms_of(module)
        form = self.method.form
        if form == "paper":
            form = "channel" if name == self._first else "spatial"
        wanted: Sequence[Form] = able if form == "auto" else [form if form in able else able[0]]
        choices: list[tuple[Form, int] | None] = []
        costs, metrics, seconds = [], [], []
        points = None
        for each in wanted:
            cost, metric, second, points = self._curve(name, module, each, dense)
            largest = len(cost) - 1
            least = max(1, round(_LEAST * largest))
            first = least if form == "auto" else 0
            choices += [(each, rank) for rank in range(first, largest + 1)]
            costs += list(cost[first:])
            metrics += list(metric[first:])
            seconds += list(second[first:])
        choices.append(None)
        costs.append(dense)
        metrics.append(1.0)
        seconds.append(1.0)
        if form != "auto":
            least = max(1, round(_LEAST * (len(costs) - 2))) if len(costs) > 2 else len(costs) - 1
            curve = Curve(
                name, np.array(costs), np.maximum.accumulate(metrics), least, np.array(seconds), points
            )
            return _Layer(name, module, choices, curve)
        # Of several forms, those that no cheaper choice equals, the layer as it is always among them.
        order = np.lexsort((-np.array(metrics), costs))
        kept: list[int] = []
        for i in order:
            if not kept or metrics[i] > metrics[kept[-1]]:
                kept.append(int(i))
        if choices[kept[-1]] is not None:
            kept.append(len(choices) - 1)
        curve = Curve(name, np.array([costs[i] for i in kept]), np.array([metrics[i] for i in kept]), 0)
        return _Layer(name, module, [choices[i] for i in kept], curve)

    def _curve(
        self, name: str, module: nn.Module, form: Form, dense: float
    ) -> tuple[
        NDArray[np.float64],
        NDArray[np.float64],
        NDArray[np.float64],
        tuple[Sequence[float], Sequence[float]] | None,
    ]:
        """Costs and metrics at ranks 0 to the largest that costs less than the layer as it is."""
        method = self.method
        full = full_rank(module, form)
        if method.complexity == "bytes":
            sampled = _spread(full)
            known = split_bytes(self._split(name, module, form), sampled)
            cost = np.maximum.accumulate(np.interp(np.arange(full + 1), [0, *sampled], [0.0, *known]))
        else:
            each = rank_cost(module, form, self.sizes[name], method.complexity)
            cost = each * np.arange(full + 1.0)
        largest = int(np.searchsorted(cost, dense)) - 1  # the last one below
        if largest < 1:
            return np.zeros(1), np.zeros(1), np.zeros(1), None
        values = torch.linalg.svdvals(_flat(self._split(name, module, form))).mean(0).numpy()
        pca = pca_energy(values, largest)
        if method.metric == "pca":
            return cost[: largest + 1], pca, pca, None
        if method.metric == "loss":
            sampled = _spread(largest)
            white = split(module, form, self._curvature[name])
            loss = [
                rise(module, self._curvature[name], self._candidate(name, module, white, r)) for r in sampled
            ]
            falling = np.minimum.accumulate(loss)
            # The rise at rank 0, where the layer is gone.
            gone = Split(form, white.left[:, :, :0], white.right[:, :0])
            start = max(rise(module, self._curvature[name], gone), falling[0])
            predicted = monotone_cubic([0, *sampled], [start, *falling], np.arange(largest + 1))
            return cost[: largest + 1], np.maximum.accumulate(np.exp(-np.maximum(predicted, 0))), pca, None
        weight: Tensor = module.weight
        flat = _flat(self._split(name, module, form))
        bayes = vbmf_rank(torch.linalg.svdvals(flat)[0].numpy(), flat.shape[1], flat.shape[2])
        tried = points_to_measure(min(bayes, 4 * largest), largest)
        if largest not in tried:
            tried = (*tried, largest)
        accuracies = [
            self._accuracy({name: self._split(name, module, form).cut(rank).weight(module).to(weight)})
            / self._base
            for rank in tried
        ]
        points = rising_points(tried[:-1], accuracies[:-1], largest)
        return cost[: largest + 1], through_points(points, largest), pca, points

    def _candidate(self, name: str, module: nn.Module, white: Split, rank: int) -> Split:
        if self.method.factors == "svd":
            return self._split(name, module, white.form).cut(rank)
        return fitted(module, white.cut(rank), self._curvature[name])

    # --- measuring

    def _cut(self, found: Found) -> dict[str, Tensor]:
        """Weights of the layers as the outcome of a search has them."""
        weights = {}
        for layer, number in zip(self.layers, found.choices, strict=True):
            choice = layer.choices[number]
            if choice is not None:
                weight: Tensor = layer.module.weight
                weights[layer.name] = self._best(layer, *choice).weight(layer.module).to(weight)
        return weights

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _accuracy(self, weights: Mapping[str, Tensor]) -> float:
        """Share of the examples whose class is the likeliest, with some weights replaced."""
        own = dict(self.model.named_parameters())
        before = {name: own[name].detach().clone() for name in weights}
        right, examples = 0, 0
        try:
            for name, value in weights.items():
                own[name].copy_(value)
            with evaluating(self.model):
                for inputs, targets in self.batches:
                    outputs = call(self.model, moved(inputs, device_of(self.model)))
                    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.ndim != 1:
                        raise ValueError("metric 'accuracy' and search 'inf' need classes as targets")
                    right += int((outputs.argmax(1).cpu() == targets.cpu()).sum())
                    examples += len(targets)
        finally:
            for name, value in before.items():
                own[name].copy_(value)
        return right / max(examples, 1)


def _spread(largest: int) -> list[int]:
    """Ranks from 1 to the largest, closer to each other where they are small."""
    return sorted({max(1, round(largest * (i / _POINTS) ** 1.5)) for i in range(1, _POINTS + 1)})


def _flat(found: Split) -> Tensor:
    """The product as a matrix per group."""
    matrix = found.matrix()
    return matrix.reshape(*matrix.shape[:2], -1)


def _alone(model: nn.Module, module: nn.Module) -> bool:
    """Whether no other module has this one's weight."""
    weight: Tensor = module.weight
    return sum(any(p is weight for p in m.parameters(recurse=False)) for m in model.modules()) == 1


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module wherever it stands."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
