"""Tables of trellis levels from three numbers. Arithmetic: docs/format.md, "Parametric tables"."""

from __future__ import annotations

from nncodec.reference.trellis import point_of

__all__ = ["parametric_table", "point_weight"]

_ONE = 1 << 16
_POWERS = [
    *(1518500250, 1276901417, 1170923762, 1121280436, 1097253708, 1085434106, 1079572136, 1076653033),
    *(1075196443, 1074468888, 1074105294, 1073923544, 1073832680, 1073787251, 1073764537, 1073753181),
]


def _log2(n: int) -> int:
    """log2 of a positive integer in units of 2**-16, rounded down."""
    exponent = n.bit_length() - 1
    mantissa, fraction = (n << 31) >> exponent, 0
    for _ in range(16):
        mantissa = mantissa * mantissa >> 31
        reached = mantissa >> 32
        mantissa >>= reached
        fraction = fraction << 1 | reached
    return exponent * _ONE + fraction


def _exp2(z: int) -> int:
    """2**30 * 2**(z / 65536) for 0 <= z < 65536."""
    m = 1 << 30
    for i, power in enumerate(_POWERS):
        if z >> (15 - i) & 1:
            m = m * power >> 30
    return m


def _shifted(value: int, left: int) -> int:
    return value << left if left >= 0 else value >> -left


def _density(n: int, scale: int, shape: int) -> int:
    z = ((shape + 2) * (_log2(n) - 3 * _ONE - 8192 * (scale - 64)) >> 3) + 34653
    if z >= 6 * _ONE:
        return 0
    bits = _shifted(_exp2(z % _ONE), (z >> 16) - 14)
    if bits >= 40 * _ONE:
        return 0
    return _shifted(_exp2(-bits % _ONE), (-bits >> 16) + 10)


def point_weight(point: int, scale: int, shape: int) -> int:
    """Weight of a point some steps from zero."""
    return sum(_density(abs(8 * point + k), scale, shape) for k in range(-7, 8, 2))


def parametric_table(scale: int, shape: int, radius: int, alphabet: str, union: int) -> list[int]:
    """Frequencies (of 4096) of the symbols 0 to 128 + radius; none where all weights are 0."""
    levels = range(-radius, radius + 1)
    weights = [
        point_weight(abs(point_of(alphabet, union, level)), scale, shape) if abs(level) <= 63 else 0
        for level in levels
    ]
    total = sum(weights)
    if total == 0:
        return []
    table = [0] * (129 + radius)
    for level, weight in zip(levels, weights, strict=True):
        table[128 + level] = 1 + weight * (4096 - len(levels)) // total
    table[128] += 4096 - sum(table)
    return table
