"""Weights of several layers as one vector: a step of training costs a few operations, not a few per layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["FlatWeights"]


class FlatWeights:
    """What the optimiser moves (``latent``) and what the model computes with (``shown``), elements in order of layers.

    The model's parameters are views of ``shown`` and their gradients views of ``gradient`` until :meth:`release`.

    Attributes
    ----------
    latent, shown, gradient : torch.Tensor
        float32, one dimension, one element per weight.
    layer : torch.Tensor
        int64, the number of each weight's layer.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        own = dict(model.named_parameters())
        self.names = tuple(names)
        self._parameters = [own[name] for name in names]
        sizes = [p.numel() for p in self._parameters]
        device = self._parameters[0].device
        self.latent = torch.cat([p.detach().reshape(-1).float() for p in self._parameters])
        self.shown = self.latent.clone()
        self.gradient = torch.zeros_like(self.latent)
        self.layer = torch.repeat_interleave(torch.tensor(sizes, device=device))
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        self.pieces = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        for parameter, piece in zip(self._parameters, self.pieces, strict=True):
            parameter.data = self.shown[piece].view(parameter.shape)
            parameter.grad = self.gradient[piece].view(parameter.shape)

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.names)

    def release(self) -> None:
        """Give every parameter memory of its own, with the values that the model sees."""
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None

    def scales(self) -> Tensor:
        """Root mean square of the latent weights of each layer."""
        sums = torch.zeros(self.layers, device=self.latent.device).index_add_(0, self.layer, self.latent**2)
        return torch.sqrt(sums / torch.bincount(self.layer, minlength=self.layers))
