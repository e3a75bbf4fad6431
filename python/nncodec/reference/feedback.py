"""Error feedback with a trellis down the columns (docs/format.md, "Error feedback"), and the root that it needs.

Floats go through ``_float32`` after each operation: the kernels' single precision.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from nncodec.reference.trellis import Table, branches_at, next_state, point_of, rates_of

__all__ = ["lower_root", "quantise"]

Matrix = Sequence[Sequence[float]]
_BLOCK = 32


def _float32(x: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", x))[0])


def lower_root(matrix: Matrix) -> list[list[float]]:
    """Lower triangular L with L^T L the given matrix, of which only the lower triangle is read."""
    n = len(matrix)
    rest = [[float(x) for x in row] for row in matrix]
    root = [[0.0] * n for _ in range(n)]
    for j in reversed(range(n)):
        if not (rest[j][j] > 0 and math.isfinite(rest[j][j])):
            raise ValueError("not positive definite")
        root[j][j] = math.sqrt(rest[j][j])
        for k in range(j):
            root[j][k] = rest[j][k] / root[j][j]
        for i in range(j):
            for k in range(i + 1):
                rest[i][k] -= root[j][i] * root[j][k]
    return root


class _Strand:
    """A Viterbi search that decides all samples but the newest ``keep``."""

    def __init__(self, states: int) -> None:
        self.states = states
        self.first = 0
        self.samples: list[list[list[tuple[int, int]]]] = []
        self._restart()

    def _restart(self) -> None:
        self.metrics = {self.first: 0}
        self.history: list[dict[int, tuple[int, int]]] = []
        for sample in self.samples:
            self._step(sample)

    def _step(self, sample: list[list[tuple[int, int]]]) -> None:
        reached: dict[int, tuple[int, int, int, int]] = {}
        for state, metric in self.metrics.items():
            for parity, (branch, level) in enumerate(sample[state & 1]):
                way = (metric + branch, parity, state, level)
                after = next_state(self.states, state, parity)
                reached[after] = min(reached.get(after, way), way)
        self.metrics = {after: way[0] for after, way in reached.items()}
        self.history.append({after: (way[2], way[3]) for after, way in reached.items()})

    def advance(self, sample: list[list[tuple[int, int]]]) -> None:
        self.samples.append(sample)
        self._step(sample)

    def _trace(self) -> tuple[list[tuple[int, int]], list[int]]:
        """(level, union) of each undecided sample, and the states before each and at the end."""
        state = min(self.metrics, key=lambda s: (self.metrics[s], s))
        found, states = [], [state]
        for sample in reversed(self.history):
            state, level = sample[state]
            found.append((level, state & 1))
            states.append(state)
        return found[::-1], states[::-1]

    def decide(self, keep: int) -> list[tuple[int, int]]:
        count = len(self.samples) - keep
        if count <= 0:
            return []
        found, states = self._trace()
        if states[0] != self.first:
            self._restart()
            found, states = self._trace()
        self.first = states[count]
        self.samples = self.samples[count:]
        self.history = self.history[count:]
        return found[:count]


def quantise(
    weights: Matrix,
    strands: Sequence[int],
    input_: Sequence[Matrix],
    output: Matrix | None,
    costs: Table,
    lambda_: int,
    delay: int,
    states: int = 8,
    alphabet: str = "plain",
    contexts: Sequence[Sequence[int]] | None = None,
    offsets: Table | None = None,
) -> tuple[list[list[int]], list[list[float]]]:
    """Levels and targets of weights in steps. ``input_``: a triangle per group of rows, none for no feedback.

    ``strands``: where they end, in rows. ``offsets[context][union][level + reach]``: centroids in 1/256 step.
    """
    rows, columns = len(weights), len(weights[0])
    radius = len(costs[0][0]) // 2
    reach = len(offsets[0][0]) // 2 if offsets else -1
    rates = rates_of(costs, lambda_)
    errors = [list(row) for row in weights]  # weights until they are decided
    targets = [list(row) for row in weights]
    moved = [list(row) for row in weights]
    levels = [[0] * columns for _ in range(rows)]
    begins = [0, *strands[:-1]]
    searches = [_Strand(states) for _ in strands]
    decided = [0] * len(strands)
    pushed = [0] * len(strands)

    def spread(error: float, row: int, first: int, shift: list[float]) -> None:
        if not output or error == 0:
            return
        for below in range(first, rows):
            shift[below] = _float32(shift[below] + _float32(error * output[below][row]))

    def settle(s: int, keep: int, column: int, shift: list[float]) -> None:
        height = strands[s] - begins[s]
        following = begins[s] + (pushed[s] - 1) % height + 1
        for level, union in searches[s].decide(keep):
            j, i = divmod(decided[s], height)
            i += begins[s]
            decided[s] += 1
            context = contexts[i][j] if contexts else 0
            point = 256 * point_of(alphabet, union, level)
            if offsets and abs(level) <= reach:
                point += offsets[context][union][level + reach]
            levels[i][j] = level
            errors[i][j] = _float32(errors[i][j] - point / 256)
            if output and j == column:
                spread(_float32(moved[i][j] - point / 256), i, following, shift)

    for column in range(columns):
        shift = [0.0] * rows
        for s, (first, end) in enumerate(zip(begins, strands, strict=True)):
            block = min(max((end - first) // 4, 1), _BLOCK)
            for begin in range(first, end, block):
                here = range(begin, min(begin + block, end))
                for i in here:
                    for k in range(column if input_ else 0):
                        factor = input_[i * len(input_) // rows][column][k]
                        targets[i][column] = _float32(targets[i][column] + _float32(factor * errors[i][k]))
                    moved[i][column] = _float32(targets[i][column] + shift[i])
                    spread(-shift[i], i, i + 1, shift)  # what is expected of its error
                    context = contexts[i][column] if contexts else 0
                    searches[s].advance(branches_at(moved[i][column], alphabet, rates[context], radius))
                pushed[s] += len(here)
                settle(s, min(delay, end - first - block), column, shift)
            if output:  # rows that follow in other strands must know
                settle(s, 0, column, shift)
    for s in range(len(strands)):
        settle(s, 0, columns - 1, [0.0] * rows)
    return levels, moved
