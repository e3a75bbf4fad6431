"""Second factors fitted to what the network computed before, layer after layer, on inputs that are compressed already.

Each layer's own least squares (see :mod:`nncodec.train.lowrank`) assume the inputs of the network as it was. Here a
layer sees what the layers before it, already cut, give it, and is fitted to the outputs that it had: errors do not add
up as they would (in the manner of Zhang et al., "Accelerating very deep convolutional networks", arXiv:1505.06798,
without their nonlinearity).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nncodec.moments import patches
from nncodec.train.lowrank import Factored
from nncodec.train.steps import call, device_of, evaluating, moved

__all__ = ["refit"]

_RIDGE = 1e-4  # of the mean of the moments' diagonal, towards the factor as it is


class _Reached(Exception):
    """The layer has run; what comes after it need not."""


@torch.no_grad()  # type: ignore[untyped-decorator]
def refit(model: nn.Module, original: nn.Module, names: Sequence[str], batches: Iterable[Any]) -> None:
    """Fit the second layers of ``names``, modules of ``model`` in the order they run in, to those of ``original``."""
    kept = list(batches)
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, Factored)
        second = layer[1]
        gram: Tensor | float = 0.0
        wanted: Tensor | float = 0.0
        with evaluating(model), evaluating(original):
            for inputs, _ in kept:
                inputs = moved(inputs, device_of(model))
                z = _captured(model, second, inputs, "input")
                y = _captured(original, original.get_submodule(name), inputs, "output")
                x = _vectors(second, z)
                groups = x.shape[0]
                if isinstance(second, nn.Conv2d):
                    y = y.movedim(1, -1)
                y = y.reshape(x.shape[1], groups, -1).movedim(1, 0)
                if second.bias is not None:
                    y = y - second.bias.reshape(groups, 1, -1)
                gram = gram + (x.mT @ x).double()
                wanted = wanted + (x.mT @ y).double()
        assert isinstance(gram, Tensor)
        assert isinstance(wanted, Tensor)
        weight: Tensor = second.weight
        before = weight.double().reshape(gram.shape[0], -1, gram.shape[1])  # (groups, outputs, k)
        ridge = _RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1)
        ridge = torch.where(ridge > 0, ridge, torch.ones_like(ridge))[:, None, None]
        eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        root = torch.linalg.cholesky(gram + ridge * eye)
        fitted = torch.cholesky_solve(wanted + ridge * before.mT, root)
        weight.copy_(fitted.mT.reshape(weight.shape))


def _captured(model: nn.Module, module: nn.Module, inputs: Any, what: str) -> Tensor:
    """What goes into or comes out of a module when the model runs."""
    found: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append(args[0])
        raise _Reached

    def after(_: nn.Module, __: Any, output: Tensor) -> None:
        found.append(output)
        raise _Reached

    handle = (
        module.register_forward_pre_hook(before) if what == "input" else module.register_forward_hook(after)
    )
    try:
        call(model, inputs)
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


def _vectors(second: nn.Module, z: Tensor) -> Tensor:
    """(groups, vectors, k)"""
    if isinstance(second, nn.Conv2d):
        return patches(second, z if z.ndim == 4 else z[None])
    return z.reshape(1, -1, z.shape[-1])
