"""Networks that compute in bfloat16 while they train."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def trains_in_bfloat16(kind: type[nn.Module], compiled: bool = False) -> None:
    """Makes networks of this kind compute in bfloat16 while they train (weights and evaluation stay float32).

    ``compiled`` joins normalisation and activations into the passes around them, which takes a compiler half a minute.
    """
    forward = kind.forward
    training = torch.compile(forward) if compiled else forward

    def mixed(self: nn.Module, images: Tensor) -> Tensor:
        if not self.training:
            return forward(self, images)
        with torch.autocast(images.device.type, torch.bfloat16):
            return training(self, images).float()

    kind.forward = mixed  # type: ignore[method-assign]  # the class: methods train copies of the network
