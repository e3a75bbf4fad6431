"""Uniform quantiser in plain Python. Bytes: docs/format.md, section "uniform".

Floating point here is binary64 throughout, in the order written, so results equal the kernel's bit for bit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

__all__ = [
    "DIRECT",
    "DIRECT_TOKENS",
    "base_magnitude",
    "dequantise",
    "extra_bits",
    "is_negative",
    "quantise",
    "rate_aware_thresholds",
    "round_to",
    "token_of",
]

DIRECT = 31  # largest magnitude with a token of its own
DIRECT_TOKENS = 2 * DIRECT + 1
MAX_LEVEL = (1 << 29) - 1

Thresholds = tuple[Sequence[float], Sequence[float]]
Context = Callable[[int], int]  # of an element, by index


def token_of(level: int) -> int:
    """Token of a level: 0, +1, -1, +2, -2 ... up to 31, then by exponent, two further bits, sign."""
    magnitude = abs(level)
    if magnitude <= DIRECT:
        return 2 * magnitude - (1 if level > 0 else 0)
    exponent = magnitude.bit_length() - 1
    top = (magnitude >> (exponent - 2)) & 3
    return DIRECT_TOKENS + 2 * (4 * (exponent - 5) + top) + (1 if level < 0 else 0)


def extra_bits(token: int) -> int:
    """Raw bits that follow a token."""
    return 0 if token < DIRECT_TOKENS else (token - DIRECT_TOKENS) // 8 + 3


def base_magnitude(token: int) -> int:
    """The smallest magnitude of a token."""
    if token < DIRECT_TOKENS:
        return (token + 1) // 2
    return (4 + (token - DIRECT_TOKENS) // 2 % 4) << extra_bits(token)


def is_negative(token: int) -> bool:
    """Whether a token's levels are below 0."""
    if token < DIRECT_TOKENS:
        return token != 0 and token % 2 == 0
    return (token - DIRECT_TOKENS) % 2 == 1


def rate_aware_thresholds(bits: Sequence[int], offsets: Sequence[int], lambda_: float) -> Thresholds:
    """Where |x| / step must lie for a direct level to cost less than the next one towards 0.

    ``bits`` per token in 256ths, ``offsets`` per token in 64ths of a step; lambda in squared steps per bit.
    """
    middle, slope = [0.0], [0.0]
    for token in range(1, DIRECT_TOKENS):
        inner = 0 if token <= 2 else token - 2
        sign = -1.0 if is_negative(token) else 1.0
        upper = base_magnitude(token) + sign * offsets[token] / 64
        lower = base_magnitude(token) - 1 + sign * offsets[inner] / 64
        gap = upper - lower
        if gap > 0.25:
            middle.append((upper + lower) * 0.5)
            slope.append(lambda_ * ((bits[token] - bits[inner]) / 256) / (2 * gap))
        else:
            middle.append(base_magnitude(token) - 0.5)
            slope.append(0.0)
    return middle, slope


def quantise(
    values: Sequence[float],
    step: float,
    context: Context,
    thresholds: Sequence[Thresholds],
    importance: Sequence[float] | None = None,
) -> tuple[list[int], bytes]:
    """Tokens and packed raw bits (least significant first) of ``values``."""
    inverse = 1.0 / step
    tokens, bits, filled = [], 0, 0
    for i, value in enumerate(values):
        middle, slope = thresholds[context(i)]
        scaled = value * inverse
        weight = 1.0 if importance is None else importance[i]
        magnitude = min(int(abs(scaled) + 0.5), MAX_LEVEL)
        if 0 < magnitude <= DIRECT:
            token = token_of(-magnitude if scaled < 0 else magnitude)
            if (abs(scaled) - middle[token]) * weight < slope[token]:
                magnitude -= 1
        token = token_of(-magnitude if scaled < 0 else magnitude)
        tokens.append(token)
        bits |= (magnitude - base_magnitude(token)) << filled
        filled += extra_bits(token)
    return tokens, bits.to_bytes(-(-filled // 8), "little")


def dequantise(
    tokens: Sequence[int],
    extra: bytes,
    dtype: int,
    step: float,
    context: Context,
    offsets: Sequence[Sequence[int]],
    table_of: Sequence[int],
) -> list[int]:
    """Bits of the values (float64, float32, float16, bfloat16 by ``dtype``) of tokens and raw bits.

    ``offsets``: 65 per table, for the direct tokens, larger negative and larger positive levels.
    """
    raw, out = int.from_bytes(extra, "little"), []
    for i, token in enumerate(tokens):
        n_bits = extra_bits(token)
        magnitude = base_magnitude(token) + (raw & ((1 << n_bits) - 1))
        raw >>= n_bits
        negative = is_negative(token)
        which = token if token < DIRECT_TOKENS else DIRECT_TOKENS + (0 if negative else 1)
        offset = offsets[table_of[context(i)]][which]
        level = float(-magnitude if negative else magnitude)
        out.append(round_to(dtype, step * (level + offset / 64)))
    return out


def round_to(dtype: int, value: float) -> int:
    """Bits of ``value`` rounded once to nearest even, clamped to the largest finite magnitude."""
    exponent_bits, mantissa_bits = {1: (11, 52), 2: (8, 23), 3: (5, 10), 4: (8, 7)}[dtype]
    sign = int(math.copysign(1.0, value) < 0) << (exponent_bits + mantissa_bits)
    largest = (((1 << exponent_bits) - 1) << mantissa_bits) - 1
    if math.isinf(value):
        return sign | largest
    if dtype == 1:
        return int(struct.unpack("<Q", struct.pack("<d", value))[0])
    if value == 0:
        return sign
    least = 2 - (1 << (exponent_bits - 1))  # exponent of the smallest normal number
    exponent = max(math.frexp(value)[1] - 1, least)
    # In units of the last place: round() is exact here and goes to even.
    units = round(math.ldexp(abs(value), mantissa_bits - exponent))
    biased = (exponent - least) << mantissa_bits
    return sign | min(biased + units, largest)
