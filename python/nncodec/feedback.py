"""Levels with error feedback for one tensor: what codec ``trellis`` does when there is a ``hessian``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from nncodec._core import TrellisPlan, feedback_levels, hardware_threads, trellis_plan_of_levels
from nncodec.codecs.base import Part, Trial
from nncodec.search import SLOPE, bits_at
from nncodec.sides import Sides

__all__ = ["FeedbackStudy", "matrix_of", "on_threads"]

_CHUNK_ELEMENTS = 1 << 19
_MOST_LANES = 32


@dataclass(frozen=True)
class _Manner:
    """How a matrix is searched: rows of a column that lie in one lane, states, samples that stay undecided."""

    lane_rows: int
    most_states: int
    delay: int


# Without an output side nothing hurries the decisions. With one, a late decision is one that the rows in between do not
# know: a strong code with a long delay where rows depend little on each other, a weak one that decides soon, and starts
# anew often, where they depend much. Which is better is tried.
_ALONE = _Manner(64, 1024, 80)
_TOGETHER = (_Manner(64, 64, 24), _Manner(24, 8, 5))
_ROWS_PER_BIT = 6  # of a lane, per bit of the trellis's memory: fewer rows get fewer states
_MOST_STEPS = 16000  # that a weight is long: a tensor of greater range gets a coarser step than is asked for
_SPARSE = 1.0  # bits per weight below which the other alphabet is tried
_PEAKED = 1.9  # weights near 0 over those near one step: above it, too
# Deviation over step of about a bit: of smaller weights many are near 0 whatever their distribution.
_COUNTED = 1.05
# Where a part was decided on at a step, its alphabet stays for steps within this factor.
_STAYS = 1.5
# The slope does not follow the rate: at one or two bits a weight an octave of the error is worth less than it says.
_OCTAVE = 0.6


@dataclass
class FeedbackStudy:
    """A part of one tensor, what its errors cost, and the last plan that was made."""

    part: Part
    sides: Sides
    states: int
    alphabet: str
    matrix: NDArray[np.float32] = field(init=False)  # in steps at step 1
    _manner: _Manner | None = field(init=False, default=None)
    _alphabet: tuple[float, str] | None = field(init=False, default=None)  # from this step on
    _last: tuple[float, TrellisPlan, Trial] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        rows, columns = self.sides.steps()
        weights = matrix_of(self.part, len(rows))
        self.matrix = weights / rows[:, None] / columns

    def trial(self, step: float, threads: int) -> Trial:
        """Size and output error at a step."""
        return self._at(step, threads)[1]

    def plan(self, step: float, threads: int) -> TrellisPlan:
        """What to write at a step."""
        return self._at(step, threads)[0]

    def _at(self, step: float, threads: int) -> tuple[TrellisPlan, Trial]:
        if self._last is None or self._last[0] != step:
            manners = (_ALONE,) if self.sides.output is None else _TOGETHER
            tries = [
                (manner, *self._made(step, manner, threads))
                for manner in ((self._manner,) if self._manner is not None else manners)
            ]
            self._manner, plan, trial = min(tries, key=lambda t: self._cost(t[2], step))
            self._last = (step, plan, trial)
        return self._last[1:]

    def _made(self, step: float, manner: _Manner, threads: int) -> tuple[TrellisPlan, Trial]:
        if self.alphabet != "auto":
            return self._searched(step, manner, self.alphabet, threads)
        known = self._alphabet
        if known is not None and 1 / _STAYS < step / known[0] < _STAYS:
            return self._searched(step, manner, known[1], threads)
        chosen, found = "plain", self._searched(step, manner, "plain", threads)
        if found[1].bits < _SPARSE * self.matrix.size or self._peak(step) > _PEAKED:
            other = self._searched(step, manner, "both_zero", threads)
            if self._is_better(other[1], found[1], step):
                chosen, found = "both_zero", other
        self._alphabet = (step, chosen)
        return found

    def _peak(self, step: float) -> float:
        """How often weights fall into the middle cell over how often into one beside it, in columns that matter.

        A path goes column by column: through zeros of small rows among large ones, but along those of small columns.
        """
        columns = np.sqrt(np.square(self.matrix).mean(0))
        size = np.abs(self.matrix[:, columns >= _COUNTED * step])
        middle = int(np.count_nonzero(size < np.float32(step / 2)))
        beside = int(np.count_nonzero(size < np.float32(3 * step / 2))) - middle
        return 2 * middle / max(1, beside)

    @staticmethod
    def _is_better(one: Trial, other: Trial, step: float) -> bool:
        slope = SLOPE * step * step / _OCTAVE
        return bits_at(one, other.squared_error, slope) < other.bits

    @staticmethod
    def _cost(trial: Trial, step: float) -> float:
        return trial.squared_error + SLOPE * step * step * trial.bits

    def _searched(
        self, step: float, manner: _Manner, alphabet: str, threads: int
    ) -> tuple[TrellisPlan, Trial]:
        rows, columns = self.matrix.shape
        step = max(step, float(np.abs(self.matrix).max()) / _MOST_STEPS)
        chunks = -(-rows // max(1, _CHUNK_ELEMENTS // columns))
        chunk_rows = -(-rows // chunks)
        lanes = 1
        while lanes < _MOST_LANES and chunk_rows >= 2 * lanes * manner.lane_rows:
            lanes *= 2
        strands = _strands(rows, chunk_rows, lanes)
        states = min(self.states, manner.most_states)
        while states > 8 and strands[0] < _ROWS_PER_BIT * (states.bit_length() - 1):
            states //= 2
        levels = np.empty((rows, columns), np.int16)
        error = feedback_levels(
            self.matrix / np.float32(step),
            levels,
            rows,
            columns,
            strands,
            self.sides.input,
            self.sides.output,
            states,
            alphabet,
            round(65536 * SLOPE),
            manner.delay,
            2,
            threads,
        )
        plan = trellis_plan_of_levels(
            self.part.dtype,
            self.part.shapes[0],
            levels,
            step * self.sides.scale,
            states,
            alphabet,
            True,
            1,
            lanes,
            chunk_rows * columns,
            self.sides.rows.tolist(),
            self.sides.columns.tolist(),
            threads,
        )
        return plan, Trial(plan.bits, error * step * step)


def _strands(rows: int, chunk_rows: int, lanes: int) -> list[int]:
    """Where the lanes end, in rows."""
    sizes = []
    for first in range(0, rows, chunk_rows):
        left = min(chunk_rows, rows - first)
        piece = -(-left // lanes)
        sizes += [min(piece, left - at) for at in range(0, left, piece)]
    return list(accumulate(sizes))


def matrix_of(part: Part, rows: int) -> NDArray[np.float32]:
    """The only tensor of a part as a matrix of float32."""
    if part.dtype == 4:  # bfloat16: the upper half of a float32
        wide = part.data.view("<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(rows, -1)
    found = part.data.view({1: "<f8", 2: "<f4", 3: "<f2"}[part.dtype]).astype(np.float32)
    return found.reshape(rows, -1)


def on_threads(threads: int, studies: Mapping[int, tuple[FeedbackStudy, float]]) -> dict[int, Trial]:
    """Trials of many studies, each at its step, side by side; what they return does not depend on ``threads``."""
    workers = threads or hardware_threads()
    if workers == 1 or len(studies) < 2:
        return {i: study.trial(step, threads) for i, (study, step) in studies.items()}
    from concurrent.futures import ThreadPoolExecutor  # not needed to import the package

    with ThreadPoolExecutor(workers) as pool:
        # Largest first; those whose rows are independent use the engine's own threads as well.
        order = sorted(studies, key=lambda i: -studies[i][0].matrix.size)
        made = pool.map(lambda i: studies[i][0].trial(studies[i][1], threads), order)
        return dict(zip(order, made, strict=True))
