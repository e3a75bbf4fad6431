"""k-means in plain Python: exact for scalars, assignment, Lloyd's iteration. See docs/format.md, "k-means"."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["assign", "lloyd", "optimal"]


def optimal(
    values: Sequence[float], weights: Sequence[float] | None, clusters: int
) -> tuple[list[float], float]:
    """Centroids and objective of the best clusters of ascending values: every last interval is tried."""
    pairs: dict[float, float] = {}
    for value, weight in zip(values, weights or [1.0] * len(values), strict=True):
        if weight:
            pairs[value] = pairs.get(value, 0.0) + weight
    x, w = list(pairs), list(pairs.values())
    n = len(x)
    if n <= clusters:
        return x, 0.0
    middle = x[n // 2]
    sums = [(0.0, 0.0, 0.0)]
    for value, weight in zip(x, w, strict=True):
        a, b, c = sums[-1]
        d = value - middle
        sums.append((a + weight, b + weight * d, c + weight * d * d))

    def cost(first: int, end: int) -> float:
        weight, total, square = (q - p for p, q in zip(sums[first], sums[end], strict=True))
        return square - total * total / weight

    best = [0.0] + [cost(0, end) for end in range(1, n + 1)]
    splits = []
    for layer in range(2, clusters + 1):
        split, following = [0] * (n + 1), [0.0] * (n + 1)
        for end in range(layer, n + 1):
            tried = [best[j] + cost(j, end) for j in range(layer - 1, end)]
            following[end] = min(tried)
            split[end] = layer - 1 + tried.index(following[end])
        splits.append(split)
        best = following
    ends, end = [n], n
    for split in reversed(splits):
        end = split[end]
        ends.insert(0, end)
    centroids, objective, first = [], 0.0, 0
    for end in ends:
        weight = sum(w[first:end])
        mean = x[first] + sum(w[i] * (x[i] - x[first]) for i in range(first, end)) / weight
        objective += sum(w[i] * (x[i] - mean) ** 2 for i in range(first, end))
        centroids.append(mean)
        first = end
    return centroids, objective


def assign(values: Sequence[float], centroids: Sequence[float]) -> list[int]:
    """Index of the nearest of ascending centroids, the lower one halfway; both are binary32 numbers."""
    thresholds = [(a + b) / 2 for a, b in pairwise(centroids)]
    return [sum(value > threshold for threshold in thresholds) for value in values]


def lloyd(
    vectors: Sequence[Sequence[float]],
    weights: Sequence[float] | None,
    centroids: Sequence[Sequence[float]],
    steps: int,
) -> tuple[list[list[float]], list[int], list[float]]:
    """Centroids, indices and objectives of Lloyd's iteration; distances are sums of binary32 squares in order."""
    book = [list(c) for c in centroids]
    given = weights or [1.0] * len(vectors)
    objectives: list[float] = []
    while True:
        index, objective = [], 0.0
        for vector, weight in zip(vectors, given, strict=True):
            squares = [_square(vector, c) for c in book]
            index.append(squares.index(min(squares)))
            objective += weight * min(squares)
        objectives.append(objective)
        if len(objectives) > steps:
            return book, index, objectives
        moved = False
        for k, centroid in enumerate(book):
            members = [(v, w) for v, w, i in zip(vectors, given, index, strict=True) if i == k]
            weight = sum(w for _, w in members)
            if weight:
                mean = [_single(sum(w * v[d] for v, w in members) / weight) for d in range(len(centroid))]
                moved = moved or mean != centroid
                book[k] = mean
        if not moved:
            return book, index, objectives


def _square(vector: Sequence[float], centroid: Sequence[float]) -> float:
    total = 0.0
    for a, b in zip(vector, centroid, strict=True):
        delta = _single(a - b)
        total = _single(total + _single(delta * delta))
    return total


def _single(x: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", x))[0])
