"""3LC's zero-run coding in plain Python. Bytes: docs/format.md, "Zero runs"."""

from __future__ import annotations

from itertools import groupby

__all__ = ["decode", "encode"]

_ZERO, _FIRST_RUN, _LONGEST_RUN = 121, 243, 14


def encode(packed: bytes) -> bytes:
    """Runs of 2 to 14 bytes 121 as one byte 243 to 255; longer ones greedily."""
    out = bytearray()
    for byte, group in groupby(packed):
        length = sum(1 for _ in group)
        if byte != _ZERO:
            out += bytes([byte]) * length
            continue
        out += b"\xff" * (length // _LONGEST_RUN)
        rest = length % _LONGEST_RUN
        if rest:
            out.append(_ZERO if rest == 1 else _FIRST_RUN + rest - 2)
    return bytes(out)


def decode(coded: bytes, size: int) -> bytes:
    """The inverse; ValueError unless exactly ``size`` bytes come out."""
    out = bytearray()
    for byte in coded:
        out += bytes([byte]) if byte < _FIRST_RUN else bytes([_ZERO]) * (byte - _FIRST_RUN + 2)
        if len(out) > size:
            raise ValueError("zero runs: too long")
    if len(out) < size:
        raise ValueError("zero runs: too short")
    return bytes(out)
