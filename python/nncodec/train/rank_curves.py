"""What a network's layers can be cut to, what that costs and is worth, and the network that a choice makes: for ENC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nncodec.train import ranks as search_for
from nncodec.train.base import Loader
from nncodec.train.kfac import factors
from nncodec.train.layer_costs import dense_cost, layer_sizes, rank_cost, split_bytes
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
from nncodec.train.steps import alone, call, compressible, device_of, evaluating, first_examples, moved

if TYPE_CHECKING:
    from nncodec.train.enc import ENC

__all__ = ["Network", "put"]

_POINTS = 8  # ranks at which a predicted or coded quantity is computed; between them it is interpolated
_LEAST = 0.1  # of the largest rank

_Points: TypeAlias = tuple[Sequence[float], Sequence[float]]


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
            if name in self.sizes and forms_of(module) and alone(model, module)
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
                put(self.model, layer.module, replacement(layer.module, self._best(layer, *choice)))
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
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], _Points | None]:
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


def put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module wherever it stands."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # named_children gives one of two names
            if child is old:
                setattr(parent, name, new)
