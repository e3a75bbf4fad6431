"""Bit packing. Bytes: docs/format.md, "Bit packing"."""

from __future__ import annotations

from collections.abc import Sequence

from nncodec.errors import DecodeError

__all__ = ["bitpack", "bitunpack", "packed_size"]


def packed_size(n: int, bits: int) -> int:
    """Bytes that ``n`` codes of ``bits`` bits take."""
    return (n * bits + 7) // 8


def bitpack(codes: Sequence[int], bits: int) -> bytes:
    """Codes of ``bits`` bits end to end, the least significant bit first: one long little-endian number."""
    number = 0
    for i, code in enumerate(codes):
        number |= code << (i * bits)
    return number.to_bytes(packed_size(len(codes), bits), "little")


def bitunpack(packed: bytes, n: int, bits: int) -> list[int]:
    """The ``n`` codes; DecodeError when the size is wrong or the last byte is not filled with zeros."""
    if len(packed) != packed_size(n, bits):
        raise DecodeError(f"packed codes: {len(packed)} bytes instead of {packed_size(n, bits)}")
    number = int.from_bytes(packed, "little")
    if number >> (n * bits):
        raise DecodeError("packed codes: the last byte is not filled with zeros")
    return [number >> (i * bits) & ((1 << bits) - 1) for i in range(n)]
