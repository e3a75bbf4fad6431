"""Bloomier filter in plain Python. Bytes: docs/format.md, section "Bloomier table"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nncodec.reference.bits import bitpack, bitunpack
from nncodec.reference.range_coder import BinaryDecoder, BinaryEncoder, BitModel
from nncodec.reference.retrieval_hash import hash_of, mask_of, scaled, state_of, word_of

__all__ = ["Bloomier", "build", "expand", "hits", "query", "shrink"]

_LIMIT = 255


@dataclass(frozen=True)
class Bloomier:
    """The shape of a table: cells in each third, bits of a cell and of a code."""

    third: int
    bits: int
    seed: int

    def equation(self, key: int) -> tuple[tuple[int, int, int], int]:
        """The three cells that a key's code is the sum of, and the key's mask."""
        value = hash_of(state_of(self.seed), key)
        words = value, word_of(value, 0), word_of(value, 1)
        a, b, c = (k * self.third + scaled(word, self.third) for k, word in enumerate(words))
        return (a, b, c), mask_of(value, self.bits)


def build(table: Bloomier, codes: dict[int, int]) -> bytes | None:
    """The table on which every key has its code; None if some keys share all their cells with others."""
    edges = {key: table.equation(key) for key in codes}
    of_cell: list[set[int]] = [set() for _ in range(3 * table.third)]
    for key, (places, _) in edges.items():
        for place in places:
            of_cell[place].add(key)
    order: list[tuple[int, int]] = []
    lonely = [cell for cell, keys in enumerate(of_cell) if len(keys) == 1]
    while lonely:
        cell = lonely.pop()
        if len(of_cell[cell]) != 1:
            continue
        (key,) = of_cell[cell]
        order.append((key, cell))
        for place in edges[key][0]:
            of_cell[place].discard(key)
            if len(of_cell[place]) == 1:
                lonely.append(place)
    if len(order) != len(codes):
        return None
    cells = [0] * (3 * table.third)
    for key, cell in reversed(order):
        (a, b, c), mask = edges[key]
        cells[cell] = codes[key] ^ mask ^ cells[a] ^ cells[b] ^ cells[c]
    return bitpack(cells, table.bits)


def query(table: Bloomier, data: bytes, key: int) -> int:
    """The code of a key."""
    return _code(table, bitunpack(data, 3 * table.third, table.bits), key)


def hits(table: Bloomier, data: bytes, first: int, end: int, limit: int) -> list[tuple[int, int]]:
    """Positions in [first, end) whose code is below ``limit``, with their codes."""
    cells = bitunpack(data, 3 * table.third, table.bits)
    codes = ((key, _code(table, cells, key)) for key in range(first, end))
    return [(key, code) for key, code in codes if code < limit]


def _code(table: Bloomier, cells: Sequence[int], key: int) -> int:
    (a, b, c), mask = table.equation(key)
    return cells[a] ^ cells[b] ^ cells[c] ^ mask


def shrink(table: Bloomier, data: bytes) -> bytes:
    """The table without the cells that are 0."""
    coder, assigned = BinaryEncoder(), BitModel()
    for cell in bitunpack(data, 3 * table.third, table.bits):
        coder.code(int(cell != 0), assigned.p)
        assigned.update(int(cell != 0), _LIMIT)
        if cell:
            coder.direct(cell, table.bits)
    return coder.finish()


def expand(table: Bloomier, stream: bytes) -> bytes:
    """The table again."""
    coder, assigned = BinaryDecoder(stream), BitModel()
    cells = []
    for _ in range(3 * table.third):
        nonzero = coder.code(0, assigned.p)
        assigned.update(nonzero, _LIMIT)
        cells.append(coder.direct(0, table.bits) if nonzero else 0)
    coder.finish()
    return bitpack(cells, table.bits)
