"""One weight on its way into its codebook: clusters of it are settled one after the other, their members frozen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nncodec.train.clusters import lloyd, nearest, power_of_two, start

__all__ = ["Freezing"]


class Freezing:
    """A weight, its centroids, which of these are settled, and which weights are frozen at them."""

    def __init__(self, weight: nn.Parameter, k: int, zero: bool, rejoin: bool, power: bool) -> None:
        self.weight = weight
        self.centroids = start(weight, k, zero)
        self.zero = zero
        self.rejoin = rejoin
        self.power = power
        self.settled = torch.zeros(k, dtype=torch.bool, device=weight.device)
        self._float: Tensor | None = None  # while free weights are shown at their centroids
        self.index = torch.full_like(weight, -1, dtype=torch.int16)  # of the centroid; -1: free

    @property
    def free(self) -> Tensor:
        return self.index < 0

    def cluster(self) -> None:
        """Fit the centroids that are not settled to the weights that are free."""
        movable = ~self.settled
        if self.zero and not self.settled.all():
            movable &= self.centroids != 0
        if self.rejoin:
            self.centroids = lloyd(self.weight[self.free], self.centroids, movable)
        elif not self.settled.all():
            left = ~self.settled
            self.centroids[left] = lloyd(self.weight[self.free], self.centroids[left], movable[left])

    def candidates(self) -> Tensor:
        """Where each weight would go now; -1 for frozen ones."""
        return torch.where(self.free, self.nearest(), -1)

    def nearest(self) -> Tensor:
        """Index of the centroid that each weight may go to."""
        if self.rejoin or self.settled.all():
            return nearest(self.weight.detach(), self.centroids)
        left = (~self.settled).nonzero()[:, 0]
        return left[nearest(self.weight.detach(), self.centroids[left])]

    def freeze(self, clusters: Tensor) -> None:
        """Settle these clusters; free weights nearest to any settled centroid take its value."""
        goes = self.candidates()
        if self.power:
            self.centroids = torch.where(clusters, power_of_two(self.centroids), self.centroids)
        self.settled = self.settled | clusters
        joins = self.free & self.settled[goes.clamp(min=0)]
        self.index = torch.where(joins, goes.to(self.index.dtype), self.index)
        self._sort()
        self.restore()

    def _sort(self) -> None:
        """Centroids in ascending order again: rounded to a power of two, one may have passed its neighbour."""
        order = self.centroids.argsort(stable=True)
        rank = order.argsort().to(self.index.dtype)
        self.centroids, self.settled = self.centroids[order], self.settled[order]
        self.index = torch.where(self.free, self.index, rank[self.index.clamp(min=0).long()])

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def show(self) -> None:
        """Free weights at the values that they would be frozen at, for a pass; :meth:`unveil` undoes it."""
        self._float = self.weight.detach().clone()
        values = self.centroids
        if self.power:
            values = torch.where(self.settled, values, power_of_two(values))
        near = values[self.nearest()].to(self.weight.dtype)
        self.weight.copy_(torch.where(self.free, near, self.weight))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def unveil(self) -> None:
        """The float weights again."""
        if self._float is not None:
            self.weight.copy_(self._float)
            self._float = None

    def restore(self) -> None:
        """Frozen weights back to their centroids."""
        with torch.no_grad():
            values = self.centroids[self.index.clamp(min=0).long()].to(self.weight.dtype)
            self.weight.copy_(torch.where(self.free, self.weight, values))
