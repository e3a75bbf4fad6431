"""Clustering with straight-through gradients: the network always runs on its centroids while float weights are trained.

What quantisation-aware training does with a grid (Bengio, Leonard, Courville 2013; Hubara et al. 2016), with a codebook
per layer that follows the weights. Assignment may weigh the bits of an index (entropy-constrained vector quantisation:
Chou, Lookabaugh, Gray 1989), for a codec pays the entropy and not the logarithm of the codebook's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nncodec.envelope import cells
from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.clusters import cluster_count, lloyd, means, power_of_two, start
from nncodec.train.steps import Descent, check_descent, compressible, cosine, descent, epoch

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["StraightThrough"]


@dataclass(frozen=True)
class StraightThrough(Method):
    """Train float weights through their own quantisation.

    Parameters
    ----------
    bits, clusters : int
        One of them: 2^(bits - 1) + 1 clusters per layer, or so many.
    epochs : int
    optimizer : {"sgd", "adam"}
    lr, momentum, weight_decay : float
        The rate falls to 0 along a cosine over all epochs; Adam takes no momentum.
    entropy : float
        What a bit of an index may cost in squared error, in units of the layer's variance; 0 takes the nearest
        centroid. 0.01 to 0.1 makes small centroids popular and files smaller.
    refresh : int
        Centroids move to the means of their members, and popularities are counted, every so many steps.
    values : {"float", "power_of_two"}
    zero : bool
        Whether one centroid is 0 and stays so.
    sparse : bool
        Weights that are 0 from the start stay 0, and the codebook is that of the others (``zero`` then lets more
        of them become 0): for a network that was pruned before.
    layers : tuple of str
        Glob patterns over names of weights.
    settle : float
        Share of the epochs, at their end, over which weights are settled in their clusters, some more at every
        ``refresh``, those nearest to a border first; 0: none before the end. Weights at a border go on crossing it (as
        Nagel, Fournarakis, Bondarenko and Blankevoort 2022 found, who freeze by how often that happens) and are caught
        on either side as the rate falls; settled early, they leave the others time to make good what it costs. From
        the first settled weight on, a centroid moves by the mean step of those that have settled in it, not to the mean
        of its members. All are settled after nine tenths of the share.
    """

    bits: int | None = None
    clusters: int | None = None
    epochs: int = 6
    optimizer: Descent = "sgd"
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 0.0
    entropy: float = 0.0
    refresh: int = 200
    values: Literal["float", "power_of_two"] = "float"
    zero: bool = True
    sparse: bool = False
    layers: tuple[str, ...] = ("*",)
    settle: float = 0.0

    def __post_init__(self) -> None:
        cluster_count(self.bits, self.clusters)
        if self.epochs < 1 or self.refresh < 1:
            raise ValueError("epochs and refresh must be at least 1")
        check_descent(self.optimizer)
        if not 0 <= self.entropy < float("inf"):
            raise ValueError(f"entropy must be at least 0, got {self.entropy!r}")
        if not 0 <= self.settle <= 1:
            raise ValueError(f"settle must be 0 to 1, got {self.settle!r}")
        if self.values not in ("float", "power_of_two"):
            raise ValueError(f"values must be 'float' or 'power_of_two', got {self.values!r}")

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Training(self, model, loader, loss)


class _Layer:
    """Float weights, and the codebook that they are seen through."""

    def __init__(self, weight: nn.Parameter, method: StraightThrough) -> None:
        self.weight = weight
        self.method = method
        self.shadow = weight.detach().clone()
        self.active = weight.detach() != 0 if method.sparse else torch.ones_like(weight, dtype=torch.bool)
        k = cluster_count(method.bits, method.clusters)
        values = self._values()
        self.centroids = start(values, k, method.zero)
        self.centroids = lloyd(values, self.centroids, self._movable())
        self.settled_in = torch.full_like(weight, -1, dtype=torch.int16)  # a cluster; -1: not settled
        self.settled_count = 0
        self.thresholds = torch.zeros(0, device=weight.device)
        self.cluster_of_cell = torch.zeros(1, dtype=torch.int64, device=weight.device)
        self._recount(None)
        self.refresh()

    def _movable(self) -> Tensor:
        return self.centroids != 0 if self.method.zero else torch.ones_like(self.centroids, dtype=torch.bool)

    def _values(self) -> Tensor:
        """The float weights that are on the codebook."""
        return self.shadow[self.active] if self.method.sparse else self.shadow.reshape(-1)

    @property
    def settled(self) -> Tensor:
        return self.settled_in >= 0

    def keep(self) -> None:
        """Take what a step made of the weights; of settled ones, the mean of their cluster."""
        self.shadow.copy_(self.weight)
        if self.method.sparse:
            self.shadow *= self.active
        if self.settled_count:
            members, mean = means(self.shadow, self.settled_in, len(self.centroids))
            self.centroids = torch.where(self._movable() & (members > 0), mean, self.centroids)
            self._gather()

    def _gather(self) -> None:
        """Settled weights to where their centroid is."""
        at = self.centroids[self.settled_in.clamp(min=0).long()].to(self.shadow.dtype)
        self.shadow.copy_(torch.where(self.settled, at, self.shadow))

    def _cell(self) -> Tensor:
        """Of each float weight."""
        return torch.bucketize(self.shadow.contiguous(), self.thresholds)

    def _cluster(self) -> Tensor:
        """That each weight is seen in; int64."""
        return torch.where(self.settled, self.settled_in.long(), self.cluster_of_cell[self._cell()])

    def settle(self, share: float) -> None:
        """Settles weights until there is this share of them, those nearest to a border of cells first."""
        if share <= 0:
            return
        wanted = round(share * int(self.active.sum())) - self.settled_count
        if wanted <= 0:
            return
        cell = self._cell()
        end = torch.full((1,), torch.inf, device=cell.device)
        upper, lower = torch.cat([self.thresholds, end]), torch.cat([-end, self.thresholds])
        distance = torch.minimum(upper[cell] - self.shadow, self.shadow - lower[cell]).flatten()
        order = distance.argsort(stable=True)
        first = order[(self.active & ~self.settled).flatten()[order]][:wanted]
        settled_in = self.settled_in.flatten()
        settled_in[first] = self.cluster_of_cell[cell.flatten()[first]].to(settled_in.dtype)
        self.settled_in = settled_in.reshape(self.settled_in.shape)
        self.settled_count += len(first)
        self._gather()

    def quantised(self) -> Tensor:
        """The centroid of each weight's cell, or of the cluster that it has settled in."""
        power = self.method.values == "power_of_two"
        values = power_of_two(self.centroids) if power else self.centroids
        near = values[self._cluster()].to(self.weight.dtype)
        return torch.where(self.active, near, 0.0) if self.method.sparse else near

    def refresh(self) -> None:
        """Centroids to the means of their members, cells to what the popularity of these makes of them."""
        cluster = torch.where(self.active, self._cluster(), -1)
        count, mean = means(self.shadow, cluster, len(self.centroids))
        # Settled weights have left the border for the centroid; the mean of all would drift away from it.
        if not self.settled_count:
            self.centroids = torch.where(self._movable() & (count > 0), mean, self.centroids)
        self._recount(count)

    def _recount(self, count: Tensor | None) -> None:
        order = self.centroids.argsort(stable=True)
        self.centroids = self.centroids[order]
        if self.settled_count:  # which may have passed another in a step
            rank = order.argsort().to(self.settled_in.dtype)
            self.settled_in = torch.where(
                self.settled, rank[self.settled_in.clamp(min=0).long()], self.settled_in
            )
        rates = torch.zeros(len(self.centroids), dtype=torch.float64)
        if count is not None and self.method.entropy and int(count.sum()):
            share = count[order].double().cpu() / count.sum().cpu()
            variance = float(self._values().double().var(unbiased=False))
            bits = -torch.log2(share)
            rates = torch.where(share > 0, bits * (self.method.entropy * variance), torch.inf)
        thresholds, kept = cells(self.centroids.tolist(), rates.tolist())
        device = self.weight.device
        self.thresholds = torch.tensor(thresholds, dtype=torch.float32, device=device)
        self.cluster_of_cell = torch.tensor(kept, device=device)


class _Training(Run):
    def __init__(self, method: StraightThrough, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.method = method
        found = compressible(model, method.layers)
        self.layers = {name: _Layer(module.weight, method) for name, module in found.items()}
        self.optimizer = descent(
            method.optimizer, model.parameters(), method.lr, method.momentum, method.weight_decay
        )
        self._steps = 0
        self._progress = 0.0

    @property
    def units(self) -> int:
        return self.method.epochs

    def unit(self, index: int) -> dict[str, Any]:
        self.model.train()
        self._float()
        hook = self.optimizer.register_step_pre_hook(lambda *_: self._float())

        def rate(share: float) -> float:
            self._progress = (index + share) / self.method.epochs
            return cosine(self.method.lr, self._progress)

        try:
            value = epoch(
                self.model,
                self.loader,
                self.loss,
                self.optimizer,
                rate=rate,
                before=self._quantise,
                after=self._keep,
            )
        finally:
            hook.remove()
        if self.method.settle and index == self.method.epochs - 1:
            self._settle(1.0)  # those that no refresh came for
        # The model shows its centroids between units; the float weights are in the state.
        self._quantise()
        return {"epoch": index, "loss": value, "clusters": self._used()}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _quantise(self) -> None:
        for layer in self.layers.values():
            layer.weight.copy_(layer.quantised())

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _float(self) -> None:
        for layer in self.layers.values():
            layer.weight.copy_(layer.shadow)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _keep(self) -> None:
        self._steps += 1
        for layer in self.layers.values():
            layer.keep()
        if self._steps % self.method.refresh == 0:
            for layer in self.layers.values():
                layer.refresh()
            self._settle(self._share_settled())

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _settle(self, share: float) -> None:
        for layer in self.layers.values():
            layer.settle(share)

    def _share_settled(self) -> float:
        """Of all weights, by now: all of them when nine tenths of the time for it are over."""
        settle = self.method.settle
        return min(1.0, (self._progress - 1 + settle) / (0.9 * settle)) if settle else 0.0

    def _used(self) -> int:
        return max(int(layer.quantised().unique().numel()) for layer in self.layers.values())

    def state(self) -> dict[str, Any]:
        names = ("shadow", "active", "centroids", "thresholds", "cluster_of_cell", "settled_in")
        layers = {name: {n: getattr(layer, n) for n in names} for name, layer in self.layers.items()}
        return {"layers": layers, "steps": self._steps, "optimizer": self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, layer in self.layers.items():
            for field, value in state["layers"][name].items():
                setattr(layer, field, value.to(layer.weight.device))
            layer.settled_count = int(layer.settled.sum())
        self._steps = state["steps"]
        self.optimizer.load_state_dict(state["optimizer"])

    def codec(self) -> Mapping[str, str | Codec]:
        return codec_mapping(dict.fromkeys(self.layers, "codebook"))
