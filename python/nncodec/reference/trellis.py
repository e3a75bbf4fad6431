"""Trellis-coded quantisation. Values and paths: docs/format.md, "Trellis quantisation".

Tables are nested lists ``table[context][union][level + radius]``. Floats go through ``_float32`` after each operation,
which is what the kernels' single-precision arithmetic gives.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["CODES", "accumulate", "centroids", "costs_of", "dequantise", "point_of", "quantise"]

# Number of states to parity-check polynomials (h0, h1).
CODES = {
    8: (0o13, 0o4),
    16: (0o31, 0o12),
    32: (0o43, 0o24),
    64: (0o127, 0o42),
    128: (0o253, 0o136),
    256: (0o523, 0o212),
    512: (0o1263, 0o326),
    1024: (0o2033, 0o1456),
}

_MAX_BRANCH = 3600
_MAX_RATE = 32767

Table: TypeAlias = Sequence[Sequence[Sequence[int]]]


def _float32(x: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", x))[0])


def next_state(states: int, state: int, parity: int) -> int:
    """The state that a level of this parity leads to."""
    h0, h1 = CODES[states]
    return (state >> 1) ^ (h0 >> 1 if state & 1 else 0) ^ (h1 >> 1 if parity else 0)


def point_of(alphabet: str, union: int, level: int) -> int:
    """The grid point, in steps, that a level of a union means."""
    if union == 0:
        return 2 * level
    if alphabet == "plain":
        return 2 * level + 1
    return 2 * level - (level > 0) + (level < 0)


def _lanes(n: int, lanes: int) -> list[range]:
    """The elements of each lane: they take turns."""
    return [range(lane, n, lanes) for lane in range(min(n, lanes))]


def _place(value: float, step: float, radius: int) -> int:
    """The value in 1/256 step, clamped so that all candidates lie within the radius."""
    limit = float(2 * radius - 4)
    scaled = value * _float32(1.0 / step)
    scaled = _float32(scaled) if math.isfinite(scaled) and abs(scaled) < 2.0**127 else scaled
    scaled = scaled if scaled > -limit else -limit
    scaled = scaled if scaled < limit else limit
    return round(_float32(scaled) * 256)


def _branches(
    place: int, alphabet: str, rates: Sequence[Sequence[int]], radius: int
) -> list[list[tuple[int, int]]]:
    """Of each union and parity: the metric of the better of its two nearest levels, and that level."""
    best = []
    for union in (0, 1):
        floor = max(
            level
            for level in range(place // 512 - 2, place // 512 + 3)
            if 256 * point_of(alphabet, union, level) <= place // 256 * 256
        )
        candidates: list[list[tuple[int, int]]] = [[], []]
        for level in range(floor - 1, floor + 3):
            distance = place - 256 * point_of(alphabet, union, level)
            candidates[level & 1].append((distance * distance // 128 + rates[union][level + radius], level))
        best.append([min(pair) for pair in candidates])
    least = min(metric for pair in best for metric, _ in pair)
    return [[(min(metric - least, _MAX_BRANCH), level) for metric, level in pair] for pair in best]


def _best_path(branches: list[list[list[tuple[int, int]]]], states: int) -> list[int]:
    """Viterbi: the levels of the cheapest path from state 0. Ties: the even level; the lowest last state."""
    metrics: dict[int, int] = {0: 0}
    history: list[dict[int, tuple[int, int]]] = []  # per sample: state after -> (state before, level)
    for sample in branches:
        reached: dict[int, tuple[int, int, int, int]] = {}
        for state, metric in metrics.items():
            for parity, (branch, level) in enumerate(sample[state & 1]):
                way = (metric + branch, parity, state, level)
                after = next_state(states, state, parity)
                reached[after] = min(reached.get(after, way), way)
        metrics = {after: way[0] for after, way in reached.items()}
        history.append({after: (way[2], way[3]) for after, way in reached.items()})
    state = min(metrics, key=lambda s: (metrics[s], s))
    levels = []
    for sample_history in reversed(history):
        state, level = sample_history[state]
        levels.append(level)
    return levels[::-1]


def branches_at(
    value: float, alphabet: str, rates: Sequence[Sequence[int]], radius: int
) -> list[list[tuple[int, int]]]:
    """Of a value in steps: per union and parity the metric of the better level, and that level."""
    return _branches(_place(value, 1.0, radius), alphabet, rates, radius)


def rates_of(costs: Table, lambda_: int) -> list[list[list[int]]]:
    """Costs in 1/256 bit times lambda, in the units of the metrics."""
    return [
        [[min((cost * lambda_ + (1 << 14)) >> 15, _MAX_RATE) for cost in row] for row in table]
        for table in costs
    ]


def quantise(
    values: Sequence[float],
    step: float,
    costs: Table,
    lambda_: int,
    states: int = 8,
    alphabet: str = "plain",
    lanes: int = 1,
    contexts: Sequence[int] | None = None,
) -> list[int]:
    """The levels of least squared error + lambda * bits; ``values`` and ``step`` are float32 numbers."""
    radius = len(costs[0][0]) // 2
    rates = rates_of(costs, lambda_)
    levels = [0] * len(values)
    for lane in _lanes(len(values), lanes):
        branches = [
            _branches(
                _place(values[i], step, radius), alphabet, rates[contexts[i] if contexts else 0], radius
            )
            for i in lane
        ]
        for i, level in zip(lane, _best_path(branches, states), strict=True):
            levels[i] = level
    return levels


def _unions(levels: Sequence[int], states: int, lanes: int) -> list[int]:
    """The union that each level is met in."""
    unions = [0] * len(levels)
    for lane in _lanes(len(levels), lanes):
        state = 0
        for i in lane:
            unions[i] = state & 1
            state = next_state(states, state, levels[i] & 1)
    return unions


def dequantise(
    levels: Sequence[int],
    step: float,
    states: int = 8,
    alphabet: str = "plain",
    lanes: int = 1,
    contexts: Sequence[int] | None = None,
    offsets: Table | None = None,
) -> list[float]:
    """float32 values of levels. ``offsets[context][union][level + reach]``: centroids in 1/256 step."""
    values = []
    reach = len(offsets[0][0]) // 2 if offsets else -1
    for i, (level, union) in enumerate(zip(levels, _unions(levels, states, lanes), strict=True)):
        point = 256 * point_of(alphabet, union, level)
        if offsets and abs(level) <= reach:
            point += offsets[contexts[i] if contexts else 0][union][level + reach]
        values.append(_float32(point * (step / 256)))
    return values


def accumulate(
    values: Sequence[float],
    levels: Sequence[int],
    step: float,
    n_contexts: int,
    radius: int,
    states: int = 8,
    alphabet: str = "plain",
    lanes: int = 1,
    contexts: Sequence[int] | None = None,
) -> tuple[list[list[list[int]]], list[list[list[int]]], int]:
    """Counts and summed errors (1/256 step) per context, union and level, and the squared error (1/256 step)^2."""
    counts = [[[0] * (2 * radius + 1) for _ in range(2)] for _ in range(n_contexts)]
    errors = [[[0] * (2 * radius + 1) for _ in range(2)] for _ in range(n_contexts)]
    squared = 0
    for i, (level, union) in enumerate(zip(levels, _unions(levels, states, lanes), strict=True)):
        error = _place(values[i], step, radius) - 256 * point_of(alphabet, union, level)
        context = contexts[i] if contexts else 0
        counts[context][union][level + radius] += 1
        errors[context][union][level + radius] += error
        squared += error * error
    return counts, errors, squared


def centroids(counts: Table, errors: Table, reach: int) -> list[list[list[int]]]:
    """Mean error of levels up to ``reach``, rounded to nearest, halves away from 0; 0 where seen less than 8 times."""
    radius = len(counts[0][0]) // 2

    def mean(count: int, error: int) -> int:
        if count < 8:
            return 0
        size = (abs(error) + count // 2) // count
        return max(-32768, min(32767, size if error >= 0 else -size))

    middle = slice(radius - reach, radius + reach + 1)
    return [
        [
            [mean(c, e) for c, e in zip(cs[middle], es[middle], strict=True)]
            for cs, es in zip(ct, et, strict=True)
        ]
        for ct, et in zip(counts, errors, strict=True)
    ]


def _log2_in_256ths(number: int) -> int:
    """floor(256 * log2(number)), exactly where the mantissa has at most 31 bits: fraction bits by squaring."""
    exponent = number.bit_length() - 1
    mantissa = number >> (exponent - 31) if exponent >= 31 else number << (31 - exponent)
    result = exponent
    for _ in range(8):
        mantissa = mantissa * mantissa >> 31
        carry = mantissa >> 32
        result = result << 1 | carry
        mantissa >>= carry
    return result


def costs_of(counts: Table) -> list[list[list[int]]]:
    """-log2((count + 1/2) / sum) in 1/256 bit, at most 24 bits."""

    def row(of: Sequence[int]) -> list[int]:
        total = _log2_in_256ths(sum(2 * count + 1 for count in of))
        return [min(total - _log2_in_256ths(2 * count + 1), 24 * 256) for count in of]

    return [[row(of) for of in table] for table in counts]
