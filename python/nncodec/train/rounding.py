"""The few parameters that no codebook takes, as multiples of a power of two: biases, normalisations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nncodec.train.base import Loader, Loss, Method, Run

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["Round", "round_to_powers"]


@torch.no_grad()  # type: ignore[untyped-decorator]
def round_to_powers(values: Tensor, precision: float) -> None:
    """To multiples of the largest power of two that is at most this share of the root mean square, in place."""
    size = float(values.detach().double().square().mean().sqrt()) if values.numel() else 0.0
    if not 0 < size < float("inf"):
        return
    step = 2.0 ** math.floor(math.log2(size * precision))
    values.copy_((values / step).round() * step + 0.0)  # no negative zeros


@dataclass(frozen=True)
class Round(Method):
    """Round parameters to multiples of 2^k, one k a tensor: no training.

    Parameters
    ----------
    precision : float
        The step is the largest power of two that is at most this share of the tensor's root mean square.
    layers : tuple of str
        Glob patterns over names of parameters; float ones of fewer than two dimensions where none are given.
    """

    precision: float = 0.25
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.precision < float("inf"):
            raise ValueError(f"precision must be positive, got {self.precision!r}")

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Rounding(self, model, loader, loss)


class _Rounding(Run):
    def __init__(self, method: Round, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.method = method
        self.parameters = {
            name: p
            for name, p in model.named_parameters()
            if (any(fnmatchcase(name, glob) for glob in method.layers) if method.layers else p.ndim < 2)
            and p.is_floating_point()
            and bool(p.count_nonzero())
        }

    @property
    def units(self) -> int:
        return 1

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def unit(self, index: int) -> dict[str, Any]:
        for p in self.parameters.values():
            round_to_powers(p, self.method.precision)
        return {"rounded": len(self.parameters)}

    def codec(self) -> Mapping[str, str | Codec]:
        from nncodec.train.exact import smallest_file

        return smallest_file(self.model.state_dict())
