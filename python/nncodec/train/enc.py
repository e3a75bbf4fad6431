"""Efficient network compression: every layer as two of a lower rank, all ranks chosen at once.

Kim, Khan and Kyung (CVPR 2019, arXiv:1811.12781): a metric per layer, one cost for the whole network, one search.
Beside the paper's metrics and searches stand ours, which are the defaults: the rise of the loss that the layers'
curvature predicts, factors that are best for what the layer computes, two forms of each convolution to choose from, and
the exact search by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.batchnorm import freeze_statistics, measure_statistics
from nncodec.train.layer_costs import Complexity
from nncodec.train.lowrank import Form, forms_of, full_rank, replacement, split
from nncodec.train.rank_curves import Network, put
from nncodec.train.refit import refit
from nncodec.train.steps import compressible, cosine, descent, epoch

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["ENC"]


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
    epochs, lr, weight_decay
        Of training afterwards, by Adam; the rate falls to 0 along a cosine. Batch normalisation keeps its statistics,
        so that training starts where least squares ended (plain gradient descent then diverges at usual rates).
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
    lr: float = 3e-4
    weight_decay: float = 0.0
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
        self.optimizer: torch.optim.Optimizer | None = None

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

    def _optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = descent(
                "adam", self.model.parameters(), self.method.lr, 0.0, self.method.weight_decay
            )
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
            put(self.model, module, replacement(module, split(module, form, rank=rank)))
            self.chosen[name] = (form, rank)

    def restore(self, state: Mapping[str, Any]) -> None:
        if "optimizer" in state:
            self._optimizer().load_state_dict(state["optimizer"])

    def codec(self) -> Mapping[str, str | Codec]:
        names = [f"{name.rpartition('.')[0]}.{part}.weight" for name in self.chosen for part in (0, 1)]
        return codec_mapping(dict.fromkeys(names, "lossless"))
