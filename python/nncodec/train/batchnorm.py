"""Batch normalisation in as few numbers as it needs."""

from __future__ import annotations

import torch
from torch import nn

from nncodec.train.base import Loader
from nncodec.train.steps import call, device_of, moved, pairs

__all__ = ["fold_statistics", "freeze_statistics", "measure_statistics"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()  # type: ignore[untyped-decorator]
def fold_statistics(model: nn.Module) -> int:
    """Move running statistics into weight and bias: mean 0 and variance 1 remain, the function stays the same.

    In evaluation a normalisation is one factor and one summand per channel, yet it is stored as four numbers.
    Afterwards two of them are constants, which cost nothing. Returns how many normalisations were folded.
    """
    folded = 0
    for module in model.modules():
        if not isinstance(module, _NORMS) or not module.affine or module.running_mean is None:
            continue
        assert module.running_var is not None
        factor = module.weight.double() / torch.sqrt(module.running_var.double() + module.eps)
        shift = module.bias.double() - module.running_mean.double() * factor
        module.running_mean.zero_()
        module.running_var.fill_(1.0)
        module.weight.copy_(factor * (1.0 + module.eps) ** 0.5)
        module.bias.copy_(shift)
        folded += 1
    return folded


def freeze_statistics(model: nn.Module) -> None:
    """Normalise by the running statistics from now on, and leave them, until the modules' mode is set again."""
    for module in model.modules():
        if isinstance(module, _NORMS) and module.running_mean is not None:
            module.eval()


@torch.no_grad()  # type: ignore[untyped-decorator]
def measure_statistics(model: nn.Module, loader: Loader) -> None:
    """Running statistics of the weights as they are: plain averages over one pass, all else (dropout) in evaluation.

    ValueError for an empty loader, TypeError for batches that are no pairs.
    """
    norms = [m for m in model.modules() if isinstance(m, _NORMS) and m.running_mean is not None]
    if not norms:
        return
    before = [m.momentum for m in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # the average of all batches
    model.eval()
    for module in norms:
        module.train()
    device = device_of(model)
    batches = 0
    for inputs, _ in pairs(loader):
        call(model, moved(inputs, device))
        batches += 1
    if not batches:
        raise ValueError("loader is empty: give a DataLoader or a list of batches")
    for module, momentum in zip(norms, before, strict=True):
        module.momentum = momentum
