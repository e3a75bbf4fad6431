"""Codebooks of scalars, for the codecs that let weights share values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nncodec._core import kmeans_optimal

__all__ = ["means", "safe_exponent", "scalar_centroids", "scaled"]

# Up to so many numbers the exact programme runs on them; more are first gathered into so many bins.
_BINS = 1 << 15
_Floats = NDArray[np.float64]


def safe_exponent(x: _Floats, least: int, most: int) -> int:
    """The e by which numbers are to be divided by 2^e before they are clustered; 0 where that needs no care.

    That is where the largest magnitude is 0 or from 2^(least - 1) to 2^most: squares of distances then neither
    overflow nor vanish. Elsewhere the e that brings it to between 1/2 and 1.
    """
    exponent = int(np.frexp(np.abs(x).max(initial=0.0))[1])
    return 0 if least <= exponent <= most else exponent


def scaled(x: _Floats, exponent: int) -> _Floats:
    """x times 2^exponent, exactly but for what becomes subnormal; what is too large becomes the largest double."""
    if exponent == 0:
        return x
    most = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        return np.asarray(np.clip(np.ldexp(x, exponent), -most, most))


def scalar_centroids(x: _Floats, weights: _Floats | None, count: int) -> _Floats:
    """Ascending centroids of at most ``count`` clusters of least weighted squared error; of finite numbers, not none.

    The optimum (dynamic programming) for up to 2^15 numbers; more are binned first, and the centroids then settle by
    Lloyd's iteration on all of them.
    """
    order = np.argsort(x, kind="stable")
    values, of_values = _binned(x[order], None if weights is None else weights[order])
    centroids = np.array(kmeans_optimal(values, of_values, min(count, len(values)))[0])
    if len(values) < len(x):
        for _ in range(3):
            index = np.searchsorted((centroids[:-1] + centroids[1:]) / 2, x).astype(np.uint16)
            centroids = means(x, weights, index, centroids)
    return centroids


def means(x: _Floats, weights: _Floats | None, index: NDArray[np.uint16], centroids: _Floats) -> _Floats:
    """The weighted mean of each cluster; the centroid it had where it has no members."""
    count = np.bincount(index, weights, len(centroids))
    total = np.bincount(index, x if weights is None else weights * x, len(centroids))
    return np.asarray(np.where(count > 0, total / np.where(count > 0, count, 1), centroids))


def _binned(x: _Floats, w: _Floats | None) -> tuple[_Floats, _Floats | None]:
    """Ascending values, gathered by their neighbours into at most so many bins, each at its mean."""
    if len(x) <= _BINS:
        return x, w
    edges = np.linspace(0, len(x), _BINS + 1).astype(np.int64)[:-1]
    count = np.add.reduceat(np.ones(len(x)) if w is None else w, edges)
    total = np.add.reduceat(x if w is None else w * x, edges)
    full = count > 0
    values = total[full] / count[full]
    return np.maximum.accumulate(values), count[full]
