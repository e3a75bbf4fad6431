"""Kronecker-factored curvature of linear and convolution layers, and the least-squares solve that shares it.

For a layer y = W x the Fisher matrix is taken as the product of A, the second moment of inputs x, and G, that of the
derivatives of the log-likelihood with respect to y (K-FAC: Martens and Grosse 2015; convolutions: Grosse and Martens
2016). A change D of the weights raises the loss by about ``trace(G D A D^T) / 2``. Where some entries are frozen, at a
centroid or at 0, :func:`solve` moves the others to where that is least: Optimal Brain Surgeon for all frozen entries
at once (Hassibi and Stork 1993), which is what quantisation and pruning without gradient descent both need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nncodec.train.steps import count_examples, device_of, moved

if TYPE_CHECKING:
    from nncodec.calibration import LayerMoments

__all__ = ["Factors", "Solved", "as_matrix", "factors", "likelihood", "solve"]


@dataclass(frozen=True)
class Factors:
    """Both factors of one weight of shape (outputs, inputs / groups, *kernel).

    Attributes
    ----------
    input : Tensor
        A, (groups, k, k) with k = inputs / groups * kernel size, one more with ``bias``: the mean over all vectors
        (examples, positions of a convolution) of x x^T.
    output : Tensor
        G, (groups, outputs / groups, outputs / groups): the sum over vectors, per example, of g g^T.
    bias : bool
        Whether the last input is the constant 1, and matrices have the bias as last column.
    """

    input: Tensor
    output: Tensor
    bias: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(groups, outputs / groups, k): that of the matrices the functions here work on."""
        return self.input.shape[0], self.output.shape[1], self.input.shape[1]

    def damped(self, gamma: float) -> Factors:
        """A + pi sqrt(gamma) I and G + sqrt(gamma) / pi I, pi^2 the ratio of their mean eigenvalues.

        Raises ValueError for a negative gamma. A factor of zeros (a dead layer) gets 1 for its mean.
        """
        if not gamma >= 0:
            raise ValueError(f"gamma must be at least 0, got {gamma!r}")
        a, g = (
            torch.where(mean > 0, mean, torch.ones_like(mean))
            for mean in (m.diagonal(dim1=1, dim2=2).mean(1) for m in (self.input, self.output))
        )
        root, pi = gamma**0.5, (a / g).sqrt()
        return Factors(
            self.input + torch.diag_embed((pi * root)[:, None].expand(-1, self.input.shape[1])),
            self.output + torch.diag_embed((root / pi)[:, None].expand(-1, self.output.shape[1])),
            self.bias,
        )

    def product(self, change: Tensor) -> Tensor:
        """G D A for D of :attr:`shape`: half the gradient of ``2 * loss``."""
        return self.output @ change @ self.input

    def loss(self, change: Tensor) -> Tensor:
        """trace(G D A D^T) / 2, the rise of the loss (a scalar)."""
        return (change * self.product(change)).sum() / 2

    def diagonal(self) -> Tensor:
        """G_ii A_jj: what an entry's squared error weighs while the others stay."""
        return (
            self.output.diagonal(dim1=1, dim2=2)[:, :, None] * self.input.diagonal(dim1=1, dim2=2)[:, None, :]
        )

    def surgeon_diagonal(self) -> Tensor:
        """1 / ([G^-1]_ii [A^-1]_jj): what it weighs when the others make up for it as best they can.

        Both factors must be positive definite: damp first.
        """
        a, g = (torch.linalg.inv(m.double()).diagonal(dim1=1, dim2=2) for m in (self.input, self.output))
        return (1 / (g[:, :, None] * a[:, None, :])).to(self.input.dtype)


def likelihood(logits: Tensor) -> Tensor:
    """For a classifier: a function of its output whose Gauss-Newton matrix is the Fisher matrix of its likelihood.

    2 sqrt(softmax): the squared length of its change is four times the squared Hellinger distance, so twice the
    Kullback-Leibler divergence to second order. No label is sampled.

    TypeError for what is no tensor, ValueError for a single class, of which all outputs would mean the same.
    """
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"the Fisher matrix needs a classifier's logits as a tensor, the model gives {type(logits)}"
        )
    if logits.shape[-1] < 2:
        raise ValueError(
            "the Fisher matrix needs logits of at least two classes, the model gives one number: "
            "it is no classifier (see option fisher)"
        )
    return (
        2 * (logits.log_softmax(-1) / 2).exp()
    )  # a square root has no derivative where a class is ruled out


def factors(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    output: Callable[[Any], Tensor] | None = likelihood,
    bias: bool = True,
    loss: Callable[[Any, Any], Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    enough: int | None = None,
) -> dict[str, Factors]:
    """Factors of all linear and convolution layers that the batches (inputs, targets) reach, by name of the weight.

    The model runs in evaluation mode and is left as it was. ``output`` as in :func:`nncodec.calibrate`; targets are
    used by ``loss`` alone, a mean over the batch, which then takes its place: second moments of its gradients (the
    empirical Fisher matrix). With ``bias``, layers that have one get the constant input. ``enough``: where a batch has
    more vectors than that, for its images are large, only a part of a convolution's positions goes into A.
    """
    from nncodec.moments import Collector

    modules = dict(model.named_modules())
    targets: Any = None
    count = 0

    def summed(result: Any) -> Tensor:
        assert loss is not None
        return loss(result, targets) * count_examples(targets)

    with Collector(model, None, True, output if loss is None else summed, seed, enough) as collector:
        for inputs, given in batches:
            if loss is not None:
                targets = moved(given, device_of(model))
                count += count_examples(targets)
            collector.run(inputs)
        moments, examples = collector.result()
    if loss is not None:
        examples = count
    found = {}
    for name, layer in moments.items():
        path = name.rpartition(".")[0]
        if not layer.is_embedding:
            if isinstance(
                modules[path], nn.Embedding
            ):  # calibration goes by the first name of a shared weight
                path = _layer_of(modules, modules[path].weight)
            module = modules[path]
            name = f"{path}.weight" if path else "weight"
            has_bias = bias and getattr(module, "bias", None) is not None
            weight: Tensor = module.weight
            found[name] = _from_moments(layer, examples, has_bias, dtype, weight.device)
    return found


def _layer_of(modules: Mapping[str, nn.Module], weight: object) -> str:
    """The first module but an embedding that has this weight."""
    return next(
        path
        for path, module in modules.items()
        if not isinstance(module, nn.Embedding) and module._parameters.get("weight") is weight
    )


def _from_moments(
    layer: LayerMoments, examples: int, bias: bool, dtype: torch.dtype, device: torch.device
) -> Factors:
    a = torch.from_numpy(layer.input / max(layer.vectors, 1))
    groups = len(a)
    if bias:
        mean = torch.from_numpy(layer.mean / max(layer.vectors, 1))
        right = torch.cat((mean, torch.ones(groups, 1, dtype=mean.dtype)), 1)
        a = torch.cat((torch.cat((a, mean[:, :, None]), 2), right[:, None, :]), 1)
    per_group = layer.shape[0] // groups
    g = torch.from_numpy(layer.output / max(examples, 1))
    if not g.numel():  # nothing of the output depends on it
        g = torch.zeros(layer.shape[0], layer.shape[0], dtype=a.dtype)
    g = g.reshape(groups, per_group, groups, per_group)
    g = torch.stack([g[i, :, i, :] for i in range(groups)])
    return Factors(a.to(device, dtype), g.to(device, dtype), bias)


def as_matrix(of: Factors, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Weight and bias as one tensor of the factors' shape; what is boolean (masks) stays so."""
    groups, outputs, _ = of.shape
    matrix = weight.reshape(groups, outputs, -1)
    if of.bias:
        if bias is None:
            raise ValueError("these factors have a bias column")
        matrix = torch.cat((matrix, bias.reshape(groups, outputs, 1)), 2)
    return matrix


@dataclass(frozen=True)
class Solved:
    """Outcome of :func:`solve`: the matrix, how far the residual fell, and in how many iterations."""

    matrix: Tensor
    residual: float
    iterations: int


def solve(
    of: Factors, target: Tensor, start: Tensor, free: Tensor, *, iterations: int = 60, tolerance: float = 1e-3
) -> Solved:
    """Minimise trace(G (W - target) A (W - target)^T) over the free entries of W; the others stay as in ``start``.

    Conjugate gradients on the free entries, preconditioned by 1 / (G_ii A_jj), from ``start``; two matrix products
    an iteration.

    Parameters
    ----------
    of : Factors
        Damped, so that the minimum is unique.
    target, start, free : Tensor
        Of the factors' shape, ``free`` boolean. Frozen entries of the result are those of ``start`` bit for bit.
    iterations, tolerance
        Stop after so many, or when the preconditioned residual has fallen to this share of what it is with
        all of W on ``target`` but the frozen entries.
    """
    scale = of.diagonal()
    inverse = torch.where(free & (scale > 0), 1 / scale, torch.zeros_like(scale))
    frozen_change = torch.where(free, torch.zeros_like(start), start - target)
    first = of.product(frozen_change) * free
    wanted = float((first * inverse * first).sum()) * tolerance**2
    residual = -of.product(start - target) * free
    change = torch.zeros_like(start)
    preconditioned = inverse * residual
    direction = preconditioned
    power = float((residual * preconditioned).sum())
    done = 0
    while done < iterations and power > wanted and power > 0:
        image = of.product(direction) * free
        curvature = float((direction * image).sum())
        if not curvature > 0:  # rounding has used the direction up
            break
        step = power / curvature
        change = change + step * direction
        residual = residual - step * image
        preconditioned = inverse * residual
        before, power = power, float((residual * preconditioned).sum())
        direction = preconditioned + (power / before) * direction
        done += 1
    matrix = torch.where(free, start + change, start)
    share = (power * tolerance**2 / wanted) ** 0.5 if wanted > 0 else 0.0
    return Solved(matrix, share, done)
