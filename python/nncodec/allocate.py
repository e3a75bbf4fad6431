"""Budgets: from one number for a whole checkpoint to a quantiser step per tensor.

Minimal error at a given size (or the reverse) needs equal slope d(error)/d(bits) everywhere. The slope of a scalar or
trellis quantiser is proportional to step**2 whatever the tensor, so equal slope is one common step; a tensor whose
squared error weighs ``w`` on average gets ``step / sqrt(w)``. What is left is a search for one number.

What the budgets mean:

``step``
    The quantiser step itself (at importance 1).
``rel_mse``
    Sum of the (weighted) squared error over all tensors that lossy codecs take, over the sum of their (weighted)
    squares.
``snr_db``
    ``-10 * log10(rel_mse)``.
``bits_per_weight``
    8 times the bytes of the file over the number of elements of the whole checkpoint: headers, side information and
    losslessly coded tensors are included.
``ratio``
    Bytes of all tensors over the bytes of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nncodec._core import FloatStatistics, float_statistics
from nncodec.budget import check_budget
from nncodec.codecs.base import LossyCodec, Part, Setting, Trial
from nncodec.elementary import exp2, log2, log10, pow10
from nncodec.feedback import matrix_of
from nncodec.search import ENCODED_BITS, MAX_TRIALS, MISSED, SETTLED, Settled, search, search_size
from nncodec.sides import Sides

__all__ = ["settings"]

# Stop the search when this near: 0.01 dB (in octaves of the error).
_ERROR_TOLERANCE = 0.01 / 3.0102999566398121
# Files up to this size and rate, where a codec's ways to code differ most and cost least to try, are coded in each, so
# that more bits never give more error.
_VARIED_BITS, _VARIED_RATE = 8 << 14, 2.0
# Of a search with another strength or alphabet, which begins at a step nearby.
_FEW_TRIALS = 8
# Codecs look at their parts again when the step has moved by this factor.
_SIMILAR = 1.6
# Up to so many weights, the error of the step that was found is measured in full, and where it is off, a few more steps
# are tried.
_MEASURED_ELEMENTS, _MEASURES = 1 << 22, 3
# About d log(error) / d log(step).
_ERROR_ORDER = 1.6
# A tensor of which nothing matters still needs a finite step.
_LEAST_IMPORTANCE = 2.0**-40
_FLOAT32 = 2  # element type code

_Try = Callable[[Sequence[Part], Sequence[Setting], int], list[Trial]]


def settings(
    codec_parts: Sequence[tuple[LossyCodec, Part]],
    *,
    budget: tuple[str, float],
    importance: Sequence[NDArray[np.float32] | None],
    overhead_bits: int,
    total_elements: int,
    total_bytes: int,
    threads: int,
    sides: Sequence[Sides | None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Setting]:
    """Choose one setting per part so that the whole checkpoint meets ``budget``.

    Parameters
    ----------
    codec_parts : sequence of (LossyCodec, Part)
        Everything that a lossy codec takes.
    budget : (kind, value)
        One of :data:`nncodec.budget.BUDGETS`.
    importance : sequence of array or None
        Per part: weights of the squared error, float32, one per element of the part in the order of its data, at
        least 0 and finite; None means 1 everywhere.
    overhead_bits : int
        Bits of the file that do not depend on the settings: headers, index, losslessly coded tensors.
    total_elements, total_bytes : int
        Of the whole checkpoint, before coding.
    threads : int
        0 means all cores.
    sides : sequence of Sides or None, optional
        Per part: asks for error feedback. Parts without, if they have no importance either, get a step that is to
        their deviation what it is to those with sides on the (geometric) average.
    progress : callable, optional
        Called with the distance that is left in the search (log2 units), once per trial.

    Raises
    ------
    ValueError
        A budget that is no number, or that cannot be met: says the range that can. NaN or infinite weights, naming
        the tensor. Bad importance.
    """
    kind, value = budget
    check_budget(kind, value)
    if len(importance) != len(codec_parts):
        raise ValueError(f"importance has {len(importance)} entries for {len(codec_parts)} parts")
    problem = _Problem.of(codec_parts, importance, threads, sides)
    if kind == "step":
        return problem.settings(float(value))
    if kind in ("snr_db", "rel_mse"):
        rel_mse = float(value) if kind == "rel_mse" else pow10(-float(value) / 10)
        return _meet_error(problem, rel_mse, kind, progress)
    bits = float(value) * total_elements if kind == "bits_per_weight" else 8 * total_bytes / float(value)
    per_bit = 1 / max(1, total_elements) if kind == "bits_per_weight" else 8 * total_bytes
    return _meet_size(problem, bits, overhead_bits, kind, per_bit, progress)


@dataclass
class _Problem:
    """The parts, how much each matters, and how to try a step on all of them."""

    codec_parts: Sequence[tuple[LossyCodec, Part]]
    importance: Sequence[NDArray[np.float32] | None]
    scale: list[float]  # a part's step over the common step
    energy: float  # sum of weighted squares
    largest: float  # largest magnitude over scale
    elements: int
    threads: int
    sides: Sequence[Sides | None]
    usual: (
        float | None
    )  # mean square, geometric mean where there are sides: steps differ too much for another
    studies: list[Any] | None = None
    studied: float = 0.0  # the step that the studies were made for
    strength: float = 1.0

    @classmethod
    def of(
        cls,
        codec_parts: Sequence[tuple[LossyCodec, Part]],
        importance: Sequence[NDArray[np.float32] | None],
        threads: int,
        sides: Sequence[Sides | None] | None = None,
    ) -> _Problem:
        scale, energy, largest, elements = [], 0.0, 0.0, 0
        known = sides or [None] * len(codec_parts)
        usual = None if sides is None else _usual_energy(codec_parts, known, threads)
        for (_, part), weights, own in zip(codec_parts, importance, known, strict=True):
            size = sum(math.prod(shape) for shape in part.shapes)
            if own is not None:
                found = _statistics_in_steps(part, own, threads)
                scale.append(1.0)
                energy += found.energy
                largest = max(largest, found.largest)
                elements += size
                continue
            mean = 1.0 if weights is None else _mean_importance(weights, size, part)
            stats = float_statistics(part.data, part.dtype, weights, threads)
            if stats.nonfinite:
                raise ValueError(nonfinite_message(part, stats.nonfinite))
            scale.append(1 / math.sqrt(max(mean, _LEAST_IMPORTANCE)))
            if usual is not None and weights is None and stats.energy > 0:
                scale[-1] = math.sqrt(stats.energy / size / usual)
            energy += stats.energy / (scale[-1] ** 2 if weights is None else 1)
            largest = max(largest, stats.largest / scale[-1])
            elements += size
        return cls(codec_parts, importance, scale, energy, largest, elements, threads, known, usual)

    def settings(self, step: float) -> list[Setting]:
        """The settings that a common step gives."""
        studies = self.studies or [None] * len(self.scale)
        return [
            Setting(step * k, None if own is not None else w, study, own, self.strength)
            for k, w, study, own in zip(self.scale, self.importance, studies, self.sides, strict=True)
        ]

    def by_codec(self) -> dict[LossyCodec, list[int]]:
        """Which parts each codec has."""
        found: dict[LossyCodec, list[int]] = {}
        for i, (codec, _) in enumerate(self.codec_parts):
            found.setdefault(codec, []).append(i)
        return found

    def study(self, step: float) -> None:
        """Let the codecs look at their parts, unless they did at a similar step."""
        if self.studies is not None and 1 / _SIMILAR < step / self.studied < _SIMILAR:
            return
        before = None
        if self.studies is not None:  # no more than what is used again
            before = [
                study if codec.lasting_study else None
                for study, (codec, _) in zip(self.studies, self.codec_parts, strict=True)
            ]
        self.studies, self.studied = None, step
        settings = self.settings(step)
        studies: list[Any] = [None] * len(settings)
        for codec, which in self.by_codec().items():
            if codec.lasting_study and before is not None:
                for i in which:
                    studies[i] = before[i]
                continue
            made = codec.study(
                [self.codec_parts[i][1] for i in which], [settings[i] for i in which], self.threads
            )
            for i, study in zip(which, made, strict=True):
                studies[i] = study
        self.studies = studies

    def trial(self, step: float) -> Trial:
        """Total bits and total weighted squared error at a common step."""
        self.study(step)
        return self._total(step, lambda codec: codec.trial)

    def _total(self, step: float, how: Callable[[LossyCodec], _Try]) -> Trial:
        settings = self.settings(step)
        bits = error = 0.0
        for codec, which in self.by_codec().items():
            parts = [self.codec_parts[i][1] for i in which]
            for one in how(codec)(parts, [settings[i] for i in which], self.threads):
                bits += one.bits
                error += one.squared_error
        return Trial(bits, error)

    def measured(self, step: float) -> Trial:
        """The same in full, where codecs estimate."""
        return self._total(step, lambda codec: codec.measured)

    def encoded_bits(self, step: float) -> int:
        """Bits of models and payloads at a common step."""
        settings = self.settings(step)
        total = 0
        for codec, which in self.by_codec().items():
            made = codec.encode(
                [self.codec_parts[i][1] for i in which], [settings[i] for i in which], self.threads
            )
            for one in made:
                total += len(one.model) + sum(len(chunk) for chunk in one.chunks)
        return 8 * total

    def strengths(self) -> Iterator[_Problem]:
        """The same problem with bits cheaper or dearer, as far as codecs offer that."""
        offers = [
            codec.strengths
            for codec, which in self.by_codec().items()
            if any(self.sides[i] is None for i in which)
        ]
        for strength in dict.fromkeys(chain.from_iterable(offers)):
            yield replace(self, strength=strength, studies=None, studied=0.0)

    def variants(self) -> Iterator[_Problem]:
        """The same problem with each other way of coding that codecs offer."""
        offers = {codec: codec.variants() for codec in self.by_codec()}
        for number in range(max((len(offer) for offer in offers.values()), default=0)):
            chosen = {
                codec: offer[number] if number < len(offer) else codec for codec, offer in offers.items()
            }
            parts = [(chosen[codec], part) for codec, part in self.codec_parts]
            yield replace(self, codec_parts=parts, studies=None, studied=0.0)

    @property
    def deviation(self) -> float:
        """Of the weights, over their parts' scales."""
        usual = self.energy / max(1, self.elements) if self.usual is None else self.usual
        return math.sqrt(usual) or 1.0

    @property
    def finest(self) -> float:
        """The smallest step that all codecs take."""
        fraction = max((codec.finest_step for codec, _ in self.codec_parts), default=0.0)
        least = max((codec.least_step for codec, _ in self.codec_parts), default=2.0**-1000)
        return max(self.largest * fraction, least)

    @property
    def coarsest(self) -> float:
        """A step at which every weight becomes 0."""
        return max(self.largest * 8, self.finest * 1024)


def _statistics_in_steps(part: Part, sides: Sides, threads: int) -> FloatStatistics:
    """Of the weights of a part over their steps."""
    rows, columns = sides.steps()
    own = float_statistics(part.data, part.dtype, None, threads)
    if own.nonfinite:
        raise ValueError(nonfinite_message(part, own.nonfinite))
    matrix = matrix_of(part, len(rows)) / rows[:, None] / columns
    return float_statistics(matrix.reshape(-1).view(np.uint8), _FLOAT32, None, threads)


def _usual_energy(
    codec_parts: Sequence[tuple[LossyCodec, Part]], sides: Sequence[Sides | None], threads: int
) -> float | None:
    """Geometric mean of the mean squares, in steps, over the weights of parts with sides."""
    total, weights = 0.0, 0
    for (_, part), own in zip(codec_parts, sides, strict=True):
        if own is not None:
            size = len(own.rows) * len(own.columns)
            energy = _statistics_in_steps(part, own, threads).energy
            if energy > 0:
                total += size * log2(energy / size)
                weights += size
    return exp2(total / weights) if weights else None


def nonfinite_message(part: Part, count: int) -> str:
    """What to say about NaN or infinite weights."""
    name = ", ".join(repr(n) for n in part.names[:4]) or "a tensor"
    return f"{name} has {count} NaN or infinite elements: a lossy codec cannot take it, codec 'lossless' can"


def _mean_importance(weights: NDArray[np.float32], size: int, part: Part) -> float:
    name = part.names[0] if part.names else "a tensor"
    if weights.dtype != np.float32 or weights.size != size:
        raise ValueError(
            f"importance of {name!r} must be float32 with {size} elements, got {weights.dtype} with {weights.size}"
        )
    if size == 0:
        return 1.0
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"importance of {name!r} must be finite and at least 0")
    return float(weights.mean(dtype=np.float64))


def _meet_error(
    problem: _Problem, rel_mse: float, kind: str, progress: Callable[[float], None] | None
) -> list[Setting]:
    if problem.energy == 0:  # nothing but zeros: any step is exact
        return problem.settings(1.0)
    weight = problem.energy / max(1, problem.elements)
    of_step = min(codec.error_of_step for codec, _ in problem.codec_parts)
    guess = math.sqrt(rel_mse * weight / of_step)
    outcome = _search_error(problem, rel_mse, guess, MAX_TRIALS, progress)
    if isinstance(outcome, _Reached):
        if outcome.miss > MISSED and outcome.bits <= ENCODED_BITS:
            step = outcome.step
            outcome = _first_good(
                outcome,
                chain(problem.strengths(), problem.variants()),
                lambda other: _search_error(other, rel_mse, step, _FEW_TRIALS, progress),
            )
        return outcome.problem.settings(outcome.step)
    low, high = (exp2(y) for y in outcome)
    if kind == "rel_mse":
        raise ValueError(f"rel_mse={rel_mse:.4g} cannot be met: {low:.3g} to {high:.3g} can")
    low, high = -10 * log10(high), -10 * log10(low)
    wanted = -10 * log10(rel_mse)
    raise ValueError(f"snr_db={wanted:.4g} cannot be met: {low:.3g} to {high:.3g} can")


@dataclass(frozen=True)
class _Reached:
    """A step, by how much the error there misses the one that was wanted, relatively, and the bits it takes."""

    problem: _Problem
    step: float
    miss: float
    bits: float

    def rank(self) -> tuple[float, float]:
        """Least for the best: of those near enough the one of fewest bits."""
        return (0.0, self.bits) if self.miss <= MISSED else (self.miss, self.bits)

    def as_good_as(self, other: _Reached) -> bool:
        """Whether it meets the error with hardly more bits than the other one takes and misses."""
        fair = other.bits + self.problem.elements * log2(1 + other.miss)  # twice what the difference is worth
        return self.miss <= MISSED and self.bits <= 1.01 * fair


_Outcome = TypeVar("_Outcome", Settled, _Reached)


def _first_good(
    known: _Outcome, problems: Iterable[_Problem], solve: Callable[[_Problem], _Outcome | tuple[float, float]]
) -> _Outcome:
    """The first solution that meets the budget about as well as ``known`` misses it, else the best of all."""
    found = [known]
    for problem in problems:
        one = solve(problem)
        if isinstance(one, tuple):
            continue
        if one.as_good_as(known):
            return one
        found.append(one)
    return min(found, key=lambda one: one.rank())


def _search_error(
    problem: _Problem,
    rel_mse: float,
    guess: float,
    trials: int,
    progress: Callable[[float], None] | None,
) -> _Reached | tuple[float, float]:
    """The step of this error; log2 of the (least, greatest) error if none has it."""
    tried: dict[float, Trial] = {}

    def error_at(step: float) -> float:
        return max(tried[step].squared_error, 1e-300) / problem.energy

    def measure(step: float) -> float:
        tried[step] = problem.trial(step)
        return log2(error_at(step))

    step = search(problem, measure, log2(rel_mse), guess, 2.0, _ERROR_TOLERANCE, progress, trials)
    if not isinstance(step, float):
        return step
    found = _Reached(problem, step, abs(error_at(step) / rel_mse - 1), tried[step].bits)
    if found.miss <= MISSED and problem.elements <= _MEASURED_ELEMENTS:
        return _measured(problem, rel_mse, step)
    return found


def _measured(problem: _Problem, rel_mse: float, step: float) -> _Reached:
    """``step``, or one nearby whose error comes nearer to ``rel_mse``."""
    found: list[_Reached] = []
    for _ in range(_MEASURES):
        trial = problem.measured(step)
        over = trial.squared_error / problem.energy / rel_mse
        found.append(_Reached(problem, step, abs(over - 1), trial.bits))
        if found[-1].miss <= SETTLED or over <= 0:
            break
        step *= exp2(-log2(over) / _ERROR_ORDER)
        step = min(max(step, problem.finest), problem.coarsest)
    return min(found, key=lambda one: one.miss)


def _meet_size(
    problem: _Problem,
    bits: float,
    overhead_bits: int,
    kind: str,
    per_bit: float,
    progress: Callable[[float], None] | None,
) -> list[Setting]:
    if problem.elements == 0:
        if abs(overhead_bits - bits) <= 0.005 * bits:
            return problem.settings(1.0)
        outcome: Settled | tuple[float, float] = (float(overhead_bits),) * 2
    else:
        outcome = search_size(problem, bits, overhead_bits, progress)
    if isinstance(outcome, Settled):
        small = bits <= _VARIED_BITS and bits < _VARIED_RATE * problem.elements
        if outcome.miss > MISSED or small:
            others: Iterable[_Problem] = problem.variants()
            if outcome.miss > MISSED:
                others = chain(problem.strengths(), others)
            near = outcome
            outcome = _first_good(
                outcome,
                others,
                lambda other: search_size(other, bits, overhead_bits, progress, near, _FEW_TRIALS),
            )
        return outcome.problem.settings(outcome.step)
    least, most = outcome
    if kind == "ratio":
        wanted, low, high = per_bit / bits, per_bit / most, per_bit / least
    else:
        wanted, low, high = bits * per_bit, least * per_bit, most * per_bit
    raise ValueError(f"{kind}={wanted:.4g} cannot be met: {low:.4g} to {high:.4g} can")
