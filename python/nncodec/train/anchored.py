"""A layer whose weights are frozen a few at a time, at 0 or at a value of a codebook, while the others make up for it.

What :class:`CompensatedClustering`, :class:`MLPrune` and :class:`PostTraining` have in common. The free weights always
go to where the quadratic loss around the *original* weights is least, whatever was frozen before: errors of earlier
steps are not taken for the new optimum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncodec.train.base import Loss
from nncodec.train.kfac import Factors, as_matrix, factors, likelihood, solve

__all__ = ["ENOUGH", "Anchored", "Fisher", "curvature", "rise"]

ENOUGH = 8192  # vectors of a batch and layer: several times the rows of usual matrices

Fisher: TypeAlias = Literal["true", "sampled", "empirical", "output"]


class Anchored:
    """One layer.

    Attributes
    ----------
    weight, bias : Tensor
        Of the module: what is moved and frozen. A bias is always free.
    target, target_bias : Tensor
        Where they want to be.
    free : Tensor
        Boolean, of the weight's shape.
    """

    def __init__(self, module: nn.Module) -> None:
        self.weight: Tensor = module.weight
        self.bias: Tensor | None = module.bias
        self.free = torch.ones_like(self.weight, dtype=torch.bool)
        self.shifted: Tensor | None = None  # in the factors' shape; takes the target's place in `compensate`
        self.anchor()

    def anchor(self) -> None:
        """Make the weights as they are the target."""
        self.target = self.weight.detach().clone()
        self.target_bias = None if self.bias is None else self.bias.detach().clone()

    def of_weights(self, matrix: Tensor) -> Tensor:
        """What a matrix of the factors' shape holds for the weights, in their shape."""
        return matrix[:, :, : self.weight[0].numel()].reshape(self.weight.shape)

    def original(self, of: Factors) -> Tensor:
        """The target in the factors' shape."""
        return as_matrix(of, self.target, self.target_bias if of.bias else None).to(of.input.dtype)

    def change(self, of: Factors) -> Tensor:
        """How far the layer is from its target, in the factors' shape."""
        bias = None if self.bias is None or self.target_bias is None else self.bias - self.target_bias
        return as_matrix(of, self.weight - self.target, bias if of.bias else None).to(of.input.dtype)

    def compensate(self, of: Factors, iterations: int, tolerance: float = 1e-3) -> float:
        """Move what is free; what is left of the residual."""
        bias = self.bias if of.bias else None
        free_bias = None if bias is None else torch.ones_like(bias, dtype=torch.bool)
        dtype = of.input.dtype
        solved = solve(
            of,
            self.original(of) if self.shifted is None else self.shifted,
            as_matrix(of, self.weight, bias).to(dtype),
            as_matrix(of, self.free, free_bias),
            iterations=iterations,
            tolerance=tolerance,
        )
        moved = self.of_weights(solved.matrix).to(self.weight.dtype)
        self.weight.copy_(torch.where(self.free, moved, self.weight))
        if bias is not None:
            bias.copy_(solved.matrix[:, :, -1].reshape(-1))
        return solved.residual

    def state(self) -> dict[str, Any]:
        return {"target": self.target, "bias": self.target_bias, "free": self.free}

    def restore(self, state: Mapping[str, Any]) -> None:
        device = self.weight.device
        self.target = state["target"].to(device)
        self.target_bias = None if state["bias"] is None else state["bias"].to(device)
        self.free = state["free"].to(device)


def curvature(
    model: nn.Module, batches: Sequence[Any], fisher: Fisher, loss: Loss, seed: int
) -> dict[str, Factors]:
    """Kronecker factors of the layers that the batches reach, by name of the weight.

    ``fisher``: "true" for a classifier's logits, over all labels at once; "sampled", the same with labels drawn from
    the predictions, one an example; "empirical", with the labels and the loss as they are; "output", the Gauss-Newton
    matrix of half the squared error of whatever the model returns.
    """
    if fisher == "empirical":
        return factors(model, batches, loss=loss, seed=seed, enough=ENOUGH)
    if fisher == "sampled":
        draw = torch.Generator().manual_seed(seed)
        return factors(model, batches, output=lambda z: _sampled(z, draw), seed=seed, enough=ENOUGH)
    return factors(model, batches, output=likelihood if fisher == "true" else None, seed=seed, enough=ENOUGH)


def _sampled(logits: Tensor, draw: torch.Generator) -> Tensor:
    """Negative log-likelihood of a label per example, drawn from the predictions."""
    likelihood(logits)  # for its errors
    chances = logits.detach().float().softmax(-1).reshape(-1, logits.shape[-1])
    labels = torch.multinomial(chances.cpu(), 1, generator=draw)[:, 0].to(logits.device)
    losses = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels, reduction="none")
    return losses.reshape(logits.shape[:-1])


def rise(layers: Mapping[str, Anchored], of: Mapping[str, Factors]) -> float:
    """By how much the loss should have risen, to second order."""
    return sum(float(of[name].loss(layer.change(of[name]))) for name, layer in layers.items())
