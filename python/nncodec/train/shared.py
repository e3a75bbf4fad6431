"""Weights that share values: symbols, a table of vectors, and the step that moves the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """

    positions: Tensor
    symbols: Tensor
    table: Tensor
    dither: Tensor | None = None

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

    def state(self) -> dict[str, Tensor | None]:
        """What :meth:`restored` needs."""
        names = ("positions", "symbols", "table", "dither")
        return {name: getattr(self, name) for name in names} | {"velocity": self._velocity}

    @classmethod
    def restored(cls, state: Mapping[str, Tensor | None], device: torch.device) -> SharedVectors:
        """As it was."""
        at = {name: None if value is None else value.to(device) for name, value in state.items()}
        velocity = at.pop("velocity")
        made = cls(**at)  # type: ignore[arg-type]
        assert velocity is not None
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

    def without_zeros(self) -> None:
        """Elements of exactly 0 become tiny, for a weight of 0 would be taken for a pruned one."""
        tiny = self.table.abs().max().clamp_min(1e-30) * 2.0**-40
        self.table[self.table == 0] = tiny


def _average(values: Tensor, groups: Tensor, count: int) -> Tensor:
    sums = torch.zeros(count, device=values.device).index_add_(0, groups, values)
    return sums / torch.bincount(groups, minlength=count).clamp_min(1)


def scalar_levels(latent: Tensor, mask: Tensor, group: Tensor, groups: int, step: float, levels: int) -> SharedVectors:
    """Surviving weights rounded to levels of magnitude 1 to ``levels``; a table entry is the mean of its weights."""
    positions = mask.nonzero().squeeze(1)
    values, of = latent[positions], group[positions]
    steps = step * _average(values.abs(), of, groups).clamp_min(1e-30)
    magnitude = torch.round(values.abs() / steps[of]).clamp(1, levels)
    level = torch.where(values < 0, -magnitude, magnitude).long() + levels
    symbols = of * (2 * levels + 1) + level
    count = groups * (2 * levels + 1)
    return SharedVectors(positions, symbols, _average(values, symbols, count)[:, None])


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

    n = dimension or LATTICES[lattice]
    flat, alive = latent.cpu().double().numpy(), mask.cpu().numpy()
    mean = float(np.abs(flat[alive]).mean())
    positions, points, owners, dithers = [], [], [], []
    for layer, (piece, name) in enumerate(zip(pieces, names, strict=True)):
        within = np.flatnonzero(alive[piece]) + piece.start
        delta = step * (float(np.abs(flat[within]).mean()) if per_layer and within.size else mean)
        for start in range(piece.start, piece.stop, PIECE):
            chosen = within[(within >= start) & (within < start + PIECE)]
            padded = np.full(-(-chosen.size // n) * n, -1, np.int64)
            padded[: chosen.size] = chosen
            values = np.where(padded >= 0, flat[padded], 0.0)
            noise = np.zeros_like(values)
            if dither_seed is not None:
                key = _core.universal_key(dither_seed, name)
                noise = _core.lattice_dither(lattice, key, (start - piece.start) // LATTICES[lattice], values.size)
                noise *= delta
            point = _core.lattice_nearest(lattice, (values + noise) / delta) * delta
            positions.append(padded)
            points.append(point.reshape(-1, n))
            owners.append(np.full(len(point) // n, layer if per_layer else 0))
            dithers.append(noise)
    rows = np.concatenate([np.concatenate(owners)[:, None], np.concatenate(points)], axis=1)
    table, symbols = np.unique(rows, axis=0, return_inverse=True)
    device = latent.device
    return SharedVectors(
        torch.from_numpy(np.concatenate(positions)).to(device),
        torch.from_numpy(symbols.reshape(-1)).to(device),
        torch.from_numpy(table[:, 1:].astype(np.float32)).to(device),
        None if dither_seed is None else torch.from_numpy(np.concatenate(dithers)).to(device),
    )
