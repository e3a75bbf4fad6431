"""Estimates by kernel densities: Gaussian noise on the activations makes their information finite.

With T~ = T + N(0, sigma^2 I) the activations are a mixture of n Gaussians, and the pairwise bounds of Kolchinsky and
Tracey ("Estimating Mixture Entropy with Pairwise Distances", Entropy 2017) give, with D_ij = |t_i - t_j|^2,

    I(X;T~) <= -1/n sum_i ln 1/n sum_j exp(-D_ij / (2 sigma^2))
    I(X;T~) >= -1/n sum_i ln 1/n sum_j exp(-D_ij / (8 sigma^2))

The dimension's terms of entropy and of noise cancel. I(T;Y) is the same less its mean over the samples of each label,
and I(X;T) less that over the samples of each input, where inputs repeat.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nncodec._core import kernel_sums
from nncodec.information.estimate import Estimator, Information, is_saturated

__all__ = ["AdaptiveKDE", "FixedKDE"]

# Samples further apart than this count nothing (the engine's kKernelCutoff is 160, a squared distance).
_FAR = 13.0
_PRECISE = 2.0**14  # binary32 has steps of 1e-3 from here on
_LEAST = float(np.finfo(np.float64).tiny)  # a deviation below would lose digits
_Sums = NDArray[np.float64]


class _Density(Estimator):
    @abstractmethod
    def noise_deviation(self, t: NDArray[np.float64]) -> float:
        """sigma for activations t, (n, d)."""

    def noise_variance(self, t: NDArray[np.float64]) -> float:
        """sigma^2 for activations t, (n, d)."""
        return self.noise_deviation(t) ** 2

    def _estimate(
        self, t: NDArray[np.float64], y: NDArray[np.intp] | None, x: NDArray[np.intp] | None
    ) -> Information:
        n = len(t)
        points = _in_units_of_noise(t, self.noise_deviation(t))
        logs, by_label = _log_densities(points, np.zeros(n, np.intp) if y is None else y)
        given_input = np.zeros(2)
        if x is not None and int(x.max()) + 1 < n:
            given_input = -_log_densities(points, x)[1]
        upper, lower = (max(0.0, float(bits)) for bits in -logs - given_input)
        if y is None:
            return Information(upper, None, is_saturated(upper, n, x), lower, None)
        upper_y, lower_y = (float(bits) for bits in by_label - logs)
        return Information(upper, upper_y, is_saturated(upper, n, x), lower, lower_y)


def _log_densities(points: NDArray[np.float32], ids: NDArray[np.intp]) -> tuple[_Sums, _Sums]:
    """Mean log2 of the mean kernel, narrow and wide, over all samples and over those of a sample's own id."""
    n, d = points.shape
    if d == 0:
        return np.zeros(2), np.zeros(2)
    order = np.argsort(ids, kind="stable")
    counts = np.bincount(ids)
    sums = np.empty((n, 4))
    kernel_sums(points[order], d, np.cumsum(counts).astype(np.uint32), sums)
    logs = np.log2(sums)
    own = logs[:, [1, 3]] - np.log2(counts[ids[order]])[:, None]
    return (logs[:, [0, 2]] - np.log2(n)).mean(axis=0), own.mean(axis=0)


def _in_units_of_noise(t: NDArray[np.float64], sigma: float) -> NDArray[np.float32]:
    """t / (sqrt(2) sigma) in binary32, moved so that all distances that count are kept."""
    if t.shape[1] == 0:
        return t.astype(np.float32)
    # Centred, so that binary32 need not hold what all samples share; halves, whose difference cannot overflow.
    half: NDArray[np.float64] = t / 2
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        scaled: NDArray[np.float64] = (half - half.mean(axis=0)) / (sigma / np.sqrt(2))
    if not np.isfinite(scaled).all():
        raise ValueError(f"activations are too large for noise of deviation {sigma:g}")
    if np.abs(scaled).max() > _PRECISE:
        scaled = _gaps_closed(scaled)
    return scaled.astype(np.float32)


def _gaps_closed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move groups of samples that lie far apart in a dimension closer, as far as they still do not see each other."""
    order = np.argsort(points, axis=0)
    ordered = np.take_along_axis(points, order, axis=0)
    with np.errstate(over="ignore"):
        steps = np.minimum(np.diff(ordered, axis=0), _FAR)
    placed = np.zeros_like(ordered)
    np.cumsum(steps, axis=0, out=placed[1:])
    closed = np.empty_like(placed)
    np.put_along_axis(closed, order, placed - placed[len(placed) // 2], axis=0)
    return closed


@dataclass(frozen=True)
class FixedKDE(_Density):
    """Noise of one variance for every layer and epoch.

    Parameters
    ----------
    variance : float
        sigma^2; Saxe et al. (ICLR 2018) use 1e-3 for the synthetic task and 1e-1 for MNIST.
    """

    variance: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.variance < np.inf:
            raise ValueError(f"variance must be positive, got {self.variance}")

    def noise_deviation(self, t: NDArray[np.float64]) -> float:
        """The same for all."""
        return math.sqrt(self.variance)


@dataclass(frozen=True)
class AdaptiveKDE(_Density):
    """aKDE: noise that grows with the layer's activity, so that large activations are not measured with tiny noise.

    Parameters
    ----------
    scale : float
        How much noise; see ``rule``.
    rule : {"variance", "deviation", "rms"}
        "variance": sigma^2 = scale * max |t|, as in the paper. "deviation": sigma = scale * max |t|. "rms": sigma =
        scale * root mean square of t. The last two do not change when a layer's activations are scaled.
    """

    scale: float = 1e-3
    rule: Literal["variance", "deviation", "rms"] = "variance"

    def __post_init__(self) -> None:
        if self.rule not in ("variance", "deviation", "rms"):
            raise ValueError(f"rule must be 'variance', 'deviation' or 'rms', got {self.rule!r}")
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale must be positive, got {self.scale}")

    def noise_deviation(self, t: NDArray[np.float64]) -> float:
        """sigma; 1 for a layer that is 0 throughout, where any noise gives no information."""
        activity = float(np.abs(t).max(initial=0.0))
        if activity == 0:
            return 1.0
        if self.rule == "rms":
            activity *= math.sqrt(float(np.square(t / activity).mean()))
        deviation = math.sqrt(self.scale * activity) if self.rule == "variance" else self.scale * activity
        return max(deviation, _LEAST)
