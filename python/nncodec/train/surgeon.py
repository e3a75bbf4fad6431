"""Optimal Brain Surgeon on Kronecker factors: what each weight is worth, and what its removal asks of the others.

Zeng and Urtasun, "MLPrune: multi-layer pruning for automated neural network compression" (2018), after Hassibi and
Stork (1993). All functions take and give matrices of the factors' shape, (groups, outputs / groups, inputs).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nncodec.train.kfac import Factors

__all__ = ["VALUE_BITS", "alive", "lowest", "position_bits", "saliency", "summed_update"]

VALUE_BITS = 3.0


def saliency(damped: Factors, weight: Tensor, alive: Tensor | None = None) -> Tensor:
    """w^2 / (2 [G^-1]_ii [A^-1]_jj): the rise of the loss where this weight goes and the others make up for it.

    ``alive``: 0 for weights of dead inputs and outputs, which only damping makes count.
    """
    scores = weight.to(damped.input.dtype) ** 2 * damped.surgeon_diagonal() / 2
    return scores if alive is None else scores * alive


def alive(of: Factors) -> Tensor:
    """Whether input and output of each weight ever were other than 0, by factors that are not damped."""
    return of.diagonal() > 0


def summed_update(damped: Factors, weight: Tensor, pruned: Tensor) -> Tensor:
    """The change that the removal of each pruned weight asks for, added up over them; pruned weights end at 0.

    -G^-1 [P w / ([G^-1]_ii [A^-1]_jj)] A^-1, without the interactions of pruned weights among themselves.
    """
    inverse_g, inverse_a = (torch.linalg.inv(m.double()) for m in (damped.output, damped.input))
    share = inverse_g.diagonal(dim1=1, dim2=2)[:, :, None] * inverse_a.diagonal(dim1=1, dim2=2)[:, None, :]
    w = weight.double()
    change = -inverse_g @ (torch.where(pruned, w, 0.0) / share) @ inverse_a
    return torch.where(pruned, -w, change).to(weight.dtype)


def position_bits(kept: Tensor) -> Tensor:
    """About what a weight costs that stays: its place, in a mask whose rows and columns are of different density.

    log2(total / (row * column)) bits, plus :data:`VALUE_BITS` for the value; for what is in ``kept`` or not alike.
    """
    mask = kept.reshape(kept.shape[0], -1).double()
    rows, columns, total = mask.sum(1) + 0.5, mask.sum(0) + 0.5, mask.sum() + 1
    chance = (rows[:, None] * columns / total).clamp(max=0.5)
    return (VALUE_BITS - chance.log2()).reshape(kept.shape).float()


def lowest(scores: Mapping[str, Tensor], count: int, most: float) -> dict[str, Tensor]:
    """Masks of the ``count`` lowest scores of all layers together, but of no layer more than the share ``most``.

    Ties go to the earlier weight. A layer always keeps one weight; so fewer may be chosen than asked for.
    """
    candidates = []
    for score in scores.values():
        flat = score.reshape(-1).float()
        room = min(int(most * len(flat)), len(flat) - 1)
        kept = torch.ones_like(flat, dtype=torch.bool)
        kept[flat.argsort(stable=True)[:room]] = False
        candidates.append(torch.where(kept, torch.inf, flat))
    every = torch.cat(candidates)
    order = every.argsort(stable=True)[: max(count, 0)]
    chosen = torch.zeros_like(every, dtype=torch.bool)
    chosen[order] = every[order] < torch.inf
    parts = chosen.split([score.numel() for score in scores.values()])
    return {
        name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)
    }
