"""Networks that compute in bfloat16 while they train."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mixed(device: str) -> torch.autocast:
    """The context in which a network computes in bfloat16; on CPUs without AVX-512 in float32, much faster there."""
    fast = device != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.autocast(device, torch.bfloat16, enabled=fast)


def trains_in_bfloat16(kind: type[nn.Module], compiled: bool = False) -> None:
    """Makes networks of this kind compute in :func:`mixed` precision while they train; weights stay float32.

    ``compiled`` joins normalisation and activations into the passes around them, which takes a compiler half a minute.
    """
    forward = kind.forward
    training = torch.compile(forward) if compiled else forward

    def either(self: nn.Module, images: Tensor) -> Tensor:
        if not self.training:
            return forward(self, images)
        with mixed(images.device.type):
            return training(self, images).float()

    kind.forward = either  # type: ignore[method-assign]  # the class: methods train copies of the network
