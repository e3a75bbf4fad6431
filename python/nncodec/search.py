"""The search for the one number behind a budget: a step whose error or size is the one that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nncodec.codecs.base import Setting, Trial
from nncodec.elementary import exp2, log2

__all__ = [
    "ENCODED_BITS",
    "MAX_TRIALS",
    "MISSED",
    "SETTLED",
    "SLOPE",
    "Problem",
    "Settled",
    "bits_at",
    "search",
    "search_size",
]

MAX_TRIALS = 20
# Between steps so near (in octaves) a measure that leads to the target has reached it.
_LEAP = 1e-4
# So often a search goes on from a leap.
_MOST_LEAPS = 2
_SIZE_TOLERANCE = 0.001
_LN2 = 0.6931471805599453
# What codec `trellis` takes a bit to be worth, in steps squared: 0.8 of 2 ln 2 / 3, an ideal quantiser's at high rates.
SLOPE = 0.8 * 2 * _LN2 / 3
# Another way of coding that takes so much more is given up.
_PLAINLY = 1.02
# Trials estimate sizes, and where there are few weights, sizes leap between steps. So files up to this size are encoded
# until one is near enough, the next steps being the nearest that may do.
ENCODED_BITS = 8 << 17
_MAX_ENCODES = 12
# A size or an error as near as this will do.
SETTLED = 0.0025
# A size farther off than this is met by another way of coding, if the codec has one.
MISSED = 0.004


class Problem(Protocol):
    """What is to be coded, at a step to be found."""

    @property
    def elements(self) -> int:
        """How many weights there are."""

    @property
    def deviation(self) -> float:
        """About that of the weights, over the factors that their steps get."""

    @property
    def finest(self) -> float:
        """The smallest step that codecs must take."""

    @property
    def coarsest(self) -> float:
        """A step at which every weight becomes 0."""

    def settings(self, step: float) -> list[Setting]:
        """What codecs are given."""

    def trial(self, step: float) -> Trial:
        """About what this step gives."""

    def encoded_bits(self, step: float) -> int:
        """What it gives: bits of models and payloads."""


@dataclass(frozen=True)
class Settled:
    """A step, the error there, and by how much the size that it gives misses the one that was wanted, relatively."""

    problem: Problem
    step: float
    miss: float
    error: float = 0.0

    def rank(self) -> tuple[float, float]:
        """Least for the best: of those near enough the one of least error."""
        return (0.0, self.error) if self.miss <= MISSED else (self.miss, self.error)

    def as_good_as(self, other: Settled) -> bool:
        """Whether it meets the size with hardly more error than the other one has and misses."""
        return self.miss <= MISSED < other.miss and self.error <= 1.03 * other.error


def search_size(
    problem: Problem,
    bits: float,
    overhead_bits: int,
    progress: Callable[[float], None] | None,
    near: Settled | None = None,
    trials: int = MAX_TRIALS,
) -> Settled | tuple[float, float]:
    """The step whose file has ``bits``; the (least, greatest) size if none has.

    ``near``: what another way of coding came to. Where that meets the size, a way that is plainly worse is given up.
    """
    n = problem.elements

    def measure(step: float) -> float:
        trial = problem.trial(step)
        if near is not None and near.miss <= MISSED:
            wanted = bits_at(trial, near.error, SLOPE * step * step)
            if wanted > _PLAINLY * (bits - overhead_bits):
                raise _GivenUp
        return (trial.bits + overhead_bits) / n

    if near is not None:
        guess = near.step
    else:
        # A weight of standard deviation s costs about log2(s / step) + 2.05 bits, never less than some tenths.
        payload = max(0.3, (bits - overhead_bits) / n)
        guess = problem.deviation * exp2(2.05 - payload)
    # At most a bit per weight and octave: the search never goes too far towards steps that are too fine.
    try:
        found = search(problem, measure, bits / n, guess, -1.0, _SIZE_TOLERANCE * bits / n, progress, trials)
    except _GivenUp:
        return Settled(problem, guess, math.inf, math.inf)
    if not isinstance(found, float):
        return found[0] * n, found[1] * n
    if bits > ENCODED_BITS:
        return Settled(problem, found, 0.0)
    return _settle(problem, found, bits, overhead_bits)


class _GivenUp(Exception):
    """A way of coding is plainly worse than one that is known."""


def bits_at(trial: Trial, error: float, slope: float) -> float:
    """About how many bits a trial would take with another squared error, not far off.

    Each bit takes off the same share of what error is left. ``slope``: error per bit, between the two.
    """
    if trial.squared_error <= 0 or error <= 0:
        return trial.bits
    octave = _LN2 * (trial.squared_error + error) / (2 * slope)
    return trial.bits + octave * log2(trial.squared_error / error)


def _settle(problem: Problem, step: float, bits: float, overhead_bits: int) -> Settled:
    """The step near ``step`` whose encoded size is nearest to ``bits``."""
    x = log2(step)
    best = Settled(problem, step, math.inf)
    finer: tuple[float, float] | None = None  # (log2 step, bits too many): the coarsest so far
    coarser: tuple[float, float] | None = None  # the finest so far that gives too few
    for _ in range(_MAX_ENCODES):
        step = exp2(x)
        # Codecs remember what they tried: encoding at this step gives the same again.
        error = problem.trial(step).squared_error
        over = problem.encoded_bits(step) + overhead_bits - bits
        if abs(over) / bits < best.miss:
            best = Settled(problem, step, abs(over) / bits, error)
        if best.miss <= SETTLED:
            break
        if over > 0:
            finer = (x, over) if finer is None or x > finer[0] else finer
        else:
            coarser = (x, over) if coarser is None or x < coarser[0] else coarser
        if finer is None or coarser is None or finer[0] >= coarser[0]:
            # Sizes scatter: at least a four-hundredth of an octave on.
            move = over / problem.elements
            x += math.copysign(max(abs(move), 0.0025), move)
        elif coarser[0] - finer[0] < _LEAP:
            break  # a leap
        else:
            share = finer[1] / (finer[1] - coarser[1])
            x = finer[0] + min(max(share, 0.2), 0.8) * (coarser[0] - finer[0])
        x = min(max(x, log2(problem.finest)), log2(problem.coarsest))
    return best


def search(
    problem: Problem,
    measure: Callable[[float], float],
    target: float,
    guess: float,
    slope: float,
    tolerance: float,
    progress: Callable[[float], None] | None,
    trials: int = MAX_TRIALS,
) -> float | tuple[float, float]:
    """The step where ``measure`` (monotone in the step) is ``target``; its (least, greatest) value if that is outside.

    Steps of the expected slope, ever longer, until the target lies between two points; then regula falsi (Illinois).
    An end of the range is tried only when the search walks into it. Codecs start from what they tried before, so that a
    step met again need not give the same: between two steps that are next to each other, one of them on either side of
    the target, the older one is forgotten, and the search goes on from the newer.
    """
    finest, coarsest = log2(problem.finest), log2(problem.coarsest)
    sign = math.copysign(1.0, slope)
    below: tuple[float, float] | None = None  # (log2 step, distance to the target): too fine a step
    above: tuple[float, float] | None = None
    x = min(max(log2(guess), finest), coarsest)
    best, nearest = x, math.inf
    last, stride = 0, 0.0
    before: tuple[float, float] | None = None  # the point before, while all lie on one side
    leaps = 0
    for _ in range(trials):
        gap = sign * (measure(exp2(x)) - target)
        if progress is not None:
            progress(abs(gap))
        if abs(gap) < nearest:
            best, nearest = x, abs(gap)
        if abs(gap) <= tolerance:
            return exp2(x)
        if (gap < 0 and x >= coarsest) or (gap > 0 and x <= finest):
            ends = sorted(measure(exp2(end)) for end in (finest, coarsest))
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
        if below is not None and above is not None and above[0] - below[0] < _LEAP and leaps < _MOST_LEAPS:
            leaps += 1
            below, above = (below, None) if gap < 0 else (None, above)
            before, stride = None, 0.0
        if below is not None and above is not None:
            if above[0] - below[0] < _LEAP:
                break
            x = below[0] - below[1] * (above[0] - below[0]) / (above[1] - below[1])
        else:
            # 2 % more than needed, so that the target soon lies between; ever longer, but not far towards steps that
            # are too fine for a codec.
            needed = 1.02 * abs(gap / slope)
            if before is not None and abs(before[1]) > abs(gap):  # two points tell the slope
                told = 1.02 * abs(gap * (x - before[0]) / (gap - before[1]))
                stride = max(needed, min(told, 4 * stride if gap < 0 else 2 * needed))
            else:
                longer = 2 * stride if gap < 0 else min(2 * stride, 2 * needed)
                stride = min(max(needed, longer), 8.0)
            before = (x, gap)
            x = min(max(x - math.copysign(stride, gap), finest), coarsest)
    return exp2(best)  # sizes come in whole bytes: the nearest there is
