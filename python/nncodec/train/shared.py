"""Weights that share values: symbols, a table of vectors, and the step that moves the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["LATTICES", "SharedVectors", "lattice_vectors", "scalar_levels"]

LATTICES = {"z": 1, "a2": 2, "d4": 4, "e8": 8, "leech": 24}
PIECE = 1 << 20  # vectors end at multiples of so many weights, where the codec's chunks end


@dataclass
class SharedVectors:
    """Weight ``positions[j]`` is element ``j % n`` of row ``symbols[j // n]`` of the table, less its dither.

    Attributes
    ----------
    positions : torch.Tensor
        int64, of the surviving weights in the flat vector, padded to whole vectors with -1.
    symbols : torch.Tensor
        int64, row of each vector.
    table : torch.Tensor
        float32, (rows, n); every element is a parameter.
    dither : torch.Tensor or None
        float64, one element per position.
    steps : mapping
        Quantiser step of each layer, where there are such.
    """

    positions: Tensor
    symbols: Tensor
    table: Tensor
    dither: Tensor | None = None
    steps: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.table.shape[1]
        self._real = self.positions >= 0
        self._safe = self.positions.clamp_min(0)
        elements = self.symbols[:, None] * n + torch.arange(n, device=self.symbols.device)
        self._elements = elements.reshape(-1)[self._real]
        ones = torch.ones(self._elements.numel(), device=self.table.device)
        self._counts = torch.zeros(self.table.numel(), device=self.table.device).index_add_(
            0, self._elements, ones
        )
        self._velocity = torch.zeros_like(self.table)

    def state(self) -> dict[str, Any]:
        """What :meth:`restored` needs."""
        names = ("positions", "symbols", "table", "dither")
        tensors = {name: getattr(self, name) for name in names}
        return tensors | {"velocity": self._velocity, "steps": dict(self.steps)}

    @classmethod
    def restored(cls, state: Mapping[str, Any], device: torch.device) -> SharedVectors:
        """As it was."""
        at = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in state.items()}
        velocity = at.pop("velocity")
        made = cls(**at)
        made._velocity = velocity
        return made

    def write_to(self, shown: Tensor) -> None:
        """Set the weights that the model sees: pruned ones 0, the others by the table."""
        values = self.table.reshape(-1)[self._elements]
        if self.dither is not None:
            values = (values.double() - self.dither[self._real]).float()
        shown.zero_()
        shown[self._safe[self._real]] = values

    def step(self, gradient: Tensor, rate: float, momentum: float) -> None:
        """One step along the average gradient of all weights that share an element."""
        sums = torch.zeros(self.table.numel(), device=self.table.device)
        sums.index_add_(0, self._elements, gradient[self._safe[self._real]])
        average = (sums / self._counts.clamp_min(1)).view_as(self.table)
        self._velocity.mul_(momentum).add_(average)
        self.table.add_(average + momentum * self._velocity, alpha=-rate)

    def rows_of(self, piece: slice) -> Tensor:
        """The rows of the table that weights of this piece use."""
        inside = (self.positions >= piece.start) & (self.positions < piece.stop)
        n = self.table.shape[1]
        used = torch.unique(self.symbols[inside.view(-1, n).any(1)])
        return self.table[used]

    def without_zeros(self) -> None:
        """Elements of exactly 0 become tiny, for a weight of 0 would be taken for a pruned one."""
        tiny = self.table.abs().max().clamp_min(1e-30) * 2.0**-40
        self.table[self.table == 0] = tiny


def _average(values: Tensor, groups: Tensor, count: int) -> Tensor:
    sums = torch.zeros(count, device=values.device).index_add_(0, groups, values)
    return sums / torch.bincount(groups, minlength=count).clamp_min(1)


def scalar_levels(
    latent: Tensor, mask: Tensor, group: Tensor, steps: Tensor, levels: Tensor, most: int
) -> SharedVectors:
    """Surviving weights rounded to levels of magnitude 1 to ``levels``; a table entry is the mean of its weights.

    ``group`` numbers the weights' groups; ``steps`` (in units of the group's mean magnitude) and ``levels``, at most
    ``most``, are per group.
    """
    groups = steps.numel()
    positions = mask.nonzero().squeeze(1)
    values, of = latent[positions], group[positions]
    width = steps * _average(values.abs(), of, groups).clamp_min(1e-30)
    magnitude = torch.round(values.abs() / width[of]).clamp_min(1).minimum(levels[of])
    level = torch.where(values < 0, -magnitude, magnitude).long() + most
    symbols = of * (2 * most + 1) + level
    return SharedVectors(positions, symbols, _average(values, symbols, groups * (2 * most + 1))[:, None])


def _short(step: float) -> float:
    """The step with the upper half of its bits, which is what a file stores."""
    bits = np.array([step]).view(np.uint64) & np.uint64(0xFFFFFFFF00000000)
    return float(bits.view(np.float64)[0])


def lattice_vectors(
    latent: Tensor,
    mask: Tensor,
    pieces: Sequence[slice],
    names: Sequence[str],
    *,
    lattice: str,
    dimension: int,
    step: float,
    per_layer: bool,
    dither_seed: int | None,
) -> SharedVectors:
    """Surviving weights of each layer cut into vectors, dithered where a seed is given, and rounded to the lattice."""
    from nncodec import _core
    from nncodec.codecs.universal import dither_key

    axes = LATTICES[lattice]
    n = dimension or axes
    scale = np.array([_core.lattice_scale(lattice, axis) for axis in range(axes)])
    flat, alive = latent.cpu().double().numpy(), mask.cpu().numpy()
    mean = float(np.abs(flat[alive]).mean())
    positions, points, owners, dithers = [], [], [], []
    steps = {}
    for layer, (piece, name) in enumerate(zip(pieces, names, strict=True)):
        within = np.flatnonzero(alive[piece]) + piece.start
        delta = step * (float(np.abs(flat[within]).mean()) if per_layer and within.size else mean)
        delta = _short(max(delta, 1e-30))
        steps[name] = delta
        for start in range(piece.start, piece.stop, PIECE):
            chosen = within[(within >= start) & (within < start + PIECE)]
            padded = np.full(-(-chosen.size // n) * n, -1, np.int64)
            padded[: chosen.size] = chosen
            natural = np.where(padded >= 0, flat[padded], 0.0) / np.tile(delta * scale, padded.size // axes)
            noise = np.zeros_like(natural)
            if dither_seed is not None:
                vectors = -(-PIECE // axes)  # numbers of a chunk
                first = (start - piece.start) // PIECE * vectors
                _core.lattice_dither(lattice, dither_key(dither_seed, name), first, noise)
            point = np.empty_like(natural)
            _core.lattice_nearest(lattice, natural + noise, point)
            units = np.tile(delta * scale, padded.size // axes)
            positions.append(padded)
            points.append((point * units).reshape(-1, n))
            owners.append(np.full(len(point) // n, layer if per_layer else 0))
            dithers.append(units * noise)
    rows = np.concatenate([np.concatenate(owners)[:, None], np.concatenate(points)], axis=1)
    table, symbols = np.unique(rows, axis=0, return_inverse=True)
    device = latent.device
    return SharedVectors(
        torch.from_numpy(np.concatenate(positions)).to(device),
        torch.from_numpy(symbols.reshape(-1)).to(device),
        torch.from_numpy(table[:, 1:].astype(np.float32)).to(device),
        None if dither_seed is None else torch.from_numpy(np.concatenate(dithers)).to(device),
        steps,
    )
