"""Codebooks of weights while a network is trained: scalar k-means with pinned centroids, in torch on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["cluster_count", "lloyd", "means", "nearest", "power_of_two", "start"]

LLOYD_STEPS = 10
# Of the magnitudes, that the first centroids reach up to: one outlier shall not stretch the codebook.
_REACH = 0.999


def cluster_count(bits: int | None, clusters: int | None) -> int:
    """2^(bits - 1) + 1 clusters, one of them for zero, as INQ and SLQ count; or ``clusters`` itself."""
    if (bits is None) == (clusters is None):
        raise ValueError("give bits or clusters, one of them")
    if bits is not None:
        if not 2 <= bits <= 9:
            raise ValueError(f"bits must be 2 to 9, got {bits!r}")
        return 1 + (1 << (bits - 1))
    assert clusters is not None
    if not 2 <= clusters <= 4096:
        raise ValueError(f"clusters must be 2 to 4096, got {clusters!r}")
    return clusters


def start(x: Tensor, k: int, zero: bool) -> Tensor:
    """k ascending centroids, evenly over the range of ``x`` without its most extreme thousandth; float32.

    With ``zero``, the one nearest to 0 becomes 0.
    """
    flat = x.detach().float().reshape(-1)
    if not len(flat):
        return torch.zeros(k, device=x.device)
    rank = max(1, math.ceil(_REACH * len(flat)))
    low = torch.minimum(-(-flat).kthvalue(rank).values, flat.median())
    high = torch.maximum(flat.kthvalue(rank).values, flat.median())
    centroids = torch.lerp(low, high, torch.linspace(0, 1, k, device=x.device))
    if zero:
        centroids[centroids.abs().argmin()] = 0
        centroids = centroids.sort().values
    return centroids


def nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest of ascending centroids, the lower one halfway; int64 of x's shape."""
    return torch.bucketize(x.contiguous(), (centroids[:-1] + centroids[1:]) / 2)


def means(x: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """How many values each of k clusters has (int64), and their mean (float32; 0 for none); index -1: in no cluster."""
    flat, cluster = x.detach().reshape(-1), index.reshape(-1).long() + 1
    count = torch.bincount(cluster, minlength=k + 1)[1:]
    # Summed as doubles: on a GPU the order of additions is not fixed, the rounded mean nearly always is.
    total = torch.zeros(k + 1, dtype=torch.float64, device=x.device)
    total.scatter_add_(0, cluster, flat.double())
    return count, (total[1:] / count.clamp(min=1)).float()


def lloyd(x: Tensor, centroids: Tensor, movable: Tensor, steps: int = LLOYD_STEPS) -> Tensor:
    """Lloyd's iteration on the values ``x``; centroids that are not ``movable``, or have no members, stay."""
    flat = x.detach().float().reshape(-1)
    for _ in range(steps):
        count, mean = means(flat, nearest(flat, centroids), len(centroids))
        moved = torch.where(movable & (count > 0), mean, centroids)
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids


def power_of_two(values: Tensor) -> Tensor:
    """Each to the nearer power of two, sign kept: 2^floor(log2(4|c| / 3)); 0 stays 0."""
    mantissa, exponent = torch.frexp(values.abs())  # mantissa in [1/2, 1)
    power = torch.ldexp(torch.ones_like(mantissa), exponent - torch.where(mantissa >= 0.75, 0, 1))
    return torch.where(values == 0, torch.zeros_like(values), power * values.sign())
