"""Hashes of the retrieval structures in plain Python. Bytes: docs/format.md, section "Retrieval hash"."""

from __future__ import annotations

__all__ = ["hash_of", "mask_of", "scaled", "state_of", "word_of"]

_ALL = (1 << 64) - 1
_LOW = (1 << 32) - 1
_FACTORS = (
    (0x9E3779B1, 0x85EBCA6B),
    (0xC2B2AE35, 0x27D4EB2F),
    (0x165667B1, 0xCC9E2D51),
    (0x1B873593, 0xE6546B65),
    (0xD3A2646D, 0xFD7046C5),
    (0xB55A4F09, 0x8F1BBCDD),
    (0xA3B195F1, 0x6C8E9CF5),
)


def _mix(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _ALL
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _ALL
    return x ^ x >> 31


def state_of(seed: int) -> int:
    """What the hashes of a table start from."""
    return _mix(seed + 0x9E3779B97F4A7C15 & _ALL)


def hash_of(state: int, key: int) -> int:
    """64 bits of a key."""
    return _mix(state ^ key)


def scaled(value: int, n: int) -> int:
    """The high half of 64 bits as a number below n."""
    return (value >> 32) * n >> 32


def mask_of(value: int, bits: int) -> int:
    """What is added to a key's code."""
    return value & (1 << bits) - 1


def word_of(value: int, k: int) -> int:
    """The k-th further word of 64 bits of a key."""
    low, high = _FACTORS[k]
    product = (value >> 32) * high
    return (value & _LOW) * low ^ (product << 32 & _ALL | product >> 32)
