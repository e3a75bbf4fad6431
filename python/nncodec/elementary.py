"""Logarithms and powers out of IEEE-754 additions, multiplications and divisions alone.

Those of the C library differ in their last bits from machine to machine; what a budget's search decides with them would
too, and so would the file. Errors stay below a few units in the last place.
"""

from __future__ import annotations

import math

__all__ = ["exp2", "log2", "log10", "pow10"]

_LOG2_E = 1.4426950408889634
_LN_2 = 0.6931471805599453
_LOG10_2 = 0.3010299956639812
_LOG2_10 = 3.321928094887362
_SQRT_HALF = 0.7071067811865476


def log2(x: float) -> float:
    """The binary logarithm, from the series of the inverse hyperbolic tangent. Raises ValueError as math.log2 does."""
    if not 0 < x < math.inf:
        return math.log2(x)  # infinity, not a number, or an error
    mantissa, exponent = math.frexp(x)
    if mantissa < _SQRT_HALF:
        mantissa *= 2
        exponent -= 1
    s = (mantissa - 1) / (mantissa + 1)  # at most 0.172
    square = s * s
    series = 0.0
    for k in range(23, 0, -2):
        series = series * square + 1 / k
    return exponent + 2 * s * series * _LOG2_E


def exp2(x: float) -> float:
    """Two to the power of x. Raises OverflowError as math.pow does."""
    if not math.isfinite(x):
        return math.pow(2.0, x)
    whole = math.floor(x + 0.5)
    t = (x - whole) * _LN_2  # at most 0.347
    series = 1.0
    for k in range(16, 0, -1):
        series = 1 + t * series / k
    return math.ldexp(series, whole)


def log10(x: float) -> float:
    """The decimal logarithm."""
    return log2(x) * _LOG10_2


def pow10(x: float) -> float:
    """Ten to the power of x."""
    return exp2(x * _LOG2_10)
