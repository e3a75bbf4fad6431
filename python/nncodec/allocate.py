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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec._core import FloatStatistics, float_statistics
from nncodec.budget import check_budget
from nncodec.codecs.base import LossyCodec, Part, Setting, Trial
from nncodec.feedback import matrix_of
from nncodec.sides import Sides

__all__ = ["settings"]

# The search works on log2 of the measure. Stop when this near: 0.005 dB, or 0.1 % of the file.
_TOLERANCE = {"error": 0.005 / (10 * math.log10(2)), "size": math.log2(1.001)}
_MAX_TRIALS = 16
# Codecs look at their parts again when the step has moved by this factor.
_SIMILAR = 4.0
# The finest step, as a fraction of the largest magnitude: beyond it levels no longer fit their codes.
_FINEST = 2.0**-27
# A tensor of which nothing matters still needs a finite step.
_LEAST_IMPORTANCE = 2.0**-40
_FLOAT32 = 2  # element type code


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
        rel_mse = float(value) if kind == "rel_mse" else 10 ** (-float(value) / 10)
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
    deviation: float | None  # geometric mean, where there are sides: steps differ too much for another
    studies: list[Any] | None = None
    studied: float = 0.0  # the step that the studies were made for

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
        deviation = None if usual is None else math.sqrt(usual)
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
        return cls(codec_parts, importance, scale, energy, largest, elements, threads, known, deviation)

    def settings(self, step: float) -> list[Setting]:
        """The settings that a common step gives."""
        studies = self.studies or [None] * len(self.scale)
        return [
            Setting(step * k, None if own is not None else w, study, own)
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
        self.studies, self.studied = None, step
        settings = self.settings(step)
        studies: list[Any] = [None] * len(settings)
        for codec, which in self.by_codec().items():
            made = codec.study(
                [self.codec_parts[i][1] for i in which], [settings[i] for i in which], self.threads
            )
            for i, study in zip(which, made, strict=True):
                studies[i] = study
        self.studies = studies

    def trial(self, step: float) -> Trial:
        """Total bits and total weighted squared error at a common step."""
        self.study(step)
        settings = self.settings(step)
        bits = error = 0.0
        for codec, which in self.by_codec().items():
            parts = [self.codec_parts[i][1] for i in which]
            for one in codec.trial(parts, [settings[i] for i in which], self.threads):
                bits += one.bits
                error += one.squared_error
        return Trial(bits, error)

    @property
    def finest(self) -> float:
        """The smallest step that codecs must take."""
        return max(self.largest * _FINEST, 2.0**-1000)

    @property
    def coarsest(self) -> float:
        """A step at which every weight becomes 0."""
        return max(self.largest * 8, 2.0**-990)


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
                total += size * math.log2(energy / size)
                weights += size
    return 2.0 ** (total / weights) if weights else None


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

    def measure(step: float) -> float:
        error = problem.trial(step).squared_error
        return math.log2(max(error, 1e-300) / problem.energy)

    weight = problem.energy / max(1, problem.elements)
    guess = math.sqrt(12 * rel_mse * weight)
    step = _search(problem, measure, math.log2(rel_mse), guess, 2.0, _TOLERANCE["error"], progress)
    if isinstance(step, float):
        return problem.settings(step)
    low, high = (2**y for y in step)
    if kind == "rel_mse":
        raise ValueError(f"rel_mse={rel_mse:.4g} cannot be met: {low:.3g} to {high:.3g} can")
    low, high = -10 * math.log10(high), -10 * math.log10(low)
    wanted = -10 * math.log10(rel_mse)
    raise ValueError(f"snr_db={wanted:.4g} cannot be met: {low:.3g} to {high:.3g} can")


def _meet_size(
    problem: _Problem,
    bits: float,
    overhead_bits: int,
    kind: str,
    per_bit: float,
    progress: Callable[[float], None] | None,
) -> list[Setting]:
    def measure(step: float) -> float:
        return math.log2(max(1.0, problem.trial(step).bits + overhead_bits))

    if problem.elements == 0:
        if abs(overhead_bits - bits) <= 0.005 * bits:
            return problem.settings(1.0)
        outcome: float | tuple[float, float] = (math.log2(max(1, overhead_bits)),) * 2
    else:
        # A weight of standard deviation s costs about log2(s / step) + 2.05 bits, never less than some tenths.
        payload = max(0.3, (bits - overhead_bits) / problem.elements)
        deviation = problem.deviation or math.sqrt(problem.energy / problem.elements) or 1.0
        guess = deviation * 2 ** (2.05 - payload)
        slope = -problem.elements / max(1.0, bits)
        outcome = _search(
            problem, measure, math.log2(max(bits, 1.0)), guess, slope, _TOLERANCE["size"], progress
        )
    if isinstance(outcome, float):
        return problem.settings(outcome)
    least, most = (2**y for y in outcome)
    if kind == "ratio":
        wanted, low, high = per_bit / bits, per_bit / most, per_bit / least
    else:
        wanted, low, high = bits * per_bit, least * per_bit, most * per_bit
    raise ValueError(f"{kind}={wanted:.4g} cannot be met: {low:.4g} to {high:.4g} can")


def _search(
    problem: _Problem,
    measure: Callable[[float], float],
    target: float,
    guess: float,
    slope: float,
    tolerance: float,
    progress: Callable[[float], None] | None,
) -> float | tuple[float, float]:
    """The step where ``measure`` (monotone in the step) is ``target``; its (least, greatest) value if that is outside.

    Steps of the expected slope, ever longer, until the target lies between two points; then regula falsi (Illinois).
    An end of the range is tried only when the search walks into it.
    """
    finest, coarsest = math.log2(problem.finest), math.log2(problem.coarsest)
    sign = math.copysign(1.0, slope)
    below: tuple[float, float] | None = None  # (log2 step, distance to the target): too fine a step
    above: tuple[float, float] | None = None
    x = min(max(math.log2(guess), finest), coarsest)
    best, nearest = x, math.inf
    last, stride = 0, 0.0
    for _ in range(_MAX_TRIALS):
        gap = sign * (measure(math.pow(2.0, x)) - target)
        if progress is not None:
            progress(abs(gap))
        if abs(gap) < nearest:
            best, nearest = x, abs(gap)
        if abs(gap) <= tolerance:
            return math.pow(2.0, x)
        if (gap < 0 and x >= coarsest) or (gap > 0 and x <= finest):
            ends = sorted(measure(math.pow(2.0, end)) for end in (finest, coarsest))
            return ends[0], ends[1]
        if gap < 0:
            below = (x, gap)
            if above is not None and last < 0:
                above = (above[0], above[1] / 2)
        else:
            above = (x, gap)
            if below is not None and last > 0:
                below = (below[0], below[1] / 2)
        last = -1 if gap < 0 else 1
        if below is not None and above is not None:
            if above[0] - below[0] < 1e-6:
                break
            x = below[0] - below[1] * (above[0] - below[0]) / (above[1] - below[1])
        else:
            # 2 % more than needed, so that the target soon lies between.
            stride = min(max(1.02 * abs(gap / slope), 2 * stride), 8.0)
            x = min(max(x - math.copysign(stride, gap), finest), coarsest)
    return math.pow(2.0, best)  # sizes come in whole bytes: the nearest there is
