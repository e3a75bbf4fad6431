"""Linear and convolution layers as two layers of a lower rank: the forms, what they cost, the best factors.

A weight is seen as (rows, positions, outputs): the first layer makes ``rank`` numbers of its rows, the second takes
them at every position of its kernel to the outputs. For a kernel of h x w pixels:

* ``channel``: rows are (inputs, h, w), one position: ``rank`` filters of h x w, then 1 x 1. Linear layers likewise.
* ``spatial``: rows are (inputs, h), positions are w: ``rank`` filters of h x 1, then 1 x w. Strides go with the axes,
  so that at full rank the layer is the same also where it is strided.

Truncated singular value decomposition is the best choice for the weights alone. For what the layer computes it is that
of the whitened matrix (SVD-LLM: Wang et al., arXiv:2403.07378; here also by the curvature of the outputs), and a least
squares fit of each factor given the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from nncodec.train.kfac import Factors

__all__ = ["Factored", "Form", "Split", "fitted", "forms_of", "full_rank", "replacement", "rise", "split"]

Form: TypeAlias = Literal["channel", "spatial"]

_RIDGE = 1e-6  # of the mean of a diagonal, added to it
_SIZES = (
    "in_features", "out_features", "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation",
    "groups", "padding_mode",
)  # fmt: skip
_STEPS = 12  # of conjugate gradients for the first factor


def forms_of(module: nn.Module) -> tuple[Form, ...]:
    """The forms that a layer can take."""
    if isinstance(module, nn.Linear):
        return ("channel",)
    if not isinstance(module, nn.Conv2d) or module.in_channels == module.groups:
        return ()
    return ("channel", "spatial") if module.kernel_size[0] > 1 and module.kernel_size[1] > 1 else ("channel",)


class Factored(nn.Sequential):  # type: ignore[misc]
    """Two layers in the place of one, with the sizes that a model's code may ask it for."""

    def __init__(self, first: nn.Module, second: nn.Module, instead_of: nn.Module) -> None:
        super().__init__(first, second)
        for name in _SIZES:
            if hasattr(instead_of, name):
                setattr(self, name, getattr(instead_of, name))


@dataclass(frozen=True)
class Split:
    """Both factors of a weight, of every group.

    Attributes
    ----------
    form : str
    left : Tensor
        (groups, rows, rank)
    right : Tensor
        (groups, rank, positions, outputs / groups)
    """

    form: Form
    left: Tensor
    right: Tensor

    @property
    def rank(self) -> int:
        """Of a group."""
        return int(self.left.shape[2])

    def cut(self, rank: int) -> Split:
        """The first so many terms."""
        return Split(self.form, self.left[:, :, :rank], self.right[:, :rank])

    def matrix(self) -> Tensor:
        """(groups, rows, positions, outputs / groups)"""
        return torch.einsum("gpr,grko->gpko", self.left, self.right)

    def weight(self, module: nn.Module) -> Tensor:
        """The product, of the layer's shape."""
        weight: Tensor = module.weight
        return self.matrix().permute(0, 3, 1, 2).reshape(weight.shape)


def full_rank(module: nn.Module, form: Form) -> int:
    """At which the split is exact."""
    _, rows, positions, outputs = _shape(module, form)
    return min(rows, positions * outputs)


def split(
    module: nn.Module, form: Form, of: Factors | None = None, *, rank: int | None = None, fits: int = 0
) -> Split:
    """Factors of a layer's weight, square roots of singular values on both sides; float64.

    Parameters
    ----------
    module, form
        One of :func:`forms_of`.
    of : Factors, optional
        Without bias. The singular values are then those of the whitened matrix, and dropping some raises the loss least
        (``channel``; for ``spatial`` that is an approximation, see ``fits``).
    rank : int, optional
        Terms to keep; default: all.
    fits : int
        How often each factor is fitted to the other by least squares. Needs ``of``.
    """
    groups, rows, positions, outputs = _shape(module, form)
    matrix = _matrix(module, form)
    white_left, white_right = None, None
    flat = matrix.reshape(groups, rows, positions * outputs)
    if of is not None:
        white_left = _root(_row_moments(of, rows, positions))
        white_right = _root(of.output.double().cpu())
        turned = torch.einsum("gqp,gqko->gpko", white_left, matrix)
        flat = torch.einsum("gpko,gon->gpkn", turned, white_right).reshape(groups, rows, -1)
    u, s, vh = torch.linalg.svd(flat, full_matrices=False)
    rank = s.shape[1] if rank is None else rank
    root = s[:, :rank].sqrt()
    left = u[:, :, :rank] * root[:, None, :]
    right = (root[:, :, None] * vh[:, :rank]).reshape(groups, rank, positions, outputs)
    if white_left is not None and white_right is not None:
        left = torch.linalg.solve_triangular(white_left.transpose(1, 2), left, upper=True)
        right = torch.linalg.solve_triangular(
            white_right, right.reshape(groups, -1, outputs), upper=False, left=False
        ).reshape(right.shape)
    found = Split(form, left, right)
    return found if of is None or not fits else fitted(module, found, of, fits)


def fitted(module: nn.Module, found: Split, of: Factors, fits: int = 1) -> Split:
    """Each factor fitted to the other by least squares, so often; with 1 the second factor alone."""
    groups, rows, positions, _ = _shape(module, found.form)
    matrix = _matrix(module, found.form)
    moments = of.input.double().cpu().reshape(groups, rows, positions, rows, positions)
    output = of.output.double().cpu()
    found = _fit_right(found, matrix, moments)
    for _ in range(fits - 1):
        found = _fit_right(_fit_left(found, matrix, moments, output), matrix, moments)
    return _balanced(found)


def rise(module: nn.Module, of: Factors, found: Split) -> float:
    """About how much the loss rises by a split: ``trace(G D A D^T) / 2``."""
    weight: Tensor = module.weight
    groups, outputs, _ = of.shape
    change = (found.weight(module) - weight.detach().double().cpu()).reshape(groups, outputs, -1)
    moved = of.output.double().cpu() @ change @ of.input.double().cpu()
    return max(float((change * moved).sum()) / 2, 0.0)


def replacement(module: nn.Module, found: Split) -> Factored:
    """The two layers that compute the split; the second has the bias."""
    rank = found.rank
    weight: Tensor = module.weight
    if isinstance(module, nn.Linear):
        first: nn.Module = nn.Linear(module.in_features, rank, bias=False)
        second: nn.Module = nn.Linear(rank, module.out_features, bias=module.bias is not None)
    else:
        assert isinstance(module, nn.Conv2d)
        first, second = _convolutions(module, found.form, rank)
    with torch.no_grad():
        first.weight.copy_(found.left.permute(0, 2, 1).reshape(first.weight.shape))
        second.weight.copy_(found.right.permute(0, 3, 1, 2).reshape(second.weight.shape))
        if module.bias is not None:
            second.bias.copy_(module.bias)
    made = Factored(first, second, module)
    made.to(weight.device, weight.dtype)
    made.train(module.training)
    for parameter in made.parameters():
        parameter.requires_grad_(weight.requires_grad)
    return made


def _convolutions(module: nn.Conv2d, form: Form, rank: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    groups, inner = module.groups, rank * module.groups
    (height, width), (down, across) = module.kernel_size, module.stride
    named = isinstance(module.padding, str)
    pad_down, pad_across = (0, 0) if named else module.padding
    common = {"groups": groups, "padding_mode": module.padding_mode}
    if form == "channel":
        first = nn.Conv2d(
            module.in_channels,
            inner,
            module.kernel_size,
            module.stride,
            module.padding,
            module.dilation,
            bias=False,
            **common,
        )
        return first, nn.Conv2d(inner, module.out_channels, 1, groups=groups, bias=module.bias is not None)
    first = nn.Conv2d(
        module.in_channels,
        inner,
        (height, 1),
        (down, 1),
        module.padding if named else (pad_down, 0),
        (module.dilation[0], 1),
        bias=False,
        **common,
    )
    second = nn.Conv2d(
        inner,
        module.out_channels,
        (1, width),
        (1, across),
        module.padding if named else (0, pad_across),
        (1, module.dilation[1]),
        bias=module.bias is not None,
        **common,
    )
    return first, second


# --- parts


def _shape(module: nn.Module, form: Form) -> tuple[int, int, int, int]:
    """Groups, rows, positions, outputs of a group."""
    weight: Tensor = module.weight
    groups = getattr(module, "groups", 1)
    positions = weight.shape[3] if form == "spatial" else 1
    return groups, weight[0].numel() // positions, positions, weight.shape[0] // groups


def _matrix(module: nn.Module, form: Form) -> Tensor:
    """The weight as (groups, rows, positions, outputs / groups), float64."""
    groups, rows, positions, outputs = _shape(module, form)
    weight: Tensor = module.weight
    return (
        weight.detach()
        .double()
        .cpu()
        .reshape(groups, outputs, rows, positions)
        .permute(0, 2, 3, 1)
        .contiguous()
    )


def _row_moments(of: Factors, rows: int, positions: int) -> Tensor:
    """Second moments of what the first layer reads: of the whole patch, averaged over positions."""
    every = of.input.double().cpu().reshape(of.shape[0], rows, positions, rows, positions)
    return torch.einsum("gpkqk->gpq", every) / positions


def _root(moments: Tensor) -> Tensor:
    """Lower Cholesky factors of matrices that rounding or dead inputs may have left without full rank."""
    mean = moments.diagonal(dim1=1, dim2=2).mean(1)
    mean = torch.where(mean > 0, mean, torch.ones_like(mean))
    ridge = _RIDGE * mean
    for _ in range(12):
        root, failed = torch.linalg.cholesky_ex(moments + _diagonal(ridge, moments.shape[1]))
        if not bool(failed.any()):
            return root
        ridge = ridge * 10
    raise ValueError("moments are no positive semidefinite matrices")


def _diagonal(value: Tensor, size: int) -> Tensor:
    return torch.diag_embed(value[:, None].expand(-1, size))


def _fit_right(found: Split, matrix: Tensor, moments: Tensor) -> Split:
    """The best second factor for this first one; the outputs' curvature does not matter to it."""
    groups, rank, positions, outputs = found.right.shape
    seen = torch.einsum("gpr,gpkqm->grkqm", found.left, moments)
    gram = torch.einsum("grkqm,gqs->grksm", seen, found.left).reshape(groups, rank * positions, -1)
    wanted = torch.einsum("grkqm,gqmo->grko", seen, matrix).reshape(groups, rank * positions, outputs)
    root = _root(gram)
    right = torch.cholesky_solve(wanted, root).reshape(found.right.shape)
    return Split(found.form, found.left, right)


def _fit_left(found: Split, matrix: Tensor, moments: Tensor, output: Tensor) -> Split:
    """A better first factor for this second one: conjugate gradients from what it is."""
    left, right = found.left, found.right

    def gradient(change: Tensor) -> Tensor:
        """Of the loss by the first factor, for a change of the product."""
        moved = torch.einsum("gpkqm,gqmo->gpko", moments, torch.einsum("gpko,gon->gpkn", change, output))
        return torch.einsum("gpko,grko->gpr", moved, right)

    residual = -gradient(found.matrix() - matrix)
    direction = residual.clone()
    power = (residual**2).sum()
    for _ in range(_STEPS):
        if not float(power) > 0:
            break
        image = gradient(torch.einsum("gpr,grko->gpko", direction, right))
        curvature = (direction * image).sum()
        if not float(curvature) > 0:
            break
        step = power / curvature
        left = left + step * direction
        residual = residual - step * image
        before, power = power, (residual**2).sum()
        direction = residual + (power / before) * direction
    return Split(found.form, left, right)


def _balanced(found: Split) -> Split:
    """Both factors of each term equally long."""
    a, b = (found.left**2).sum(1), (found.right**2).sum((2, 3))
    scale = torch.where((a > 0) & (b > 0), (b / a.clamp(min=1e-300)) ** 0.25, torch.ones_like(a))
    return Split(found.form, found.left * scale[:, None, :], found.right / scale[:, :, None, None])
