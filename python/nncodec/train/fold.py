"""Folding batch normalisation into the layer before it: exact at inference, and four vectors fewer to store."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from nncodec.train.steps import alone

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
        whose input is the output of a linear or convolution layer that nothing else reads, of as many channels, and
        that has its weight for itself.
    inplace : bool
        Change the caller's model; otherwise it is left as it was.

    Returns
    -------
    torch.nn.Module
        With ``nn.Identity`` where the normalisations were; computed in float64, rounded once. After a linear layer it
        takes two dimensions only, for of three ``BatchNorm1d`` normalises the second, not the features.

    Raises
    ------
    ValueError
        If the model cannot be traced and ``pairs`` is not given; if a pair names something else, its channels do not
        fit, the layer's weight is computed or another layer's, too, or the normalisation keeps no statistics. The
        model is as it was then.
    """
    work = model if inplace else deepcopy(model)
    found = list(_traced(work) if pairs is None else pairs)
    if len({layer for layer, _ in found}) < len(found):
        raise ValueError("pairs: a layer is there twice")
    for layer_name, norm_name in found:  # all, before anything is changed
        _check(work, layer_name, norm_name)
    for layer_name, norm_name in found:
        layer = work.get_submodule(layer_name)
        _fold(layer, work.get_submodule(norm_name))
        parent, _, own = norm_name.rpartition(".")
        nothing = _OfRows() if isinstance(layer, nn.Linear) else nn.Identity()
        setattr(work.get_submodule(parent), own, nothing)
    return work


class _OfRows(nn.Identity):  # type: ignore[misc]
    """Where the batch normalisation of a linear layer's features was."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 2:
            raise ValueError(
                f"a batch normalisation of features was folded, but the input has {input.ndim} dimensions, of which "
                "it would have normalised the second: fold with `pairs`, without this one"
            )
        return input


def _check(model: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = model.get_submodule(layer_name), model.get_submodule(norm_name)
    if not isinstance(layer, _LAYERS) or not isinstance(norm, _NORMS):
        raise ValueError(f"pairs: {layer_name!r} and {norm_name!r} are no layer and its batch normalisation")
    if not _own_weight(model, layer):
        raise ValueError(f"the weight of {layer_name!r} is computed, or another layer's, too")
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"{norm_name!r} keeps no statistics")
    if norm.num_features != layer.weight.shape[0]:
        raise ValueError(
            f"{norm_name!r} has {norm.num_features} channels, {layer_name!r} {layer.weight.shape[0]}"
        )


def _own_weight(model: nn.Module, layer: nn.Module) -> bool:
    return layer._parameters.get("weight") is not None and alone(model, layer)


def _fold(layer: Any, norm: Any) -> None:
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
            and _own_weight(model, modules[before.target])
            and modules[before.target].weight.shape[0] == modules[node.target].num_features
        ):
            pairs.append((before.target, node.target))
    return pairs
