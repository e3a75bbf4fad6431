"""Pruning of all layers by one threshold on the loss: K-FAC and Optimal Brain Surgeon (Zeng and Urtasun 2018).

Every weight has a price, the rise of the loss where it goes and the others of its layer make up for it; the cheapest
go, over all layers together, so that layers find their own densities. In the paper all go at once, and what their
removals ask of the others is added up. Here they go in steps: factors are measured anew on what is left, and the
weights that stay solve the least-squares problem around the original network. No gradient step is taken; masked
retraining can follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nncodec.train.anchored import ENOUGH, Anchored, Fisher, curvature, rise
from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.batchnorm import measure_statistics
from nncodec.train.calibrating import stratified, warn_of_missing, warn_of_size
from nncodec.train.crossed import cross_moments, shifted_target
from nncodec.train.exact import smallest_exact
from nncodec.train.kfac import Factors, as_matrix
from nncodec.train.masks import masked
from nncodec.train.steps import (
    Descent,
    call,
    check_descent,
    compressible,
    cosine,
    descent,
    device_of,
    epoch,
    evaluating,
    moved,
)
from nncodec.train.surgeon import alive, lowest, position_bits, saliency, summed_update

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["MLPrune", "Pruning", "check_calibration"]

_SEARCH = 12  # encodings, to find the density that fits a size
_RETRIES = 8  # of the last step, where compensation made the file larger than was foreseen


def check_calibration(steps: int, examples: int, iterations: int, gamma: float, fisher: str) -> None:
    """ValueError for options that make no sense."""
    if steps < 1 or iterations < 1 or examples < 1:
        raise ValueError("steps, iterations and examples must be at least 1")
    if not 0 < gamma < float("inf"):
        raise ValueError(f"gamma must be positive, got {gamma!r}")
    if fisher not in ("true", "sampled", "empirical", "output"):
        raise ValueError(f"fisher must be 'true', 'sampled', 'empirical' or 'output', got {fisher!r}")


@dataclass(frozen=True)
class MLPrune(Method):
    """Prune linear and convolution layers together; normalisations stay, and biases but those of dead units.

    ``loader`` must show every class; its order does not matter, for a stratified sample of one pass is drawn from it.
    Targets and ``loss`` are used for the empirical Fisher matrix and by retraining alone.

    Parameters
    ----------
    sparsity : float, optional
        Share of the weights that go, over all layers.
    size : int, optional
        Instead: bytes of the file that ``nncodec.encode`` makes of the pruned network with ``codec``.
    codec : str or Codec
        Of the pruned layers' weights, for ``size``: one that takes no budget. All else is lossless.
    steps : int
        In which the density falls geometrically; 1 is the paper's one shot.
    compensation : {"anchored", "corrected", "joint", "summed", "none"}
        Weights that stay: the least-squares solution around the original network, with factors measured anew in each
        step; the same around weights that would give the original outputs on the inputs of now;
        with factors of the original network throughout; the paper's sum of single updates; nothing.
    fisher : {"true", "sampled", "empirical", "output"}
        For a classifier's logits the Fisher matrix over all labels, with one drawn from the predictions, or with
        the labels and ``loss``; for any other output the Gauss-Newton matrix of its squared error.
    gamma : float
        Damping of the factors, in units of their mean eigenvalues' product.
    price : {"weight", "bits"}
        What the loss is weighed against: every weight alike, or the bits that it costs where it is. By "bits" rows and
        columns of few weights go as a whole, so files are smaller at equal sparsity.
    cap : float
        No layer loses more than this share; the paper's code has 0.95.
    examples : int
        How many to calibrate on, at most.
    iterations : int
        Of conjugate gradients per layer and step, at most.
    batchnorm : bool
        Measure the running statistics of batch normalisations anew, on the same examples, after each step.
    epochs, between : int
        Of retraining with the masks fixed: after the last step, and after each of the others.
    optimizer : {"sgd", "adam"}
        Of retraining. Adam needs fewer epochs where nothing is normalised.
    lr, momentum, weight_decay : float
        The rate falls to 0 along a cosine; Adam takes no momentum.
    layers : tuple of str
        Glob patterns over names of weights.

    Notes
    -----
    ``result.importance`` weighs squared errors by the diagonal of the factors: for a lossy codec after this.
    """

    sparsity: float | None = None
    size: int | None = None
    codec: str | Codec = "lossless"
    steps: int = 12
    compensation: Literal["anchored", "corrected", "joint", "summed", "none"] = "anchored"
    fisher: Fisher = "true"
    gamma: float = 1e-5
    price: Literal["weight", "bits"] = "weight"
    cap: float = 1.0
    examples: int = 10000
    iterations: int = 200
    batchnorm: bool = True
    epochs: int = 0
    between: int = 0
    optimizer: Descent = "sgd"
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 0.0
    layers: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if (self.sparsity is None) == (self.size is None):
            raise ValueError("give sparsity or size, one of them")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity must be at least 0 and below 1, got {self.sparsity!r}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be positive, got {self.size!r}")
        if self.compensation not in ("anchored", "corrected", "joint", "summed", "none"):
            raise ValueError(
                f"compensation must be 'anchored', 'corrected', 'joint', 'summed' or 'none', got {self.compensation!r}"
            )
        if self.price not in ("weight", "bits"):
            raise ValueError(f"price must be 'weight' or 'bits', got {self.price!r}")
        if not 0 < self.cap <= 1:
            raise ValueError(f"cap must be above 0 and at most 1, got {self.cap!r}")
        if min(self.epochs, self.between) < 0:
            raise ValueError("epochs must not be negative")
        check_descent(self.optimizer)
        check_calibration(self.steps, self.examples, self.iterations, self.gamma, self.fisher)

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return Pruning(self, model, loader, loss)


class Pruning(Run):
    """Units are steps of pruning and epochs of retraining. The model holds plain, masked weights between them."""

    def __init__(self, method: MLPrune, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.method = method
        self.calibration = stratified(loader, method.examples)
        with evaluating(model), torch.no_grad():
            outputs = call(model, moved(self.calibration[0][0], device_of(model)))
        if method.fisher != "output":
            warn_of_missing(outputs, self.calibration)
        reached = curvature(model, self.calibration[:1], "true" if method.fisher == "sampled" else method.fisher,
                            loss, 0)  # fmt: skip
        self.modules = {
            name: module for name, module in compressible(model, method.layers).items() if name in reached
        }
        if not self.modules:
            raise ValueError("layers: none of them is reached by the examples")
        self.layers = {name: Anchored(module) for name, module in self.modules.items()}
        self.weights: int = sum(layer.weight.numel() for layer in self.layers.values())
        self.original: nn.Module | None = None
        self.retrained = False  # so that the original is no longer what the training began with
        if method.compensation == "corrected":
            self.original = deepcopy(model)
        self.factors: dict[str, Factors] = {}
        self.optimizer = self._optimizer() if method.epochs or method.between else None
        self.plan: list[tuple[str, int, int]] = []
        for step in range(method.steps):
            self.plan.append(("prune", step, method.steps))
            epochs = method.between if step + 1 < method.steps else method.epochs
            self.plan += [("train", number, epochs) for number in range(epochs)]

    @property
    def units(self) -> int:
        return len(self.plan)

    def unit(self, index: int) -> dict[str, Any]:
        kind, number, of = self.plan[index]
        return self._prune(number, index) if kind == "prune" else self._train(number, of)

    # --- pruning

    def _prune(self, step: int, index: int) -> dict[str, Any]:
        method = self.method
        if not self.factors or method.compensation in ("anchored", "corrected") or method.between:
            self.factors = curvature(self.model, self.calibration, method.fisher, self.loss, index)
        with torch.no_grad():
            damped = {name: self.factors[name].damped(method.gamma) for name in self.layers}
            self._shift(damped)
            scores = {name: self._scores(name, damped[name]) for name in self.layers}
            goal = self._goal(scores)
            residual, tries = 0.0, 0
            while True:
                before = self.kept()
                wanted = goal if step + 1 == method.steps else _between(before, goal, method.steps - step)
                self._remove(lowest(scores, self.weights - wanted, method.cap))
                residual = self._compensate(damped)
                if method.batchnorm:
                    self._normalise()
                tries += 1
                if step + 1 < method.steps or method.size is None or tries > _RETRIES:
                    break
                size = self._bytes(None)
                if size <= method.size:
                    break
                goal = max(len(self.layers), int(self.kept() * (1 - 0.01 * tries) * method.size / size))
                scores = {name: self._scores(name, damped[name]) for name in self.layers}
            if (
                step + 1 == method.steps
                and method.size is not None
                and (made := self._bytes(None)) > method.size
            ):
                warn_of_size(made, method.size)
            risen = rise(self.layers, damped)
        densities = {name: int(layer.free.sum()) / layer.free.numel() for name, layer in self.layers.items()}
        return {
            "step": step,
            "sparsity": 1 - self.kept() / self.weights,
            "predicted_rise": risen,
            "residual": residual,
            "densities": densities,
        }

    def _shift(self, damped: Mapping[str, Factors]) -> None:
        """New targets, by what the layers read now."""
        if self.original is None:
            return
        cross = cross_moments(self.original, self.model, self.layers, self.calibration, ENOUGH)
        for name, layer in self.layers.items():
            layer.shifted = None
            if name in cross:
                of = self.factors[name]
                layer.shifted = shifted_target(of, damped[name], cross[name], layer.original(of))

    def kept(self) -> int:
        return sum(int(layer.free.sum()) for layer in self.layers.values())

    def _scores(self, name: str, damped: Factors) -> Tensor:
        """Saliencies in the weight's shape; what is gone comes first."""
        layer, of = self.layers[name], self.factors[name]
        bias = layer.bias if of.bias else None
        scores = layer.of_weights(saliency(damped, as_matrix(of, layer.weight, bias), alive(of)))
        if self.method.price == "bits":
            scores = scores / position_bits(layer.free)
        return torch.where(layer.free, scores, -torch.inf)

    def _remove(self, masks: Mapping[str, Tensor]) -> None:
        for name, layer in self.layers.items():
            layer.free &= ~masks[name]

    def _compensate(self, damped: Mapping[str, Factors]) -> float:
        left = 0.0
        for name, layer in self.layers.items():
            gone = ~layer.free
            if self.method.compensation == "summed":
                self._summed(layer, damped[name], gone & (layer.weight != 0))
            layer.weight.masked_fill_(gone, 0.0)
            if self.method.compensation in ("anchored", "corrected", "joint"):
                left = max(left, layer.compensate(damped[name], self.method.iterations))
            if layer.bias is not None:  # nothing depends on the output of a dead unit
                layer.bias.masked_fill_(
                    self.factors[name].output.diagonal(dim1=1, dim2=2).reshape(-1) == 0, 0.0
                )
        return left

    def _summed(self, layer: Anchored, of: Factors, gone: Tensor) -> None:
        bias = layer.bias if of.bias else None
        none = None if bias is None else torch.zeros_like(bias, dtype=torch.bool)
        change = summed_update(of, as_matrix(of, layer.weight, bias), as_matrix(of, gone, none))
        layer.weight += layer.of_weights(change).to(layer.weight.dtype)
        if bias is not None:
            bias += change[:, :, -1].reshape(-1)

    def _normalise(self) -> None:
        modes = [(module, module.training) for module in self.model.modules()]
        measure_statistics(self.model, self.calibration)
        for module, training in modes:
            module.training = training

    # --- sizes

    def _goal(self, scores: Mapping[str, Tensor]) -> int:
        """How many weights are to be left in the end."""
        if self.method.sparsity is not None:
            return round((1 - self.method.sparsity) * self.weights)
        assert self.method.size is not None
        low, high = len(self.layers), self.kept()
        if self._bytes(lowest(scores, self.weights - high, 1.0)) <= self.method.size:
            return high
        for _ in range(_SEARCH):
            middle = math.isqrt(low * high)
            if self._bytes(lowest(scores, self.weights - middle, self.method.cap)) <= self.method.size:
                low = middle
            else:
                high = middle
        return low

    def _bytes(self, gone: Mapping[str, Tensor] | None) -> int:
        """Of the file, without these weights too."""
        import nncodec  # the engine is needed for files alone

        state = self.model.state_dict()  # with its metadata, which the file holds too
        for name in self.layers if gone is not None else ():
            assert gone is not None
            state[name] = state[name].masked_fill(gone[name], 0.0)
        codec = codec_mapping(dict.fromkeys(self.layers, self.method.codec))
        return len(nncodec.encode(state, codec))

    # --- retraining

    def _optimizer(self) -> torch.optim.Optimizer:
        of = self.method
        return descent(of.optimizer, self.model.parameters(), of.lr, of.momentum, of.weight_decay)

    def _train(self, number: int, epochs: int) -> dict[str, Any]:
        if number == 0 or self.optimizer is None:
            self.optimizer = self._optimizer()
        self.model.train()
        with masked((self.modules[name], layer.free) for name, layer in self.layers.items()):
            value = epoch(
                self.model,
                self.loader,
                self.loss,
                self.optimizer,
                rate=lambda share: cosine(self.method.lr, (number + share) / epochs),
            )
        if number + 1 == epochs:
            for layer in self.layers.values():
                layer.anchor()  # what was learnt is the new original
            if self.original is not None:
                self.original = deepcopy(self.model)
                self.retrained = True
        return {"epoch": number, "loss": value, "sparsity": 1 - self.kept() / self.weights}

    # --- outcome

    def state(self) -> dict[str, Any]:
        layers = {name: layer.state() for name, layer in self.layers.items()}
        found = {
            name: {"input": f.input, "output": f.output, "bias": f.bias} for name, f in self.factors.items()
        }
        state: dict[str, Any] = {"layers": layers, "factors": found}
        if self.optimizer is not None:
            state["optimizer"] = self.optimizer.state_dict()
        if self.original is not None and self.retrained:
            state["original"] = dict(self.original.state_dict())
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, layer in self.layers.items():
            layer.restore(state["layers"][name])
        device = device_of(self.model)
        self.factors = {
            name: Factors(f["input"].to(device), f["output"].to(device), f["bias"])
            for name, f in state["factors"].items()
        }
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.original is not None and "original" in state:
            self.original.load_state_dict(state["original"])
            self.retrained = True

    def importance(self) -> dict[str, Any]:
        return importance(self.factors, self.layers)

    def codec(self) -> Mapping[str, str | Codec]:
        return codec_mapping({name: smallest_exact(layer.weight) for name, layer in self.layers.items()})


def importance(of: Mapping[str, Factors], layers: Mapping[str, Anchored]) -> dict[str, Any]:
    """The factors' diagonals in the weights' shapes, as float32 arrays whose mean over all is 1."""
    found = {name: layer.of_weights(of[name].diagonal()).float().cpu() for name, layer in layers.items()}
    total = sum(float(value.sum(dtype=torch.float64)) for value in found.values())
    if not total > 0:
        return {}
    scale = sum(value.numel() for value in found.values()) / total
    return {name: (value * scale).numpy() for name, value in found.items()}


def _between(now: int, goal: int, steps: int) -> int:
    """The next of so many geometric steps; at least the goal."""
    shrunk: float = now * (max(goal, 1) / max(now, 1)) ** (1 / steps)
    return max(goal, round(shrunk))
