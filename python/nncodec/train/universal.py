"""Universal compression of a network: prune, quantise on a lattice, fine-tune the shared vectors.

The method of Choi, El-Khamy and Lee, "Universal deep neural network compression" (arXiv:1802.02271; IEEE JSTSP 14(4),
2020): weights that survive magnitude pruning are cut into vectors, optionally dithered, and rounded to a lattice; every
element of every distinct vector is then a parameter, whose gradient is the average of the gradients of all weights that
share it. Ours on top: pruned weights may come back while pruning goes on, assignments may move for some epochs before
they are fixed, distillation from the network as it came, and batch normalisation in two numbers per channel.

What was trained is what decodes: ``result.codec`` stores the weights of ``result.model`` bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.batchnorm import fold_statistics, measure_statistics
from nncodec.train.flat import FlatWeights
from nncodec.train.shared import LATTICES, SharedVectors, lattice_vectors, scalar_levels
from nncodec.train.sparsity import cubic_density, keep_largest, lamp_scores
from nncodec.train.steps import call, cosine, device_of, length, moved, pairs

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["Universal", "exact_codec"]

_MASK_EVERY = 20  # steps between two choices of the weights that survive


@dataclass(frozen=True)
class Universal(Method):
    """Prune, quantise, fine-tune the table.

    Parameters
    ----------
    density : float
        Share of the weights that survive pruning.
    prune_epochs, quantise_epochs, tune_epochs : int
        Epochs in which weights are pruned gradually, in which levels still move (lattice ``z`` of dimension 1 without
        dither only), and in which only the shared vectors do.
    step : float
        Quantiser step, in units of the mean magnitude of the surviving weights (of the layer, or of all).
    levels : int
        Largest magnitude of a level.
    fine_below, fine_levels : int
        Layers of fewer weights have so many levels, and steps finer in proportion: the first and the last layer of a
        network are small and matter much. Lattice ``z`` of dimension 1 without dither, scales by layer.
    lattice : {"z", "a2", "d4", "e8", "leech"}
        Vectors are rounded to this lattice, scaled to cells of volume step**dimension.
    dimension : int
        Elements of a shared vector, a multiple of the lattice's dimension; 0: the lattice's.
    dither : bool
        Subtractive dither, uniform over the cell.
    scales : {"layer", "network"}
        A step and a table for each layer, or one for all as in the paper.
    patterns : tuple of str
        Which parameters; those of two or more dimensions where none are given.
    lr, momentum, weight_decay : float
        Of stochastic gradient descent; the rate falls to 0 along a cosine over all epochs.
    revive : float
        Share of the gradient that pruned weights get; by it they may come back.
    distill, temperature : float
        Weight of the divergence from the outputs of the model as it came, which must be logits; 0: none.
    precision : float
        All other parameters are rounded to multiples of a power of two, at most this share of 1.5 times their median
        magnitude.
    blend : float
        Share of the quantise epochs over which the model passes from its float weights to their levels, where these
        still move; 0: at once.
    seed
        Also of the dither.
    """

    density: float = 0.1
    prune_epochs: int = 10
    quantise_epochs: int = 10
    tune_epochs: int = 2
    step: float = 1.0
    levels: int = 1
    fine_below: int = 0
    fine_levels: int = 12
    lattice: Literal["z", "a2", "d4", "e8", "leech"] = "z"
    dimension: int = 0
    dither: bool = False
    scales: Literal["layer", "network"] = "layer"
    patterns: tuple[str, ...] = ()
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    revive: float = 1.0
    distill: float = 0.0
    temperature: float = 3.0
    precision: float = 1 / 32
    blend: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ValueError(f"density must be above 0 and at most 1, got {self.density!r}")
        if self.lattice not in LATTICES:
            raise ValueError(f"lattice must be one of {', '.join(LATTICES)}, got {self.lattice!r}")
        if self.dimension < 0 or self.dimension % LATTICES[self.lattice] != 0:
            raise ValueError(
                f"dimension must be a multiple of {LATTICES[self.lattice]}, got {self.dimension!r}"
            )
        if not self.step > 0 or self.levels < 1:
            raise ValueError(f"step and levels must be positive, got {self.step!r} and {self.levels!r}")
        if min(self.prune_epochs, self.quantise_epochs, self.tune_epochs) < 0:
            raise ValueError("epochs must not be negative")
        if not 0 <= self.blend <= 1:
            raise ValueError(f"blend must be from 0 to 1, got {self.blend!r}")
        if self.scales not in ("layer", "network"):
            raise ValueError(f"scales must be 'layer' or 'network', got {self.scales!r}")

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Training(self, model, loader, loss)


class _Training(Run):
    """Units are epochs; what the model sees is in place between them, the float weights are in the state."""

    def __init__(self, method: Universal, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.method = method
        self.teacher = deepcopy(model).eval().requires_grad_(False) if method.distill > 0 else None
        names = [name for name, p in model.named_parameters() if _is_target(name, p, method.patterns)]
        if not names:
            raise ValueError("no parameter to compress: patterns match none, or none has two dimensions")
        self.flat = FlatWeights(model, names)
        self.mask = torch.ones_like(self.flat.latent, dtype=torch.bool)
        self.velocity = torch.zeros_like(self.flat.latent)
        self.shared: SharedVectors | None = None
        per_layer = method.scales == "layer"
        sizes = torch.tensor([piece.stop - piece.start for piece in self.flat.pieces])
        fine = (sizes < method.fine_below if per_layer else sizes[:1] < 0).to(self.flat.latent.device)
        self._group = self.flat.layer if per_layer else torch.zeros_like(self.flat.layer)
        self._steps = torch.where(fine, method.step * 3 / method.fine_levels, method.step)
        self._levels_of = torch.where(fine, float(method.fine_levels), float(method.levels))
        self._most = int(self._levels_of.max())
        others = [p for name, p in model.named_parameters() if name not in set(names) and p.requires_grad]
        unused = torch.zeros(1, device=device_of(model))  # an optimiser must have something
        self.optimiser = torch.optim.SGD(
            others or [unused], method.lr, method.momentum, nesterov=method.momentum > 0
        )

    @property
    def units(self) -> int:
        return self.method.prune_epochs + self.method.quantise_epochs + self.method.tune_epochs

    def unit(self, index: int) -> dict[str, Any]:
        method = self.method
        if index < method.prune_epochs:
            stage = "prune"
        else:
            stage = "quantise" if index < method.prune_epochs + method.quantise_epochs else "tune"
        loss = self._epoch(stage, index)
        if index + 1 == self.units:
            self._finish()
        density = float(self.mask.float().mean())
        return {"epoch": index, "stage": stage, "loss": loss, "density": density}

    def state(self) -> dict[str, Any]:
        state = {
            "latent": self.flat.latent,
            "mask": self.mask,
            "velocity": self.velocity,
            "optimizer": self.optimiser.state_dict(),
        }
        if self.teacher is not None:
            state["teacher"] = dict(self.teacher.state_dict())
        if self.shared is not None:
            state["shared"] = self.shared.state()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, own in (("latent", self.flat.latent), ("mask", self.mask), ("velocity", self.velocity)):
            own.copy_(state[name])
        self.optimiser.load_state_dict(state["optimizer"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        if "shared" in state:
            self.shared = SharedVectors.restored(state["shared"], self.flat.latent.device)

    def _epoch(self, stage: str, index: int) -> float:
        self.model.train()
        steps = length(self.loader)
        total = torch.zeros((), device=self.flat.latent.device)
        done = 0
        for inputs, targets in pairs(self.loader):
            at = index + (done / steps if steps else 0.0)
            self._prepare(stage, done, at)
            rate = cosine(self.method.lr, at / self.units)
            total += self._step(stage, inputs, targets, rate)
            done += 1
        if not done:
            raise ValueError("loader is empty: give a DataLoader or a list of batches")
        return float(total) / done

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _prepare(self, stage: str, step: int, at: float) -> None:
        """Choose survivors and levels, and show the model its weights."""
        method, flat = self.method, self.flat
        if stage == "tune":
            if self.shared is None:
                self.shared = self._assign()
            self.shared.write_to(flat.shown)
            return
        if step % _MASK_EVERY == 0:
            pruned = at / method.prune_epochs if method.prune_epochs else 1.0
            density = cubic_density(pruned, 1.0, method.density)
            self.mask = keep_largest(lamp_scores(flat.latent, flat.pieces), density)
        if stage == "quantise" and self._scalar:
            # From the float weights to their levels step by step: a jump would undo much.
            self._levels().write_to(flat.shown)
            passed, over = at - method.prune_epochs, method.blend * method.quantise_epochs
            if passed < over:
                flat.shown.lerp_(flat.latent * self.mask, 1 - passed / over)
        else:
            torch.mul(flat.latent, self.mask, out=flat.shown)

    @property
    def _scalar(self) -> bool:
        method = self.method
        return method.lattice == "z" and method.dimension < 2 and not method.dither

    def _levels(self) -> SharedVectors:
        flat = self.flat
        return scalar_levels(flat.latent, self.mask, self._group, self._steps, self._levels_of, self._most)

    def _assign(self) -> SharedVectors:
        if self._scalar:
            return self._levels()
        method, flat = self.method, self.flat
        return lattice_vectors(
            flat.latent,
            self.mask,
            flat.pieces,
            flat.names,
            lattice=method.lattice,
            dimension=method.dimension,
            step=method.step,
            per_layer=method.scales == "layer",
            dither_seed=method.seed if method.dither else None,
        )

    def _step(self, stage: str, inputs: Any, targets: Any, rate: float) -> Tensor:
        method, flat = self.method, self.flat
        flat.gradient.zero_()
        self.optimiser.zero_grad(set_to_none=True)
        inputs, targets = moved(inputs, flat.latent.device), moved(targets, flat.latent.device)
        outputs = call(self.model, inputs)
        value = self.loss(outputs, targets)
        if self.teacher is not None:
            with torch.no_grad():
                known = call(self.teacher, inputs)
            t = method.temperature
            soft = F.kl_div(
                F.log_softmax(outputs / t, 1),
                F.log_softmax(known / t, 1),
                reduction="batchmean",
                log_target=True,
            )
            value = (1 - method.distill) * value + method.distill * t * t * soft
        value.backward()
        with torch.no_grad():
            if stage == "tune":
                assert self.shared is not None
                self.shared.step(flat.gradient, rate, method.momentum)
            else:  # straight through: a pruned weight learns too, and may come back
                gradient = flat.gradient
                if method.revive != 1:
                    gradient.mul_(torch.where(self.mask, 1.0, method.revive))
                gradient.add_(flat.latent, alpha=method.weight_decay)
                self.velocity.mul_(method.momentum).add_(gradient)
                flat.latent.add_(gradient + method.momentum * self.velocity, alpha=-rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        return value.detach()

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _finish(self) -> None:
        """The model as it will decode."""
        self.shared = self.shared or self._assign()
        self.shared.without_zeros()
        self.shared.write_to(self.flat.shown)
        measure_statistics(self.model, self.loader)
        fold_statistics(self.model)
        targets = set(self.flat.names)
        for name, value in self.model.state_dict().items():
            if name not in targets and value.is_floating_point() and value.numel():
                _round_to_grid(value, self.method.precision)

    def codec(self) -> Mapping[str, str | Codec]:
        method, flat = self.method, self.flat
        assert self.shared is not None
        flat.release()
        chosen = exact_codec(
            dict(self.model.state_dict()), flat.names, method.dimension or LATTICES[method.lattice]
        )
        if self.shared.dither is not None:
            from nncodec.codecs.universal import UniversalExact, dither_key

            for name, piece in zip(flat.names, flat.pieces, strict=True):
                chosen[escape(name)] = UniversalExact(
                    step=self.shared.steps[name],
                    lattice=method.lattice,
                    dimension=self.shared.table.shape[1],
                    key=dither_key(method.seed, name),
                    table=self.shared.rows_of(piece).cpu().numpy().astype("<f4").tobytes(),
                )
        return chosen


def exact_codec(
    tensors: Mapping[str, Tensor], names: Iterable[str], dimension: int = 1
) -> dict[str, str | Codec]:
    """The ``codec=`` that stores trained tensors bit for bit.

    Those named have few distinct vectors, which go into a table; others are multiples of a power of two, which is found
    here.
    """
    from nncodec.codecs.universal import UniversalExact

    chosen: dict[str, str | Codec] = {name: UniversalExact(dimension=dimension) for name in names}
    for name, value in tensors.items():
        if name not in chosen and value.is_floating_point() and bool(value.count_nonzero()):
            chosen[name] = UniversalExact(step=_common_power(value))
    return codec_mapping(chosen)


def _is_target(name: str, parameter: Tensor, patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return len(parameter.shape) > 1
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _round_to_grid(values: Tensor, precision: float) -> None:
    """Round in place to multiples of a power of two."""
    # The median, for a few channels of no variance have huge factors.
    magnitudes = values.double().abs()
    if bool(magnitudes.any()):
        typical = 1.5 * float(magnitudes[magnitudes > 0].median())
        step = 2.0 ** math.floor(math.log2(typical * precision))
        values.copy_(torch.round(values.double() / step) * step + 0.0)  # no negative zeros


def _common_power(values: Tensor) -> float:
    """The largest power of two that all values are multiples of; not all are 0."""
    mantissa, exponent = torch.frexp(values[values != 0].double())
    integers = (mantissa.abs() * 2.0**53).long()
    lowest = torch.log2((integers & -integers).double()).long() + exponent - 53
    return float(2.0 ** int(lowest.min()))
