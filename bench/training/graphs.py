"""Networks whose training steps a GPU takes as CUDA graphs: small layers are over before the next could be launched."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.training.precision import mixed


class _Pass(nn.Module):
    """A network's forward pass in bfloat16, for one shape of images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.plain = type(model).forward

    def forward(self, images: Tensor) -> Tensor:
        with mixed("cuda"):
            return self.plain(self.model, images).float()


def trains_on_graphs(model: nn.Module) -> None:
    """Makes this network train by CUDA graphs, one for every shape of images; elsewhere it computes as it did.

    A graph reads the parameters where they lie when a shape is first seen, so they must stay there.
    """
    passes: dict[torch.Size, nn.Module] = {}
    plain = model.forward

    def either(images: Tensor) -> Tensor:
        if not (model.training and torch.is_grad_enabled()):
            return plain(images)
        if images.shape not in passes:
            passes[images.shape] = torch.cuda.make_graphed_callables(_Pass(model), (images.clone(),))
        return passes[images.shape](images)

    model.forward = either  # type: ignore[method-assign]
