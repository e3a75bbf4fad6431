"""What is left of a network's accuracy when one layer is cut to a rank: the metrics of ENC (arXiv:1811.12781).

From the layer's singular values alone, or measured at a few ranks and interpolated. And the rank that empirical
variational Bayes gives a matrix, which says where to measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "monotone_cubic",
    "pca_energy",
    "points_to_measure",
    "rising_points",
    "through_points",
    "vbmf_rank",
]

Array = NDArray[np.float64]


def pca_energy(singular_values: ArrayLike, largest: int) -> Array:
    """Metric at ranks 0 to ``largest``: the share of the sum of singular values, the first one taken off both.

    Singular values descend, and are not squared; rank 0 and rank 1 have metric 0 (unless 1 is the largest).
    """
    values = np.asarray(singular_values, np.float64)
    if not 1 <= largest <= len(values):
        raise ValueError(f"largest must be 1 to {len(values)}, got {largest!r}")
    sums = np.cumsum(values[:largest]) - values[0]
    metric = np.ones(largest + 1)
    metric[0] = 0
    if sums[-1] > 0:
        metric[1:] = sums / sums[-1]
    return metric


def rising_points(
    ranks: Sequence[int], values: Sequence[float], largest: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Ranks and metrics to interpolate: 0 has metric 0 and ``largest`` 1, the others were measured.

    Points that do not rise are dropped, and those after the first that reaches 1.
    """
    x, y = [0.0], [0.0]
    for rank, value in sorted(zip([*ranks, largest], [*values, 1.0], strict=True)):
        if x[-1] < rank <= largest and y[-1] < value and y[-1] < 1:
            x.append(float(rank))
            y.append(float(value))
    return tuple(x), tuple(y)


def through_points(points: tuple[Sequence[float], Sequence[float]], largest: int) -> Array:
    """Metric at ranks 0 to ``largest``: a monotone cubic through :func:`rising_points`."""
    x, y = points
    metric = monotone_cubic(x, y, np.minimum(np.arange(largest + 1), x[-1]))
    metric[-1] = 1.0
    return np.maximum.accumulate(np.clip(metric, 0, 1))


def points_to_measure(bayes_rank: int, largest: int) -> tuple[int, ...]:
    """The paper's four ranks below ``largest``: its tenth, half and a quarter of the Bayesian rank, and a mean."""
    tenth = max(1, round(largest / 10))
    wanted = (
        tenth,
        round((tenth + bayes_rank / 4) / 2),
        round(bayes_rank / 4),
        round(bayes_rank / 2),
    )
    return tuple(sorted({min(max(rank, tenth), largest) for rank in wanted} - {largest}))


def monotone_cubic(x: ArrayLike, y: ArrayLike, at: ArrayLike) -> Array:
    """Piecewise cubic Hermite interpolation that keeps monotony (Fritsch and Butland 1984); x must ascend."""
    xs, ys, points = (np.asarray(v, np.float64) for v in (x, y, at))
    widths = np.diff(xs)
    slopes = np.diff(ys) / widths
    if len(xs) == 2:
        return np.asarray(ys[0] + (points - xs[0]) * slopes[0])
    tangents = np.zeros(len(xs))
    left, right = 2 * widths[1:] + widths[:-1], widths[1:] + 2 * widths[:-1]
    same = slopes[:-1] * slopes[1:] > 0
    inner = np.zeros(len(xs) - 2)
    inner[same] = (left + right)[same] / (left[same] / slopes[:-1][same] + right[same] / slopes[1:][same])
    tangents[1:-1] = inner
    tangents[0] = _edge(widths[0], widths[1], slopes[0], slopes[1])
    tangents[-1] = _edge(widths[-1], widths[-2], slopes[-1], slopes[-2])
    piece = np.clip(np.searchsorted(xs, points, side="right") - 1, 0, len(widths) - 1)
    h = widths[piece]
    t = (points - xs[piece]) / h
    value = (
        ys[piece] * (1 + 2 * t) * (1 - t) ** 2
        + h * tangents[piece] * t * (1 - t) ** 2
        + ys[piece + 1] * t**2 * (3 - 2 * t)
        + h * tangents[piece + 1] * t**2 * (t - 1)
    )
    return np.asarray(value)


def _edge(own: float, other: float, slope: float, next_slope: float) -> float:
    """One-sided derivative of three points, kept from overshooting."""
    tangent = ((2 * own + other) * slope - own * next_slope) / (own + other)
    if tangent * slope <= 0:
        return 0.0
    if slope * next_slope <= 0 and abs(tangent) > 3 * abs(slope):
        return 3 * slope
    return tangent


def vbmf_rank(singular_values: ArrayLike, rows: int, columns: int) -> int:
    """Rank of a matrix by empirical variational Bayes, the variance of its noise estimated too.

    Nakajima, Sugiyama, Babacan and Tomioka, "Global analytic solution of fully-observed variational Bayesian matrix
    factorization" (JMLR 14, 2013), with all min(rows, columns) singular values. At least 1.
    """
    values = np.sort(np.asarray(singular_values, np.float64))[::-1]
    short, long = sorted((rows, columns))
    squares = values[:short] ** 2
    if not squares.any():
        return 1
    alpha = short / long
    tau_least = 2.5129 * math.sqrt(alpha)
    x_least = (1 + tau_least) * (1 + alpha / tau_least)
    most = min(math.ceil(short / (1 + alpha)) - 1, short) - 1
    first_noise = min(max(most + 1, 0), short - 1)
    upper = float(squares.sum()) / (short * long)
    lower = max(squares[first_noise] / (long * x_least), float(squares[first_noise:].mean()) / long)
    lower = min(max(lower, upper * 1e-12), upper)

    def energy(log_variance: float) -> float:
        x = squares / (long * math.exp(log_variance))
        signal, noise = x[x > x_least], np.maximum(x[x <= x_least], 1e-300)
        tau = 0.5 * (signal - (1 + alpha) + np.sqrt((signal - (1 + alpha)) ** 2 - 4 * alpha))
        return float(
            (noise - np.log(noise)).sum()
            + (signal - tau).sum()
            + np.log((tau + 1) / signal).sum()
            + alpha * np.log(tau / alpha + 1).sum()
        )

    grid = np.linspace(math.log(lower), math.log(upper), 200)
    best = int(np.argmin([energy(v) for v in grid]))
    fine = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 50)
    variance = math.exp(fine[int(np.argmin([energy(v) for v in fine]))])
    return max(1, int((squares > long * variance * x_least).sum()))
