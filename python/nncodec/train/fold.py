"""Folding batch normalisation into the layer before it: exact at inference, and four vectors fewer to store."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["fold_batchnorm"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batchnorm(
    model: nn.Module, *, pairs: Iterable[tuple[str, str]] | None = None, inplace: bool = False
) -> nn.Module:
    """Scale each layer's weights, and move its bias, as the batch normalisation after it would; that becomes nothing.

    Parameters
    ----------
    model : torch.nn.Module
        Used in evaluation mode from then on: the statistics are part of the weights.
    pairs : iterable of (str, str), optional
        Names of layer and batch normalisation. Default: found by tracing the model (``torch.fx``): every normalisation
        whose input is the output of a linear or convolution layer that nothing else reads.
    inplace : bool
        Change the caller's model; otherwise it is left as it was.

    Returns
    -------
    torch.nn.Module
        With ``nn.Identity`` where the normalisations were; computed in float64, rounded once.

    Raises
    ------
    ValueError
        If the model cannot be traced and ``pairs`` is not given; if a pair names something else, its channels do not
        fit, or the normalisation keeps no statistics.
    """
    work = model if inplace else deepcopy(model)
    for layer_name, norm_name in list(_traced(work) if pairs is None else pairs):
        layer, norm = work.get_submodule(layer_name), work.get_submodule(norm_name)
        if not isinstance(layer, _LAYERS) or not isinstance(norm, _NORMS):
            raise ValueError(
                f"pairs: {layer_name!r} and {norm_name!r} are no layer and its batch normalisation"
            )
        _fold(layer, norm, norm_name)
        parent, _, own = norm_name.rpartition(".")
        setattr(work.get_submodule(parent), own, nn.Identity())
    return work


def _fold(layer: Any, norm: Any, name: str) -> None:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"{name!r} keeps no statistics")
    if norm.num_features != layer.weight.shape[0]:
        raise ValueError(f"{name!r} has {norm.num_features} channels, the layer {layer.weight.shape[0]}")
    with torch.no_grad():
        scale = 1 / (norm.running_var.double() + norm.eps).sqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        shift = -norm.running_mean.double() * scale
        if norm.bias is not None:
            shift = shift + norm.bias.double()
        if layer.bias is not None:
            shift = shift + layer.bias.double() * scale
        weight: Tensor = layer.weight
        weight.copy_(weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1)))
        layer.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)


def _traced(model: nn.Module) -> list[tuple[str, str]]:
    from torch import fx

    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as error:  # whatever the model's code makes of stand-ins
        raise ValueError(f"the model cannot be traced ({error}): give pairs") from error
    modules = dict(model.named_modules())
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], _NORMS):
            continue
        before = node.args[0] if node.args else None
        if (
            isinstance(before, fx.Node)
            and before.op == "call_module"
            and isinstance(modules[before.target], _LAYERS)
            and len(before.users) == 1
            and calls[before.target] == calls[node.target] == 1
        ):
            pairs.append((before.target, node.target))
    return pairs
