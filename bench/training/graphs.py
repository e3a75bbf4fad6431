"""Networks whose training steps a GPU takes as CUDA graphs: small layers are over before the next could be launched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.training.precision import mixed


class _Pass(nn.Module):
    """A network's forward pass in bfloat16, for one shape of images."""

    def __init__(self, model: nn.Module, plain: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.plain = plain

    def forward(self, images: Tensor) -> Tensor:
        with mixed("cuda"):
            return self.plain(self.model, images).float()


def trains_on_graphs(kind: type[nn.Module]) -> None:
    """Makes networks of this kind train in bfloat16 by CUDA graphs, one for each shape of images; weights stay float32.

    In evaluation and without gradients they compute as they did. A graph reads parameters where they lie when a shape
    is first seen, so they must stay there; that first time moves running statistics a few steps more than once. What
    a network returns is overwritten by its next pass.
    """
    plain = kind.forward
    passes: dict[tuple[int, torch.Size], nn.Module] = {}  # each keeps its network, so no number is used twice

    def either(self: nn.Module, images: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return plain(self, images)
        key = id(self), images.shape
        if key not in passes:
            passes[key] = torch.cuda.make_graphed_callables(_Pass(self, plain), (images.clone(),))
        return passes[key](images)

    kind.forward = either  # type: ignore[method-assign]  # the class: methods train copies of the network
