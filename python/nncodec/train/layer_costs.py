"""What layers cost, as they are and as two layers of a rank: multiplications, parameters, or coded bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nncodec.train.lowrank import Form, Split
from nncodec.train.steps import call, device_of, evaluating, moved

__all__ = ["Complexity", "Sizes", "coded_bytes", "dense_cost", "layer_sizes", "rank_cost"]

Complexity: TypeAlias = Literal["macs", "parameters", "bytes"]


@dataclass(frozen=True)
class Sizes:
    """Of one example: output positions of a layer, and how many those of a ``spatial`` first layer are."""

    outputs: int
    between: int


def layer_sizes(model: nn.Module, layers: dict[str, nn.Module], batches: Iterable[Any]) -> dict[str, Sizes]:
    """Sizes of the layers that run on the first batch; one that runs several times counts all of them."""
    found: dict[str, Sizes] = {}
    handles = []
    for name, module in layers.items():

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            examples = max(len(output), 1)
            channels = output.shape[1] if isinstance(module, nn.Conv2d) else output.shape[-1]
            outputs = output.numel() // max(channels, 1) // examples
            between = outputs
            if isinstance(module, nn.Conv2d):
                between = output.shape[2] * inputs[0].shape[3]
            before = found.get(name, Sizes(0, 0))
            found[name] = Sizes(before.outputs + outputs, before.between + between)

        handles.append(module.register_forward_hook(hook))
    try:
        with evaluating(model), torch.no_grad():
            for inputs, _ in batches:
                call(model, moved(inputs, device_of(model)))
                break
            else:
                raise ValueError("loader is empty: give a DataLoader or a list of batches")
    finally:
        for handle in handles:
            handle.remove()
    return found


def dense_cost(module: nn.Module, sizes: Sizes, complexity: Complexity) -> float:
    """Of a layer as it is; biases are not counted."""
    weight: Tensor = module.weight
    if complexity == "bytes":
        return coded_bytes([weight])
    return float(weight.numel() * (sizes.outputs if complexity == "macs" else 1))


def rank_cost(module: nn.Module, form: Form, sizes: Sizes, complexity: Complexity) -> float:
    """Of each unit of rank (in every group): multiplications or parameters."""
    weight: Tensor = module.weight
    groups = getattr(module, "groups", 1)
    positions = weight.shape[3] if form == "spatial" else 1
    first = groups * (weight[0].numel() // positions)
    second = weight.shape[0] * positions
    if complexity == "parameters":
        return float(first + second)
    return float(first * (sizes.between if form == "spatial" else sizes.outputs) + second * sizes.outputs)


def split_bytes(found: Split, ranks: Sequence[int]) -> NDArray[np.float64]:
    """Coded bytes of both factors at some ranks."""
    return np.array([coded_bytes([found.cut(rank).left, found.cut(rank).right]) for rank in ranks])


def coded_bytes(tensors: Sequence[Tensor], rel_mse: float = 1e-3) -> float:
    """What the trellis codec takes for these tensors at a relative squared error, headers of the file not counted."""
    from nncodec.api import encode
    from nncodec.codecs import CODECS

    matrices = {
        str(i): t.detach().float().cpu().reshape(len(t), -1).numpy()
        for i, t in enumerate(tensors)
        if t.numel()
    }
    codec = CODECS["trellis"](states=8)  # type: ignore[call-arg]
    empty = len(encode({name: m[:0] for name, m in matrices.items()}, codec=codec, rel_mse=rel_mse))
    return float(max(len(encode(matrices, codec=codec, rel_mse=rel_mse)) - empty, 1))
