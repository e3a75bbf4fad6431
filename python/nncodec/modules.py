"""What running a model on examples does to it for a while: where it runs, and in which mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn

__all__ = ["evaluating", "placed"]


def placed(model: nn.Module, device: torch.device | str | None) -> tuple[nn.Module, torch.device]:
    """The model on a device, and that device: a copy if it is elsewhere. None: where it is."""
    here = next(model.parameters(), torch.empty(0)).device
    there = here if device is None else torch.device(device)
    return (model if there == here else deepcopy(model).to(there)), there


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """All modules in evaluation mode, and back in their own afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
