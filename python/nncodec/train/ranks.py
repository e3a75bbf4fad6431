"""Ranks for all layers of a network at once: the searches of ENC, and the exact one.

Kim, Khan and Kyung, "Efficient neural network compression" (CVPR 2019, arXiv:1811.12781). Every layer has a
:class:`Curve`: what each of its choices costs, and what share of the accuracy is left when only this layer is cut so
far. The network's metric is the product over layers, its cost the sum. :func:`equal_metric` is ENC-Map, :func:`bounded`
ENC-Model, :func:`measured` ENC-Inf; :func:`exact` maximises the same product by dynamic programming, and is never below
them. :func:`uniform` cuts all layers to the same share of their largest rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from nncodec.train.rank_metrics import monotone_cubic

__all__ = ["Curve", "Found", "bounded", "equal_metric", "exact", "measured", "uniform"]

Array = NDArray[np.float64]

_CELLS = (
    1 << 15
)  # of the exact search's grid of costs, unless a common divisor needs fewer than so many times 8
_CANDIDATES = 600_000
_FLOOR = 1e-30  # a metric of 0, where a logarithm is wanted


@dataclass(frozen=True)
class Curve:
    """One layer. Index i of the arrays is the i-th choice; for a layer with one form, i is the rank.

    Attributes
    ----------
    name : str
    cost : numpy.ndarray
        float64, not decreasing.
    metric : numpy.ndarray
        float64, not decreasing, 1 for the last choice.
    least : int
        First choice that may be taken.
    second : numpy.ndarray, optional
        The PCA metric beside a measured one, for :func:`bounded`.
    points : pair of sequences, optional
        Choices and metrics between which the curve was interpolated. Where there are some, :func:`equal_metric`
        interpolates choices over metrics, as the paper does.
    """

    name: str
    cost: Array
    metric: Array
    least: int = 1
    second: Array | None = None
    points: tuple[Sequence[float], Sequence[float]] | None = None

    def __post_init__(self) -> None:
        if not len(self.cost) == len(self.metric) > self.least >= 0:
            raise ValueError(f"{self.name}: {len(self.cost)} costs, {len(self.metric)} metrics, {self.least}")
        if np.any(np.diff(self.cost) < 0) or np.any(np.diff(self.metric) < 0):
            raise ValueError(f"{self.name}: cost and metric must not decrease")

    @property
    def last(self) -> int:
        """The choice that keeps most."""
        return len(self.cost) - 1

    def choice(self, metric: float) -> int:
        """Where the curve reaches this metric, to the nearest choice."""
        if self.points is not None:
            choices, metrics = self.points
            wanted = float(monotone_cubic(metrics, choices, min(metric, metrics[-1])))
            return min(max(int(np.floor(wanted + 0.5)), self.least), self.last)
        above = int(np.searchsorted(self.metric, metric))
        if above > self.last:
            return self.last
        if above > 0 and self.metric[above] > self.metric[above - 1]:
            share = (metric - self.metric[above - 1]) / (self.metric[above] - self.metric[above - 1])
            above = int(np.floor(above - 1 + share + 0.5))
        return max(above, self.least)


@dataclass(frozen=True)
class Found:
    """Outcome of a search: a choice per layer, their cost, the product of the metrics."""

    choices: tuple[int, ...]
    cost: float
    metric: float


def uniform(curves: Sequence[Curve], budget: float) -> Found:
    """The same share of the largest rank in all layers."""
    return _bisect(curves, budget, lambda c, a: max(int(np.floor(a * c.last + 0.5)), c.least))


def equal_metric(curves: Sequence[Curve], budget: float) -> Found:
    """The same metric in all layers: ENC-Map, by bisection."""
    return _bisect(curves, budget, lambda curve, a: curve.choice(a))


def exact(curves: Sequence[Curve], budget: float) -> Found:
    """The best product within the budget, by dynamic programming over a grid of costs.

    Exact where all costs are multiples of a number that is not too small a share of the budget, else to about
    1/30000 of the budget; never below :func:`equal_metric`.
    """
    mapped = equal_metric(curves, budget)
    items = [_undominated(curve) for curve in curves]
    lowest = np.array([curve.cost[item[0]] for curve, item in zip(curves, items, strict=True)])
    room = budget - float(lowest.sum())
    rises = [curve.cost[item] - low for curve, item, low in zip(curves, items, lowest, strict=True)]
    cell, cells = _grid(rises, room)
    best = np.zeros(cells + 1)
    taken = np.zeros((len(curves), cells + 1), np.uint16)
    for layer, (curve, item, rise) in enumerate(zip(curves, items, rises, strict=True)):
        gain = np.log(np.maximum(curve.metric[item], _FLOOR))
        units = np.minimum(np.ceil(rise / cell), cells + 1).astype(np.int64)
        new = np.full(cells + 1, -np.inf)
        for number, (unit, value) in enumerate(zip(units, gain, strict=True)):
            if unit > cells:
                break
            reached = best[: cells + 1 - unit] + value
            better = reached > new[unit:]
            new[unit:][better] = reached[better]
            taken[layer, unit:][better] = number
        best = new
    choices = []
    at = cells
    for layer in range(len(curves) - 1, -1, -1):
        number = int(taken[layer, at])
        choices.append(int(items[layer][number]))
        rise = rises[layer][number]
        at -= int(np.ceil(rise / cell))
    found = _found(curves, choices[::-1])
    return found if found.metric >= mapped.metric else mapped


def bounded(
    curves: Sequence[Curve], budget: float, total: float, *, width: float = 0.10, density: float = 0.096
) -> list[Found]:
    """ENC-Model: candidates between two outcomes of :func:`equal_metric`, best first by ``A_m + A_p * cost / total``.

    Where a curve has no second metric, by the product of the first. The best one is ENC-Model's.

    Parameters
    ----------
    curves, budget
        As elsewhere.
    total : float
        Cost of the network as it is.
    width : float
        Distance of the two outcomes from the budget, as a share of ``total``.
    density : float
        Mean over layers of one over the step, at least.
    """
    high = equal_metric(curves, min(budget + width * total, _cost(curves, [c.last for c in curves])))
    low = equal_metric(curves, max(budget - width * total, _cost(curves, [c.least for c in curves])))
    spare = high.cost - budget
    if spare <= 0:
        return [high]
    steps = _steps(curves, density)
    groups = [_Group(curves, group, high.choices, low.choices, steps) for group in _folded(curves)]
    saved, logs, seconds = np.zeros(1), np.zeros(1), np.zeros(1)
    picked = np.zeros((1, 0), np.int32)
    most_left = np.cumsum([0.0] + [group.saved[-1] for group in reversed(groups)])[::-1]
    slack = 0.01 * spare  # the paper allows half of it on both sides; a budget is a budget
    for number, group in enumerate(groups):
        saved = (saved[:, None] + group.saved).reshape(-1)
        logs = (logs[:, None] + group.logs).reshape(-1)
        seconds = (seconds[:, None] + group.seconds).reshape(-1)
        options = len(group.saved)
        picked = np.concatenate(
            (
                np.repeat(picked, options, axis=0),
                np.tile(np.arange(options, dtype=np.int32), len(picked))[:, None],
            ),
            axis=1,
        )
        able = (saved <= spare + slack) & (saved + most_left[number + 1] >= spare)
        kept = _best_of_bins(np.flatnonzero(able), saved, logs)
        saved, logs, seconds, picked = saved[kept], logs[kept], seconds[kept], picked[kept]
    if not len(saved):
        return [equal_metric(curves, budget)]
    costs = high.cost - saved
    order = np.argsort(-(np.exp(logs) + np.exp(seconds) * costs / total), kind="stable")[:10_000]
    return [_found(curves, _unfolded(groups, picked[i], high.choices)) for i in order]


def measured(candidates: Sequence[Found], accuracy: Callable[[Found], float], count: int = 20) -> Found:
    """ENC-Inf: the most accurate of the first ``count`` candidates, the first of equals."""
    tried = list(candidates[:count])
    scores = [accuracy(found) for found in tried]
    return tried[int(np.argmax(scores))]


# --- parts


def _cost(curves: Sequence[Curve], choices: Sequence[int]) -> float:
    return float(sum(curve.cost[i] for curve, i in zip(curves, choices, strict=True)))


def _found(curves: Sequence[Curve], choices: Sequence[int]) -> Found:
    metric = float(np.prod([curve.metric[i] for curve, i in zip(curves, choices, strict=True)]))
    return Found(tuple(int(i) for i in choices), _cost(curves, choices), metric)


def _bisect(curves: Sequence[Curve], budget: float, choose: Callable[[Curve, float], int]) -> Found:
    """The largest number in 0 ... 1 whose choices are within the budget."""
    least = _cost(curves, [curve.least for curve in curves])
    if least > budget:
        raise ValueError(
            f"target cannot be met: it leaves {budget:.6g} for the layers that can be cut, and the least these take is "
            f"{least:.6g}"
        )
    low, high = 0.0, 1.0
    best = [curve.least for curve in curves]
    whole = [choose(curve, 1.0) for curve in curves]
    if _cost(curves, whole) <= budget:
        return _found(curves, whole)
    for _ in range(50):
        middle = (low + high) / 2
        choices = [choose(curve, middle) for curve in curves]
        if _cost(curves, choices) <= budget:
            low, best = middle, choices
        else:
            high = middle
    return _found(curves, best)


def _undominated(curve: Curve) -> NDArray[np.int64]:
    """Choices that no cheaper one equals, in order of cost."""
    metrics = curve.metric[curve.least :]
    better = np.concatenate(([True], np.diff(metrics) > 0))
    return np.flatnonzero(better) + curve.least


def _grid(rises: Sequence[Array], room: float) -> tuple[float, int]:
    """Size of a cell, and how many there are."""
    every = np.concatenate(rises)
    if room <= 0 or not every.any():
        return float(every[every > 0].min(initial=np.inf)), 0  # what costs anything is out of reach
    if np.all(every == np.rint(every)) and every.max() < 2**62:
        divisor = reduce(np.gcd, np.unique(every.astype(np.int64)))
        if room / divisor <= 8 * _CELLS:
            return float(divisor), int(room // divisor)
    return room / _CELLS, _CELLS


def _folded(curves: Sequence[Curve]) -> list[list[int]]:
    """Consecutive layers whose choices cost the same."""
    groups: list[list[int]] = []
    for i, curve in enumerate(curves):
        unit = np.diff(curve.cost)
        before = np.diff(curves[groups[-1][-1]].cost) if groups else unit[:0]
        same = (
            len(unit) > 0 and len(before) > 0 and np.ptp(unit) == 0 == np.ptp(before) and unit[0] == before[0]
        )
        if same:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _steps(curves: Sequence[Curve], density: float) -> list[int]:
    """A step of about one in a hundred of the largest rank, all of them finer until the density is reached."""
    basic = np.maximum([round(0.01 * curve.last) for curve in curves], 1)
    scale = max(float(np.mean(1 / basic)) / density, 1.0)
    while True:
        steps = np.maximum(np.rint(basic * scale), 1)
        if np.mean(1 / steps) >= density or scale <= 0:
            return [int(step) for step in steps]
        scale *= 0.99


class _Group:
    """Layers that share one variable, what all of them together save: its values, and the best split of each."""

    def __init__(
        self,
        curves: Sequence[Curve],
        group: Sequence[int],
        high: Sequence[int],
        low: Sequence[int],
        steps: Sequence[int],
    ) -> None:
        self.layers = list(group)
        self.splits: list[tuple[int, ...]] = [()]
        saved, logs, seconds = np.zeros(1), np.zeros(1), np.zeros(1)
        for i in group:
            curve = curves[i]
            second = curve.metric if curve.second is None else curve.second
            offsets = np.arange(0, max(high[i] - low[i], 0) + 1, steps[i])
            chosen = high[i] - offsets
            saved = (saved[:, None] + (curve.cost[high[i]] - curve.cost[chosen])).reshape(-1)
            logs = (logs[:, None] + np.log(np.maximum(curve.metric[chosen], _FLOOR))).reshape(-1)
            seconds = (seconds[:, None] + np.log(np.maximum(second[chosen], _FLOOR))).reshape(-1)
            splits = [(*split, int(offset)) for split in self.splits for offset in offsets]
            order = np.lexsort((-logs, saved))
            first = np.concatenate(([True], np.diff(saved[order]) > 0))
            kept = order[first]
            saved, logs, seconds = saved[kept], logs[kept], seconds[kept]
            self.splits = [splits[k] for k in kept]
        self.saved, self.logs, self.seconds = saved, logs, seconds


def _unfolded(groups: Sequence[_Group], picked: NDArray[np.int32], high: Sequence[int]) -> list[int]:
    choices = list(high)
    for group, number in zip(groups, picked, strict=True):
        for layer, offset in zip(group.layers, group.splits[int(number)], strict=True):
            choices[layer] -= offset
    return choices


def _best_of_bins(able: NDArray[np.int64], saved: Array, logs: Array) -> NDArray[np.int64]:
    """At most so many candidates: the best of each of 1000 ranges of cost."""
    if len(able) <= _CANDIDATES // 10:
        return able
    bins = np.minimum(saved[able] / max(float(saved[able].max()), 1e-300) * 1000, 999).astype(np.int64)
    order = np.lexsort((-logs[able], bins))
    ordered = bins[order]
    rank_in_bin = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(able[order[rank_in_bin < _CANDIDATES // 10_000]])
