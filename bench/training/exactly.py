"""Trained networks as files, to the bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import nncodec
from nncodec.train.exact import smallest_file
from nncodec.train.steps import compressible

__all__ = ["encoded", "kept"]


def kept(model: nn.Module) -> int:
    """Weights of linear and convolution layers that are not 0."""
    return sum(int(module.weight.count_nonzero()) for module in compressible(model).values())


def encoded(model: nn.Module) -> tuple[bytes, dict[str, Any]]:
    """The smallest exact file, and its codecs."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    codec = smallest_file(state)
    blob = nncodec.encode(state, codec)
    back = nncodec.decode(blob)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    return blob, {name: choice if isinstance(choice, str) else choice.name for name, choice in codec.items()}
