"""Which weights to prune: magnitude over the whole network, comparable between layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["cubic_density", "keep_largest", "lamp_scores"]


def lamp_scores(weights: Tensor, pieces: Sequence[slice]) -> Tensor:
    """Scores that rank the weights of all layers together, whatever their scales.

    The score of a weight is its square over the sum of the squares of all weights of its layer that are at least as
    large (Lee, Park, Mo, Ahn, Shin, "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021, eq. 3).
    """
    scores = torch.empty_like(weights)
    for piece in pieces:
        squares, order = torch.sort(weights[piece] ** 2, descending=True)
        sums = torch.cumsum(squares.double(), 0)
        layer = scores[piece]
        layer[order] = (squares / sums.clamp_min(torch.finfo(torch.float64).tiny)).float()
    return scores


def keep_largest(scores: Tensor, density: float) -> Tensor:
    """Mask of the ``density`` share of the elements with the highest scores."""
    count = max(1, round(density * scores.numel()))
    if count >= scores.numel():
        return torch.ones_like(scores, dtype=torch.bool)
    chosen = torch.topk(scores, count, sorted=False).indices
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[chosen] = True
    return mask


def cubic_density(progress: float, first: float, last: float) -> float:
    """Density after this share of the pruning (Zhu and Gupta, arXiv:1710.01878, eq. 1)."""
    return last + (first - last) * (1 - min(max(progress, 0.0), 1.0)) ** 3
