"""Ribbon retrieval in plain Python. Bytes: docs/format.md, section "Ribbon table".

Windows of slots are integers; the equations are solved one after the other, each with the lowest slot that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nncodec.reference.retrieval_hash import hash_of, mask_of, scaled, state_of, word_of

__all__ = ["Ribbon", "build", "hits", "query"]

_BLOCK = 64


@dataclass(frozen=True)
class Ribbon:
    """The shape of a table: number of slots (a multiple of 8), bits of a code, 64-bit words of a window."""

    slots: int
    bits: int
    words: int
    seed: int

    def equation(self, key: int) -> tuple[int, int]:
        """The slots that a key's code is the sum of, as bits of an integer, and the key's mask."""
        value = hash_of(state_of(self.seed), key)
        blocks = -(-self.slots // _BLOCK)
        last = max(blocks - self.words, 0)
        slot = scaled(value, self.slots)
        block = min(max(slot - _BLOCK // 2 * (self.words - 1), 0) // _BLOCK, last)
        window = sum(word_of(value, k) << _BLOCK * k for k in range(self.words))
        inside = (1 << self.slots) - 1
        return window << _BLOCK * block & inside, mask_of(value, self.bits)


def build(table: Ribbon, codes: dict[int, int]) -> bytes | None:
    """The table on which every key has its code, unless the equations contradict each other.

    Any solution will do for a decoder; this one has the zeros where the kernel has them only if there is one solution
    with the same free slots, so tests compare what tables say and not their bytes.
    """
    rows: dict[int, tuple[int, int]] = {}
    for key, code in codes.items():
        row, mask = table.equation(key)
        right = code ^ mask
        while row:
            slot = (row & -row).bit_length() - 1
            if slot not in rows:
                rows[slot] = row, right
                break
            row, right = row ^ rows[slot][0], right ^ rows[slot][1]
        else:
            if right:
                return None
    slots = [0] * table.slots
    for slot in sorted(rows, reverse=True):
        row, right = rows[slot]
        row ^= 1 << slot
        while row:
            right ^= slots[(row & -row).bit_length() - 1]
            row &= row - 1
        slots[slot] = right
    return _pack(table, slots)


def query(table: Ribbon, data: bytes, key: int) -> int:
    """The code of a key."""
    row, code = table.equation(key)
    slots = _unpack(table, data)
    while row:
        code ^= slots[(row & -row).bit_length() - 1]
        row &= row - 1
    return code


def hits(table: Ribbon, data: bytes, first: int, end: int, limit: int) -> list[tuple[int, int]]:
    """Positions in [first, end) whose code is below ``limit``, with their codes."""
    codes = ((key, query(table, data, key)) for key in range(first, end))
    return [(key, code) for key, code in codes if code < limit]


def _pack(table: Ribbon, slots: Sequence[int]) -> bytes:
    """Block after block, and in it bit after bit of the codes, the lowest first."""
    out = bytearray()
    for start in range(0, table.slots, _BLOCK):
        block = slots[start : start + _BLOCK]
        for bit in range(table.bits):
            word = sum((code >> bit & 1) << place for place, code in enumerate(block))
            out += word.to_bytes(len(block) // 8, "little")
    return bytes(out)


def _unpack(table: Ribbon, data: bytes) -> list[int]:
    slots, at = [0] * table.slots, 0
    for start in range(0, table.slots, _BLOCK):
        size = min(_BLOCK, table.slots - start)
        for bit in range(table.bits):
            word = int.from_bytes(data[at : at + size // 8], "little")
            at += size // 8
            for place in range(size):
                slots[start + place] |= (word >> place & 1) << bit
    return slots
