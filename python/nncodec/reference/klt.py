"""Basis of the Karhunen-Loeve transform in plain Python. Bytes: docs/format.md, section "Column transform".

Floating point is binary64 in the order written, or binary32 where ``_single`` rounds, so results equal the kernel's
bit for bit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from nncodec.errors import DecodeError
from nncodec.reference.adaptive_bytes import decode_bytes
from nncodec.reference.range_coder import BinaryDecoder, ExpGolomb

__all__ = ["decode_basis", "inverse", "inverse_integers"]

CLASSES = 32
MAX_ENTRY = 1 << 20

Matrix = list[list[float]]


def decode_basis(stream: bytes, n: int) -> Matrix:
    """The n rows of an orthogonal matrix, as binary32 numbers."""
    classes, at = _block(stream, 0)
    entries, at = _block(stream, at)
    if at != len(stream):
        raise DecodeError("basis has bytes too many")
    of_row = decode_bytes(classes, n - 1)
    if max(of_row) >= CLASSES:
        raise DecodeError("class of a row of the basis is above 31")
    coder = BinaryDecoder(entries)
    models = [ExpGolomb() for _ in range(CLASSES)]
    rows = [_integers(coder, models[of_row[k]], n - k) for k in range(n - 1)]
    coder.finish()
    basis = [[float(r == c) for c in range(n)] for r in range(n)]
    for k in reversed(range(n - 1)):
        _reflect(basis, k, _reflection(rows[k]))
    return [[_single(x) for x in row] for row in basis]


def inverse(basis: Matrix, coefficients: Sequence[float]) -> list[float]:
    """One row of coefficients times the basis; every product and sum is rounded to binary32."""
    out = []
    for c in range(len(basis)):
        total = 0.0
        for k, x in enumerate(coefficients):
            total = _single(total + _single(x * basis[k][c]))
        out.append(total)
    return out


def inverse_integers(basis: Matrix, coefficients: Sequence[int], unit: float) -> list[float]:
    """One row of integers times the basis in units of 2^-14, modulo 2^32; then times the unit, in binary32."""
    entries = [[round(x * 16384) for x in row] for row in basis]
    out = []
    for c in range(len(basis)):
        total = sum(x * entries[k][c] for k, x in enumerate(coefficients)) % 2**32
        out.append(_single(_single(total - 2**32 * (total >= 2**31)) * unit))
    return out


def _block(stream: bytes, at: int) -> tuple[bytes, int]:
    size = shift = 0
    while True:
        byte = stream[at]
        at += 1
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return stream[at : at + size], at + size


def _integers(coder: BinaryDecoder, model: ExpGolomb, count: int) -> list[int]:
    row = []
    for i in range(count):
        magnitude = model.code(coder, 0)
        if magnitude > MAX_ENTRY:
            raise DecodeError("an entry of the basis is above 2^20")
        negative = i > 0 and magnitude > 0 and coder.direct(0, 1)
        row.append(-magnitude if negative else magnitude)
    if not any(row):
        raise DecodeError("a row of the basis is zero")
    return row


def _reflection(row: Sequence[int]) -> list[float]:
    """u + e0, where u is the row divided by its length."""
    norm = math.sqrt(sum(q * q for q in row))
    v = [q / norm for q in row]
    v[0] += 1
    return v


def _reflect(basis: Matrix, k: int, v: Sequence[float]) -> None:
    """Rows from k on, in their entries from k on: x becomes (x . v) / v[0] * v - x."""
    for row in basis[k:]:
        dot = 0.0
        for c, factor in enumerate(v):
            dot += factor * row[k + c]
        dot /= v[0]
        for c, factor in enumerate(v):
            row[k + c] = dot * factor - row[k + c]


def _single(x: float) -> float:
    rounded: float = struct.unpack("<f", struct.pack("<f", x))[0]
    return rounded
