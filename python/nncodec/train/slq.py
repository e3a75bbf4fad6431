"""Single- and multi-level quantisation: weights become centroids a group at a time, the rest is retrained.

Xu, Wang, Zhou, Lin, Xiong: "Deep Neural Network Compression with Single and Multiple Level Quantization" (AAAI 2018).
A round clusters the weights that are still free, tries each cluster alone (its members at their centroid), freezes
those that raise the loss most, and retrains what is free. SLQ takes all layers at once; MLQ one group of layers after
the other, which is what ternary networks need. With ``through`` a round trains first, through the centroids, and then
freezes.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.clusters import cluster_count
from nncodec.train.freezing import Freezing
from nncodec.train.steps import (
    compressible,
    cosine,
    epoch,
    evaluating,
    first_examples,
    length,
    mean_loss,
    sgd,
)

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["MLQ", "SLQ"]

Order = Literal["loss", "error", "magnitude", "reverse"]
_ORDERS = ("loss", "error", "magnitude", "reverse")
# Clusters frozen after each round, by how many there are; the last is the schedule of the released code.
_ROUNDS = {3: (1, 2, 3), 5: (2, 4, 5), 9: (3, 5, 7, 9), 17: (5, 9, 13, 15, 17)}


@dataclass(frozen=True)
class _Quantisation(Method):
    """Options that SLQ and MLQ share."""

    bits: int | None = None
    clusters: int | None = None
    rounds: tuple[int, ...] | None = None
    epochs: int = 2
    last_epochs: int = 1
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 0.0
    order: Order = "loss"
    values: Literal["float", "power_of_two"] = "float"
    zero: bool = True
    rejoin: bool = True
    calibration: int = 2000
    layers: tuple[str, ...] = ("*",)
    through: bool = False
    refresh: int = 200

    def __post_init__(self) -> None:
        k = self._k
        if self.order not in _ORDERS:
            raise ValueError(f"order must be one of {', '.join(_ORDERS)}, got {self.order!r}")
        if self.values not in ("float", "power_of_two"):
            raise ValueError(f"values must be 'float' or 'power_of_two', got {self.values!r}")
        rounds = self._rounds
        if list(rounds) != sorted(set(rounds)) or rounds[0] < 1 or rounds[-1] != k:
            raise ValueError(f"rounds must ascend to {k}, the number of clusters; got {rounds!r}")
        if self.epochs < 1 or self.last_epochs < 0:
            raise ValueError("epochs must be at least 1, last_epochs at least 0")
        if self.refresh < 1:
            raise ValueError("refresh must be at least 1 step")
        if self.calibration < 1:
            raise ValueError("calibration must be at least 1 example")

    @property
    def _k(self) -> int:
        return cluster_count(self.bits, self.clusters)

    @property
    def _rounds(self) -> tuple[int, ...]:
        if self.rounds is not None:
            return tuple(self.rounds) or (0,)
        k = self._k
        return _ROUNDS.get(k) or tuple(sorted({-(-k * share // 10) for share in (3, 5, 7, 8, 9, 10)}))

    @abstractmethod
    def _groups(self, names: Sequence[str]) -> list[list[str]]:
        """Names of the layers that are quantised together, in order."""

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Quantising(self, model, loader, loss)


@dataclass(frozen=True)
class SLQ(_Quantisation):
    """Single-level quantisation of all linear and convolution weights. Biases and norms stay float and are trained.

    Parameters
    ----------
    bits, clusters : int
        One of them: 2^(bits - 1) + 1 clusters per layer, or so many.
    rounds : tuple of int, optional
        How many clusters of each layer are frozen after each round.
    epochs, last_epochs : int
        Of retraining after each round, after the last round.
    lr, momentum, weight_decay : float
        Of stochastic gradient descent; the rate falls to 0 along a cosine in every round. Decay would pull the free
        weights to zero round after round; 0 is right.
    order : {"loss", "error", "magnitude", "reverse"}
        What is frozen first: the clusters whose quantisation raises the loss most (the paper's rule), those of
        greatest squared error (needs no pass over data), of greatest centroid and zero (the released code), or, for
        comparison, those that raise the loss least.
    values : {"float", "power_of_two"}
        With powers of two for centroids this is what the paper calls ESLQ: products become shifts.
    zero : bool
        Whether one centroid is 0 and stays so.
    rejoin : bool
        Whether free weights may go to centroids that are settled already, if those are nearest. In the paper they may
        not, which costs accuracy (docs/codecs/codebook.md).
    calibration : int
        Examples, the first of the loader, that the loss test runs on.
    layers : tuple of str
        Glob patterns over names of weights.
    through : bool
        Whether free weights of the group in hand are trained through their centroids (straight-through gradients, as
        in :class:`StraightThrough`), for ``epochs`` epochs before each freezing and ``last_epochs`` after the last one.
        Freezing then costs the loss next to nothing, and little depends on ``order``. Not in the paper; better where
        few weights are left to make good what freezing spoilt, as in ternary networks.
    refresh : int
        With ``through``, centroids that are not settled are fitted again every so many steps of an epoch.
    """

    def _groups(self, names: Sequence[str]) -> list[list[str]]:
        return [list(names)]


@dataclass(frozen=True)
class MLQ(_Quantisation):
    """Multi-level quantisation: the rounds of SLQ on one group of layers after the other.

    Parameters as of :class:`SLQ` (EMLQ with powers of two), and

    Parameters
    ----------
    groups : tuple of tuple of str, optional
        Glob patterns over names of weights: which layers make a group, in order; together they must name each weight
        once. Default: each layer by itself, from input to output.
    """

    groups: tuple[tuple[str, ...], ...] | None = None

    def _groups(self, names: Sequence[str]) -> list[list[str]]:
        if self.groups is None:
            return [[name] for name in names]
        from fnmatch import fnmatchcase

        found = [[n for n in names if any(fnmatchcase(n, pattern) for pattern in g)] for g in self.groups]
        if sorted(itertools.chain(*found)) != sorted(names) or not all(found):
            raise ValueError("groups must name each weight once, and each group at least one")
        return found


@dataclass(frozen=True)
class _Round:
    """Of ``frozen`` layers, ``clusters`` each are frozen in all before the training, in which others are shown."""

    frozen: Sequence[str]
    clusters: int
    shown: Sequence[str]


class _Quantising(Run):
    def __init__(self, method: _Quantisation, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.method = method
        found = compressible(model, method.layers)
        self.layers = {
            name: Freezing(
                module.weight, method._k, method.zero, method.rejoin, method.values == "power_of_two"
            )
            for name, module in found.items()
        }
        steps = [(group, n) for group in method._groups(list(found)) for n in method._rounds]
        self.rounds = [_Round(group, n, ()) for group, n in steps]
        if method.through:
            shown = [*(group for group, _ in steps), ()]
            steps = [([], 0), *steps]
            self.rounds = [_Round(group, n, s) for (group, n), s in zip(steps, shown, strict=True)]
        self.optimizer = sgd(model.parameters(), method.lr, method.momentum, method.weight_decay)
        self._batches: list[Any] | None = None

    @property
    def units(self) -> int:
        return (len(self.rounds) - 1) * self.method.epochs + max(1, self.method.last_epochs)

    def unit(self, index: int) -> dict[str, Any]:
        number = min(index // self.method.epochs, len(self.rounds) - 1)
        part = index - number * self.method.epochs
        last = number == len(self.rounds) - 1
        epochs = self.method.last_epochs if last else self.method.epochs
        this = self.rounds[number]
        shown = [self.layers[name] for name in this.shown]
        if part == 0:
            self._freeze(this.frozen, this.clusters)
            for layer in shown:
                layer.cluster()
        row: dict[str, Any] = {"round": number, "epoch": part, "frozen": self._frozen()}
        if epochs:
            self.model.train()
            row["loss"] = self._epoch(shown, part, epochs)
        return row

    def _epoch(self, shown: Sequence[Freezing], part: int, epochs: int) -> float:
        steps = itertools.count(1)
        refresh = min(self.method.refresh, length(self.loader) or self.method.refresh)

        def show() -> None:
            for layer in shown:
                layer.show()

        def unveil(*_: Any) -> None:
            for layer in shown:
                layer.unveil()

        def hold() -> None:
            self._hold()
            if next(steps) % refresh == 0:
                for layer in shown:
                    layer.cluster()

        hook = self.optimizer.register_step_pre_hook(unveil)
        try:
            return epoch(
                self.model,
                self.loader,
                self.loss,
                self.optimizer,
                rate=lambda share: cosine(self.method.lr, (part + share) / epochs),
                before=show,
                after=hold,
            )
        finally:
            hook.remove()
            unveil()

    def _freeze(self, names: Sequence[str], wanted: int) -> None:
        for name in names:
            self.layers[name].cluster()
        every = wanted == self.method._k
        with evaluating(self.model):
            scores = {} if every else {name: self._scores(name) for name in names}
        for name in names:
            layer = self.layers[name]
            chosen = ~layer.settled
            if not every:
                missing = wanted - int(layer.settled.sum())
                order = torch.where(layer.settled, -torch.inf, scores[name]).argsort(
                    descending=True, stable=True
                )
                chosen[order[missing:]] = False
            layer.freeze(chosen)
        if names:
            self._clear_momentum()

    def _scores(self, name: str) -> Tensor:
        """The greater, the sooner a cluster is frozen; empty ones come first, they cost nothing."""
        layer = self.layers[name]
        goes = layer.candidates()
        weight = layer.weight.detach()
        members = torch.bincount(goes[layer.free], minlength=len(layer.centroids))
        if self.method.order == "error":
            near = layer.centroids[goes.clamp(min=0)]
            squares = ((weight.float() - near) ** 2)[layer.free].double()
            scores = torch.zeros(len(members), dtype=torch.float64, device=weight.device)
            scores.scatter_add_(0, goes[layer.free], squares)
        elif self.method.order == "magnitude":
            scores = torch.where(layer.centroids == 0, torch.inf, layer.centroids.abs())
        else:
            scores = torch.stack([self._loss_with(layer, weight, goes == k) for k in range(len(members))])
            if self.method.order == "reverse":
                scores = -scores
        return torch.where(members == 0, torch.inf, scores.double())

    def _loss_with(self, layer: Freezing, weight: Tensor, members: Tensor) -> Tensor:
        """The loss with these weights at the centroid that they are nearest to."""
        kept = weight.clone()
        with torch.no_grad():
            near = layer.centroids[layer.nearest()].to(weight.dtype)
            layer.weight.copy_(torch.where(members, near, weight))
            value = mean_loss(self.model, self._calibration(), self.loss) if members.any() else 0.0
            layer.weight.copy_(kept)
        return torch.tensor(value, device=weight.device)

    def _calibration(self) -> Sequence[Any]:
        if self._batches is None:
            self._batches = list(first_examples(self.loader, self.method.calibration))
        return self._batches

    def _hold(self) -> None:
        self._clear_momentum()
        for layer in self.layers.values():
            layer.restore()

    def _clear_momentum(self) -> None:
        for layer in self.layers.values():
            buffer = self.optimizer.state.get(layer.weight, {}).get("momentum_buffer")
            if buffer is not None:
                buffer.masked_fill_(~layer.free, 0)

    def _frozen(self) -> float:
        total: int = sum(layer.weight.numel() for layer in self.layers.values())
        frozen: int = sum(int((~layer.free).sum()) for layer in self.layers.values())
        return frozen / total

    def state(self) -> dict[str, Any]:
        layers = {
            name: {"centroids": layer.centroids, "settled": layer.settled, "index": layer.index}
            for name, layer in self.layers.items()
        }
        return {
            "layers": layers,
            "optimizer": self.optimizer.state_dict(),
            "calibration": None if self._batches is None else list(self._batches),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, layer in self.layers.items():
            own = state["layers"][name]
            device = layer.weight.device
            layer.centroids = own["centroids"].to(device)
            layer.settled = own["settled"].to(device)
            layer.index = own["index"].to(device)
        self.optimizer.load_state_dict(state["optimizer"])
        self._batches = state["calibration"]

    def codec(self) -> Mapping[str, str | Codec]:
        return codec_mapping(dict.fromkeys(self.layers, "codebook"))
