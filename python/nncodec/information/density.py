"""Estimates by kernel densities: Gaussian noise on the activations makes their information finite.

With T~ = T + N(0, sigma^2 I) the activations are a mixture of n Gaussians, and the pairwise bounds of Kolchinsky and
Tracey ("Estimating Mixture Entropy with Pairwise Distances", Entropy 2017) give, with D_ij = |t_i - t_j|^2,

    I(X;T~) <= -1/n sum_i ln 1/n sum_j exp(-D_ij / (2 sigma^2))
    I(X;T~) >= -1/n sum_i ln 1/n sum_j exp(-D_ij / (8 sigma^2))

The dimension's terms of entropy and of noise cancel. I(T;Y) is the same less its mean over the samples of each label.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nncodec._core import kernel_sums
from nncodec.information.estimate import Estimator, Information, is_saturated

__all__ = ["AdaptiveKDE", "FixedKDE"]

_LARGEST = 1e15  # of a coordinate in the engine, in units of sqrt(2) sigma


class _Density(Estimator):
    @abstractmethod
    def noise_variance(self, t: NDArray[np.float64]) -> float:
        """sigma^2 for activations t, (n, d)."""

    def _estimate(
        self, t: NDArray[np.float64], y: NDArray[np.intp] | None, x: NDArray[np.intp] | None
    ) -> Information:
        n = len(t)
        classes = np.zeros(n, np.intp) if y is None else y
        order = np.argsort(classes, kind="stable")
        counts = np.bincount(classes)
        if t.shape[1] == 0:
            return Information(0.0, None if y is None else 0.0, False, 0.0, None if y is None else 0.0)
        # Centred, so that binary32 need not hold what all samples share; distances do not change.
        scaled = (t[order] - t.mean(axis=0)) / np.sqrt(2 * self.noise_variance(t))
        if np.abs(scaled).max() > _LARGEST:
            raise ValueError(f"activations are more than {_LARGEST:g} times as large as the noise")
        sums = np.empty((n, 4))
        kernel_sums(scaled.astype(np.float32), t.shape[1], np.cumsum(counts).astype(np.uint32), sums)
        logs = np.log2(sums)
        of_class = np.log2(counts[classes[order]])
        upper, lower = (float(np.log2(n) - logs[:, k].mean()) for k in (0, 2))
        if y is None:
            return Information(upper, None, is_saturated(upper, n, x), lower, None)
        upper_y, lower_y = (
            float(np.log2(n) - logs[:, k].mean() - (of_class - logs[:, k + 1]).mean()) for k in (0, 2)
        )
        return Information(upper, upper_y, is_saturated(upper, n, x), lower, lower_y)


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

    def noise_variance(self, t: NDArray[np.float64]) -> float:
        """The same for all."""
        return self.variance


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

    def noise_variance(self, t: NDArray[np.float64]) -> float:
        """sigma^2; 1 for a layer that is 0 throughout, where any noise gives no information."""
        activity = float(np.sqrt((t * t).mean()) if self.rule == "rms" else np.abs(t).max())
        variance = self.scale * activity if self.rule == "variance" else (self.scale * activity) ** 2
        return variance if variance > 0 else 1.0
