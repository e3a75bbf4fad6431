"""Where squared error and rate together are least: thresholds of an entropy-constrained scalar quantiser."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["cells"]


def cells(centroids: Sequence[float], rates: Sequence[float]) -> tuple[list[float], list[int]]:
    """Where (x - c)^2 + rate is least: ascending thresholds, and the centroid of each cell between them.

    ``centroids`` ascend; of equal ones the cheaper counts. A centroid that is nowhere the cheapest has no cell; a
    rate may be infinite, but not all.
    """
    thresholds: list[float] = []
    kept: list[int] = []
    for k, (c, rate) in enumerate(zip(centroids, rates, strict=True)):
        if math.isinf(rate):
            continue
        while kept:
            last = kept[-1]
            gap = c - centroids[last]
            if gap <= 0:
                if rate >= rates[last]:
                    break
            else:
                crossing = (c + centroids[last]) / 2 + (rate - rates[last]) / (2 * gap)
                if not thresholds or crossing > thresholds[-1]:
                    thresholds.append(crossing)
                    kept.append(k)
                    break
            kept.pop()
            if thresholds:
                thresholds.pop()
        else:
            kept.append(k)
    if not kept:
        raise ValueError("all rates are infinite")
    return thresholds, kept
