"""Float planes in plain Python. Bytes: docs/format.md#float-planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ESCAPE", "FORMATS", "ZERO", "RawBits", "SymbolMap", "join", "pack_bits", "split", "unpack_bits"]

ESCAPE = 255
ZERO = 0

# element type code: (bytes of a number, exponent bits, mantissa bits)
FORMATS = {
    1: (8, 11, 52),
    2: (4, 8, 23),
    3: (2, 5, 10),
    4: (2, 8, 7),
    48: (8, 11, 52),
    49: (4, 8, 23),
    50: (2, 5, 10),
}


@dataclass(frozen=True)
class SymbolMap:
    """How exponents become symbols."""

    sparse: bool = False
    escaped: bool = False
    base: int = 0

    def symbol(self, number: int, exponent: int) -> int:
        """Symbol of a number with this bit pattern and exponent field."""
        if not self.escaped:
            return exponent
        if self.sparse and number == 0:
            return ZERO
        shifted = exponent - self.base
        return shifted if (1 if self.sparse else 0) <= shifted <= 254 else ESCAPE


@dataclass(frozen=True)
class RawBits:
    """Which bits are stored raw: all but ``zeros`` mantissa bits, and the sign unless ``plus``."""

    zeros: int = 0
    plus: bool = False


def split(
    numbers: Sequence[int], dtype: int, raw: RawBits, symbols: SymbolMap
) -> tuple[list[int], list[int], list[list[int]]]:
    """Bit patterns to exponent symbols, low bits (empty if there are none) and byte planes."""
    _, exponent_bits, mantissa_bits = FORMATS[dtype]
    kept = mantissa_bits - raw.zeros
    count = kept + (not raw.plus)
    codes, low, planes = [], [], [[] for _ in range(count // 8)]  # type: ignore[var-annotated]
    for number in numbers:
        sign = number >> (exponent_bits + mantissa_bits)
        exponent = (number >> mantissa_bits) % 2**exponent_bits
        codes.append(symbols.symbol(number, exponent))
        bits = (number % 2**mantissa_bits) >> raw.zeros
        if not raw.plus:
            bits += sign << kept
        if count % 8:
            low.append(bits % 2 ** (count % 8))
        for i, plane in enumerate(planes):
            plane.append((bits >> (count % 8 + 8 * i)) % 256)
    return codes, low, planes


def join(
    codes: Sequence[int],
    low: Sequence[int],
    planes: Sequence[Sequence[int]],
    dtype: int,
    raw: RawBits,
    symbols: SymbolMap,
) -> list[int]:
    """The inverse; escaped exponents and sparse zeros are left to the caller."""
    _, exponent_bits, mantissa_bits = FORMATS[dtype]
    kept = mantissa_bits - raw.zeros
    count = kept + (not raw.plus)
    numbers = []
    for i, code in enumerate(codes):
        bits = low[i] if count % 8 else 0
        for p, plane in enumerate(planes):
            bits += plane[i] << (count % 8 + 8 * p)
        exponent = (code + symbols.base) % 2**exponent_bits
        sign = bits >> kept
        mantissa = (bits % 2**kept) << raw.zeros
        numbers.append((sign << (exponent_bits + mantissa_bits)) + (exponent << mantissa_bits) + mantissa)
    return numbers


def pack_bits(values: Sequence[int], bits: int) -> bytes:
    """Values below 2**bits to bit planes: bit j of value i is bit i % 8 of byte i // 8 of plane j."""
    stride = -(-len(values) // 8)
    out = bytearray(stride * bits)
    for i, value in enumerate(values):
        for j in range(bits):
            out[j * stride + i // 8] |= (value >> j & 1) << (i % 8)
    return bytes(out)


def unpack_bits(packed: bytes, n: int, bits: int) -> list[int]:
    """The inverse."""
    stride = -(-n // 8)
    return [sum((packed[j * stride + i // 8] >> (i % 8) & 1) << j for j in range(bits)) for i in range(n)]
