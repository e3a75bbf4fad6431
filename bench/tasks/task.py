"""What every task offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Task", "loaded"]


@dataclass(frozen=True)
class Task:
    """One network and what it is measured by.

    Attributes
    ----------
    build : callable
        Weights to ``nn.Module`` in evaluation mode, whose ``state_dict`` has the names of the weights.
    evaluate : callable
        Module, data folder and optional number of samples to metric values.
    measured : mapping
        What ``evaluate`` gives for the weights as they came.
    calibration : callable, optional
        Data folder and number of samples to batches of inputs, disjoint from those of ``evaluate``.
    """

    build: Callable[[Mapping[str, Any]], nn.Module]
    evaluate: Callable[[nn.Module, Path, int | None], dict[str, float]]
    measured: Mapping[str, float]
    calibration: Callable[[Path, int], Iterable[Any]] | None = None


def _float32(value: Any) -> Tensor:
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().to(torch.float32)
    return torch.from_numpy(np.array(value, np.float32))  # a copy: maps are read-only


def loaded(module: nn.Module, tensors: Mapping[str, Any]) -> nn.Module:
    """The module with these weights as float32, strictly by name, in evaluation mode."""
    own = module.state_dict()
    values = {name: _float32(tensors[name]).to(own[name].dtype) for name in tensors}
    # BatchNorm counts its batches; files seldom keep the count and evaluation does not use it.
    values |= {name: own[name] for name in own if name.endswith("num_batches_tracked") and name not in values}
    module.load_state_dict(values)
    return module.eval()
