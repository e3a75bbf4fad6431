"""Estimates by binning: plain bins, and entropy-based adaptive ones (EBAB)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nncodec.information.estimate import Estimator, Information, is_saturated, row_ids

__all__ = ["EBAB", "Binning"]


class _Binned(Estimator):
    """The activations of a sample become a word of bin numbers, one per unit."""

    def borders(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lower borders of the bins that the units of this layer share, ascending."""
        raise TypeError(f"{type(self).__name__} has no borders")

    def _words(self, t: NDArray[np.float64]) -> NDArray[np.intp]:
        bins = np.searchsorted(self.borders(t), t, side="right")
        return row_ids(bins.astype(np.uint32))

    def _estimate(
        self, t: NDArray[np.float64], y: NDArray[np.intp] | None, x: NDArray[np.intp] | None
    ) -> Information:
        words = self._words(t)
        entropy = _entropy(words)
        i_xt = entropy - (0.0 if x is None else _conditional_entropy(words, x))
        i_ty = None if y is None else entropy - _conditional_entropy(words, y)
        return Information(i_xt, i_ty, is_saturated(i_xt, len(t), x))


_MOST_BINS = 1 << 24


@dataclass(frozen=True)
class Binning(_Binned):
    """Bins of one width for every layer and epoch (Shwartz-Ziv and Tishby, arXiv:1703.00810).

    Parameters
    ----------
    bins : int
        How many bins of equal width lie between ``low`` and ``high``, at most 2^24. What lies outside goes to the
        nearest one.
    low, high : float
        Ends of the range.
    width : float, optional
        Instead: bins of this width without end, as Saxe et al. (ICLR 2018) use for unbounded activations.
    """

    bins: int = 30
    low: float = -1.0
    high: float = 1.0
    width: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= _MOST_BINS or not -np.inf < self.low < self.high < np.inf:
            raise ValueError(
                f"bins must be 1 to {_MOST_BINS} and low < high finite, got {self.bins}, {self.low}, {self.high}"
            )
        if self.width is not None and not 0 < self.width < np.inf:
            raise ValueError(f"width must be positive, got {self.width}")

    def borders(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inner borders: what is below the first goes to the first bin."""
        return np.linspace(self.low, self.high, self.bins + 1)[1:-1]

    def _words(self, t: NDArray[np.float64]) -> NDArray[np.intp]:
        if self.width is None:
            return super()._words(t)
        return row_ids(np.floor(t / self.width) + 0.0)  # + 0.0: -0.0 is 0.0


@dataclass(frozen=True)
class EBAB(_Binned):
    """Entropy-based adaptive binning: bins that each hold the same number of different activation values.

    All units of a layer share the borders, which follow the values at each call; so the estimate does not change
    when the activations pass through a strictly increasing function (``low`` with them).

    Parameters
    ----------
    bins : int
        Number of bins above ``low``.
    low : float, optional
        Bottom of the range; activations of exactly this value have a bin of their own and do not count as a value: 0
        for ReLU and softplus, -1.000001 for tanh and ELU in the paper. Default: the least activation.

    Notes
    -----
    With u the different values above ``low`` in ascending order, the borders are ``low`` and u[floor(k |u| / bins)] for
    k = 0 ... bins - 1 (authors' code); the last bin is closed by the greatest value. Equal borders count once.
    """

    bins: int = 30
    low: float | None = None

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ValueError(f"bins must be positive, got {self.bins}")
        if self.low is not None and not np.isfinite(self.low):
            raise ValueError(f"low must be finite, got {self.low}")

    def borders(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lower borders of the bins; the first is ``low``."""
        values = np.unique(t)
        if values.size == 0:
            return values
        low = values[0] if self.low is None else self.low
        values = values[values > low]
        if values.size == 0:
            return np.array([low])
        if self.bins < values.size:
            values = values[np.arange(self.bins) * values.size // self.bins]
        return np.unique(np.concatenate(([low], values)))


def _entropy(ids: NDArray[np.intp]) -> float:
    """Entropy in bits of how often each id occurs (plug-in estimate: low by about (ids - 1) / (2 ln 2 n))."""
    share = np.bincount(ids) / len(ids)
    share = share[share > 0]
    return float(max(0.0, -(share * np.log2(share)).sum()))


def _conditional_entropy(ids: NDArray[np.intp], given: NDArray[np.intp]) -> float:
    """H(ids | given) in bits: the joint entropy less that of ``given``."""
    joint = np.unique(ids * (int(given.max()) + 1) + given, return_inverse=True)[1]
    return _entropy(joint) - _entropy(given)
