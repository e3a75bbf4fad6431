"""3LC's three-value quantiser and base-3^5 packing in plain Python. Bytes: docs/format.md, "Ternary digits".

Lim, Andersen, Kaminsky: 3LC, arXiv:1802.07389. Numbers are binary32 values held as Python floats; a sum, difference or
product of two of them, rounded to binary32, is what the kernel computes (binary64 has more than twice the digits).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

__all__ = ["LEAST_SCALE", "ZERO_BYTE", "absmax", "expand", "pack", "quantise", "scale_of", "single", "unpack"]

ZERO_BYTE = 121
LEAST_SCALE = 2.0**-120
_LARGEST = float(struct.unpack("<f", b"\xff\xff\x7f\x7f")[0])


def single(value: float) -> float:
    """``value`` rounded to binary32; infinite where it is too large."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def absmax(values: Sequence[float], residual: Sequence[float] | None = None) -> float:
    """Largest |residual + value|; infinity where one of them is infinite or NaN."""
    most = 0.0
    for i, value in enumerate(values):
        x = value if residual is None else single(residual[i] + value)
        if not math.isfinite(x):
            return math.inf
        most = max(most, abs(x))
    return most


def scale_of(largest: float, sparsity_multiplier: float) -> float:
    """M, the magnitude that +1 and -1 stand for; ``sparsity_multiplier`` is a binary32 value in [1, 2)."""
    scale = min(single(largest * single(sparsity_multiplier)), _LARGEST)
    return 0.0 if scale < LEAST_SCALE else scale


def quantise(
    values: Sequence[float], residual: Sequence[float] | None, scale: float
) -> tuple[list[int], list[float]]:
    """Digits 0, 1, 2 for -1, 0, +1, and what is left of residual + values."""
    half = math.inf if scale == 0 else scale / 2
    digits, left = [], []
    for i, value in enumerate(values):
        x = value if residual is None else single(residual[i] + value)
        digit = 2 if x > half else 0 if x < -half else 1
        digits.append(digit)
        left.append(single(x - scale * (digit - 1)) if digit != 1 else x)
    return digits, left


def pack(digits: Sequence[int], layout: str) -> bytes:
    """Five digits a byte, the first most significant; padded with digit 1."""
    size = -(-len(digits) // 5)
    padded = [*digits, *[1] * (5 * size - len(digits))]
    if layout == "planar":
        groups = [padded[i::size] for i in range(size)]
    else:
        groups = [padded[5 * i : 5 * i + 5] for i in range(size)]
    return bytes(((((a * 3 + b) * 3 + c) * 3 + d) * 3 + e) for a, b, c, d, e in groups)


def unpack(packed: bytes, n: int, layout: str) -> list[int]:
    """The ``n`` digits of :func:`pack`."""
    groups = [[byte // weight % 3 for weight in (81, 27, 9, 3, 1)] for byte in packed]
    if layout == "planar":
        digits = [group[k] for k in range(5) for group in groups]
    else:
        digits = [digit for group in groups for digit in group]
    return digits[:n]


def expand(packed: bytes, out: Sequence[float], scale: float, layout: str, accumulate: bool) -> list[float]:
    """``out`` plus scale * (digit - 1), or, if not ``accumulate``, that alone."""
    result = []
    for digit, old in zip(unpack(packed, len(out), layout), out, strict=True):
        step = scale * (digit - 1) if digit != 1 else 0.0
        if not accumulate:
            result.append(step)
        else:
            result.append(single(old + step) if digit != 1 else old)
    return result
