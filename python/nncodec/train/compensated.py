"""Quantisation without a gradient step: the hard weights are frozen first, second-order compensation moves the rest.

The schedule of SLQ (largest error first) with Optimal Brain Surgeon in place of retraining: after each step the free
weights go to where the Kronecker-factored quadratic loss, around the float network, is least
(:mod:`nncodec.train.kfac`).
Weights that are far from every centroid are taken while many free ones can make up for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nncodec.train.anchored import Anchored, rise
from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.clusters import cluster_count, lloyd, nearest, power_of_two, start
from nncodec.train.kfac import Factors, factors
from nncodec.train.steps import compressible, first_examples

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["CompensatedClustering"]


@dataclass(frozen=True)
class CompensatedClustering(Method):
    """Cluster a classifier's weights layer by layer, and compensate.

    ``loader`` gives the examples (its targets and ``loss`` are not used); the model returns logits.

    Parameters
    ----------
    bits, clusters : int
        One of them: 2^(bits - 1) + 1 clusters per layer, or so many.
    steps : int
        In which all weights are frozen, equally many in each.
    gamma : float
        Damping of the factors, in units of their mean eigenvalues' product.
    order : {"largest", "smallest"}
        Which weighted squared errors come first; the smallest for comparison.
    refresh : bool
        Measure the factors again before each step, on the network as it is then; otherwise once.
    examples : int
        How many of the loader, from its start, the factors are measured on.
    iterations : int
        Of conjugate gradients per layer and step, at most.
    values : {"float", "power_of_two"}
    zero : bool
        Whether one centroid is 0.
    layers : tuple of str
        Glob patterns over names of weights.
    """

    bits: int | None = None
    clusters: int | None = None
    steps: int = 20
    gamma: float = 1e-4
    order: Literal["largest", "smallest"] = "largest"
    refresh: bool = False
    examples: int = 10000
    iterations: int = 40
    values: Literal["float", "power_of_two"] = "float"
    zero: bool = True
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        cluster_count(self.bits, self.clusters)
        if self.steps < 1 or self.iterations < 1 or self.examples < 1:
            raise ValueError("steps, iterations and examples must be at least 1")
        if not 0 < self.gamma < float("inf"):
            raise ValueError(f"gamma must be positive, got {self.gamma!r}")
        if self.order not in ("largest", "smallest"):
            raise ValueError(f"order must be 'largest' or 'smallest', got {self.order!r}")
        if self.values not in ("float", "power_of_two"):
            raise ValueError(f"values must be 'float' or 'power_of_two', got {self.values!r}")

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Compensating(self, model, loader, loss)


class _Layer(Anchored):
    """One layer and its codebook."""

    def __init__(self, module: nn.Module, method: CompensatedClustering) -> None:
        super().__init__(module)
        k = cluster_count(method.bits, method.clusters)
        centroids = start(self.weight, k, method.zero)
        movable = centroids != 0 if method.zero else torch.ones_like(centroids, dtype=torch.bool)
        centroids = lloyd(self.weight, centroids, movable)
        self.centroids = power_of_two(centroids) if method.values == "power_of_two" else centroids

    def near(self) -> Tensor:
        return self.centroids[nearest(self.weight, self.centroids)].to(self.weight.dtype)

    def state(self) -> dict[str, Any]:
        return super().state() | {"centroids": self.centroids}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.centroids = state["centroids"].to(self.weight.device)


class _Compensating(Run):
    def __init__(self, method: CompensatedClustering, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.method = method
        found = compressible(model, method.layers)
        self.layers = {name: _Layer(module, method) for name, module in found.items()}
        self.factors: dict[str, Factors] = {}
        self._batches: list[Any] | None = None

    @property
    def units(self) -> int:
        return self.method.steps

    def unit(self, index: int) -> dict[str, Any]:
        if not self.factors or self.method.refresh:
            if self._batches is None:
                self._batches = list(first_examples(self.loader, self.method.examples))
            self.factors = factors(self.model, self._batches)
        with torch.no_grad():
            damped = {name: self.factors[name].damped(self.method.gamma) for name in self.layers}
            self._freeze(index, damped)
            left = [
                layer.compensate(damped[name], self.method.iterations) for name, layer in self.layers.items()
            ]
            return {"step": index, "residual": max(left), "predicted_rise": rise(self.layers, damped)}

    def _freeze(self, index: int, of: Mapping[str, Factors]) -> None:
        """As many more weights as this step asks for, over all layers, by weighted squared error."""
        scores = []
        for name, layer in self.layers.items():
            score = (layer.weight - layer.near()) ** 2 * layer.of_weights(of[name].diagonal())
            if self.method.order == "smallest":
                score = -score
            scores.append(torch.where(layer.free, score, -torch.inf).reshape(-1))
        every = torch.cat(scores)
        frozen = sum(int((~layer.free).sum()) for layer in self.layers.values())
        wanted = round(len(every) * (index + 1) / self.method.steps) - frozen
        chosen = torch.zeros_like(every, dtype=torch.bool)
        chosen[every.argsort(descending=True, stable=True)[:wanted]] = True
        sizes = [len(score) for score in scores]
        for layer, mine in zip(self.layers.values(), chosen.split(sizes), strict=True):
            now = mine.reshape(layer.weight.shape)
            layer.weight.copy_(torch.where(now, layer.near(), layer.weight))
            layer.free &= ~now

    def state(self) -> dict[str, Any]:
        layers = {name: layer.state() for name, layer in self.layers.items()}
        found = {
            name: {"input": f.input, "output": f.output, "bias": f.bias} for name, f in self.factors.items()
        }
        return {
            "layers": layers,
            "batches": self._batches if self.method.refresh else None,
            "factors": {} if self.method.refresh else found,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, layer in self.layers.items():
            layer.restore(state["layers"][name])
        for name, f in state["factors"].items():
            device = self.layers[name].weight.device
            self.factors[name] = Factors(f["input"].to(device), f["output"].to(device), f["bias"])
        self._batches = state["batches"]

    def codec(self) -> Mapping[str, str | Codec]:
        return codec_mapping(dict.fromkeys(self.layers, "codebook"))
