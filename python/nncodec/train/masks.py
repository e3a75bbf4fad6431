"""Training with masks by the convention of ``torch.nn.utils.prune``: ``weight_orig`` learns, ``weight_mask`` stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

__all__ = ["masked"]


@contextmanager
def masked(layers: Iterable[tuple[nn.Module, Tensor]]) -> Iterator[None]:
    """Inside, ``weight`` of each module is ``weight_orig`` times ``weight_mask``; afterwards an ordinary parameter.

    The parameter is the same object throughout, so that optimizers outlive it, and keeps its place among the module's.
    """
    entered: list[tuple[nn.Module, list[str]]] = []
    try:
        for module, mask in layers:
            entered.append((module, list(module._parameters)))
            prune.custom_from_mask(module, "weight", mask)
        yield
    finally:
        for module, order in entered:
            if hasattr(module, "weight_mask"):
                mask = module.weight_mask != 0
                prune.remove(module, "weight")
                with torch.no_grad():
                    module.weight.masked_fill_(~mask, 0.0)  # a product with 0 may be -0
            for name in order:
                module._parameters[name] = module._parameters.pop(name)
