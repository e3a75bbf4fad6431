"""Compact filters: layers whose weights a few free numbers generate, chosen by coded size, trained as such.

:func:`analyse` fits structures to the layers of a trained network and says what each costs. Trained weights are
seldom near any of them: :class:`Compact` projects and trains the free numbers on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.batchnorm import measure_statistics
from nncodec.train.layer_costs import coded_bytes
from nncodec.train.steps import alone, compressible, cosine, epoch, sgd
from nncodec.train.structures import BlockCirculant, DepthwiseSeparable, Kronecker, Monarch, Structure

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["Compact", "Fit", "analyse", "dense"]

_STRUCTURES: tuple[Structure, ...] = (
    BlockCirculant(4),
    Kronecker(),
    Monarch(),
    DepthwiseSeparable(1),
    DepthwiseSeparable(2),
)


@dataclass(frozen=True)
class Fit:
    """One structure on one layer.

    Attributes
    ----------
    name : str
        Of the weight.
    structure : Structure
    relative_error : float
        Norm of the difference from the layer over the norm of the layer.
    numbers : int
        Free numbers.
    bytes : float
        Of the coded free numbers.
    plain_bytes : float
        Of the coded weight, at the error that the structure and its coding have together.
    """

    name: str
    structure: Structure
    relative_error: float
    numbers: int
    bytes: float
    plain_bytes: float

    @property
    def pays(self) -> bool:
        """Whether it is smaller than the plain coder at equal error."""
        return self.bytes < self.plain_bytes


@torch.no_grad()  # type: ignore[untyped-decorator]
def analyse(
    model: nn.Module,
    structures: Iterable[Structure] = _STRUCTURES,
    *,
    rel_mse: float = 1e-3,
    layers: tuple[str, ...] = ("*",),
) -> tuple[list[Fit], dict[str, Structure]]:
    """Fit structures to the linear and convolution layers of a model.

    Parameters
    ----------
    model : torch.nn.Module
    structures : iterable of Structure
        Those that do not fit a layer's shape are left out.
    rel_mse : float
        Relative squared error at which the free numbers are coded, by codec ``trellis``; at least a tenth of what the
        structure itself makes.
    layers : tuple of str
        Glob patterns over names of weights.

    Returns
    -------
    list of Fit
        Of every layer and structure.
    dict
        For each layer where one pays, the one that saves most beside the plain coder; what loses to it is never among
        them.
    """
    known = list(structures)
    fits: list[Fit] = []
    for name, module in compressible(model, layers).items():
        weight: Tensor = module.weight.detach().float()
        energy = float((weight.double() ** 2).sum())
        for structure in known:
            if energy == 0 or not structure.fits(tuple(weight.shape)):
                continue
            numbers = structure.numbers(weight)
            lost = float(((structure.expand(numbers, tuple(weight.shape)) - weight).double() ** 2).sum())
            # Numbers of a bad fit need not be exact; an error of each of several factors adds to the product's.
            coding = max(rel_mse, 0.1 * lost / energy)
            total = min(lost / energy + len(numbers) * coding, 0.99)
            fits.append(
                Fit(
                    name,
                    structure,
                    (lost / energy) ** 0.5,
                    sum(n.numel() for n in numbers),
                    coded_bytes(numbers, coding),
                    coded_bytes([weight], total),
                )
            )
    best: dict[str, Fit] = {}
    for fit in fits:
        share = fit.bytes / fit.plain_bytes
        if fit.pays and (fit.name not in best or share < best[fit.name].bytes / best[fit.name].plain_bytes):
            best[fit.name] = fit
    return fits, {name: fit.structure for name, fit in best.items()}


class _Expanded(nn.Module):  # type: ignore[misc]
    """A parametrisation: the weight from its free numbers, and back to the nearest."""

    def __init__(self, structure: Structure, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.structure = structure
        self.shape = shape

    def forward(self, *numbers: Tensor) -> Tensor:
        return self.structure.expand(numbers, self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor | tuple[Tensor, ...]:
        wide = (
            weight if weight.dtype == torch.float64 else weight.float()
        )  # decompositions know no half precision
        numbers = tuple(n.to(weight.dtype) for n in self.structure.numbers(wide))
        return numbers[0] if len(numbers) == 1 else numbers


@dataclass(frozen=True)
class Compact(Method):
    """Give layers a structure and train its free numbers.

    The result's model has ``torch.nn.utils.parametrize`` on these layers: its state dict holds the free numbers, and
    runs as before. :func:`dense` makes ordinary weights of it.

    Parameters
    ----------
    structures : mapping of str to Structure
        By glob pattern over names of weights, the first that matches; those :func:`analyse` gives, or one's own.
        ValueError for a pattern that matches none, or a structure that does not fit.
    epochs, lr, momentum, weight_decay
        Of stochastic gradient descent on all parameters; the rate falls to 0 along a cosine.
    """

    structures: Mapping[str, Structure]
    epochs: int = 2
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not self.structures:
            raise ValueError("structures: there must be one")
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs!r}")

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Structuring(self, model, loader, loss)


class _Structuring(Run):
    def __init__(self, method: Compact, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.method = method
        self.names: list[str] = []
        layers = compressible(model)
        for pattern in method.structures:
            if not any(fnmatchcase(name, pattern) for name in layers):
                raise ValueError(f"structures: pattern {pattern!r} matches no linear or convolution weight")
        for name, module in layers.items():
            structure = next((s for p, s in method.structures.items() if fnmatchcase(name, p)), None)
            if structure is None:
                continue
            shape = tuple(module.weight.shape)
            if not structure.fits(shape):
                raise ValueError(f"structures: {name!r} of shape {shape} cannot be {structure}")
            if not alone(model, module):
                raise ValueError(f"structures: another module shares {name!r}, which must stay as it is")
            parametrize.register_parametrization(module, "weight", _Expanded(structure, shape))
            self.names.append(name)
        self.optimizer = sgd(model.parameters(), method.lr, method.momentum, method.weight_decay)

    @property
    def units(self) -> int:
        return 1 + self.method.epochs

    def unit(self, index: int) -> dict[str, Any]:
        if index == 0:
            measure_statistics(self.model, self.loader)
            return {"stage": "project", "numbers": sum(p.numel() for p in self.model.parameters())}
        method = self.method
        self.model.train()
        value = epoch(
            self.model,
            self.loader,
            self.loss,
            self.optimizer,
            rate=lambda share: cosine(method.lr, (index - 1 + share) / method.epochs),
        )
        return {"stage": "tune", "epoch": index - 1, "loss": value}

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])

    def codec(self) -> Mapping[str, str | Codec]:
        own = [name for name, _ in self.model.named_parameters() if ".parametrizations.weight." in f".{name}"]
        return codec_mapping(dict.fromkeys(own, "lossless"))


def dense(model: nn.Module) -> nn.Module:
    """The model with ordinary weights where structures generated them; it is changed."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return model
