"""Interleaved static rANS with alias-method slots. Bytes: docs/format.md, section "rANS".

States are integers in [2**16, 2**32); words have 16 bits. A table is the list of its frequencies, symbol 0 first,
of sum 2**prob_bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log2

from nncodec.errors import DecodeError

__all__ = ["Table", "contexts", "decode", "encode", "make_tables", "normalise"]

LOWEST = 1 << 16


def normalise(counts: Sequence[int], prob_bits: int = 12) -> list[int]:
    """Frequencies of sum 2**prob_bits, at least 1 where there is a count, of least code length.

    Starts from one slot each and gives every further slot to the symbol that gains most: code length is a sum of
    convex functions, so being greedy is being optimal.
    """
    used = [s for s, count in enumerate(counts) if count]
    if not used:
        raise ValueError("rANS cannot make a table of no symbols")
    table = [0] * (used[-1] + 1)
    for s in used:
        table[s] = 1
    for _ in range((1 << prob_bits) - len(used)):
        table[max(used, key=lambda s: counts[s] * log2(1 + 1 / table[s]))] += 1
    return table


@dataclass(frozen=True)
class Table:
    """A table laid out for coding.

    Attributes
    ----------
    frequencies : list of int
        Frequency of each symbol.
    slots : list of (int, int)
        Symbol of each of the 2**prob_bits slots, and the slot's place among the slots of that symbol.
    """

    frequencies: list[int]
    slots: list[tuple[int, int]]

    def slot_of(self) -> dict[tuple[int, int], int]:
        """The slot of each (symbol, place)."""
        return {key: slot for slot, key in enumerate(self.slots)}


def make_tables(tables: Sequence[Sequence[int]], prob_bits: int = 12) -> list[Table]:
    """Lay out a set of tables, all with the same number of buckets."""
    most = max(sum(f > 0 for f in table) for table in tables)
    bucket_bits = max(5, (most - 1).bit_length())
    return [Table(list(table), _deal_slots(table, prob_bits, bucket_bits)) for table in tables]


def _deal_slots(table: Sequence[int], prob_bits: int, bucket_bits: int) -> list[tuple[int, int]]:
    """docs/format.md, "Slots"."""
    symbols = [s for s, f in enumerate(table) if f]
    width = 1 << (prob_bits - bucket_bits)
    left = [table[s] for s in symbols] + [0] * ((1 << bucket_bits) - len(symbols))
    buckets = [[(b, place) for place in range(min(f, width))] for b, f in enumerate(left)]

    def first(wanted: Sequence[bool]) -> int | None:
        return next((b for b, yes in enumerate(wanted) if yes), None)

    bucket = first([n < width for n in left])
    donor = first([n > width for n in left])
    while donor is not None and bucket is not None:
        need = width - left[bucket]
        left[donor] -= need
        buckets[bucket] = [(bucket, place) for place in range(left[bucket])]
        buckets[bucket] += [(donor, left[donor] + i) for i in range(need)]
        left[bucket] = width
        bucket = donor if left[donor] < width else first([n < width for n in left])
        donor = first([n > width for n in left])
    return [(symbols[rank], place) for slots in buckets for rank, place in slots]


def contexts(
    n: int, columns: int, row_context: Sequence[int] | None, column_context: Sequence[int] | None
) -> Iterator[tuple[int, int]]:
    """(column, table) of each of n symbols in rows of ``columns``."""
    for i in range(n):
        row, column = divmod(i, columns)
        yield (
            column,
            (row_context[row] if row_context else 0) + (column_context[column] if column_context else 0),
        )


def encode(
    symbols: Sequence[int],
    tables: Sequence[Sequence[int]],
    lanes: int,
    columns: int | None = None,
    row_context: Sequence[int] | None = None,
    column_context: Sequence[int] | None = None,
    prob_bits: int = 12,
) -> bytes:
    """The stream of the symbols: the inverse of :func:`decode`, step by step from the last symbol to the first."""
    laid_out = make_tables(tables, prob_bits)
    slot_of = [table.slot_of() for table in laid_out]
    states = [LOWEST] * lanes
    words: list[int] = []
    places = list(contexts(len(symbols), columns or max(1, len(symbols)), row_context, column_context))
    for symbol, (column, context) in zip(reversed(symbols), reversed(places), strict=True):
        frequency = laid_out[context].frequencies[symbol]
        state = states[column % lanes]
        if state >= frequency << (32 - prob_bits):
            words.append(state & 0xFFFF)
            state >>= 16
        quotient, place = divmod(state, frequency)
        states[column % lanes] = (quotient << prob_bits) + slot_of[context][symbol, place]
    return b"".join(s.to_bytes(4, "little") for s in states) + b"".join(
        w.to_bytes(2, "little") for w in reversed(words)
    )


def decode(
    stream: bytes,
    n: int,
    tables: Sequence[Sequence[int]],
    lanes: int,
    columns: int | None = None,
    row_context: Sequence[int] | None = None,
    column_context: Sequence[int] | None = None,
    prob_bits: int = 12,
) -> bytes:
    """The n symbols of a stream. Raises DecodeError unless the stream is exactly one that :func:`encode` makes."""
    laid_out = make_tables(tables, prob_bits)
    states = [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(lanes)]
    at = 4 * lanes
    if len(stream) < at or min(states) < LOWEST:
        raise DecodeError("bad rANS lane states")
    symbols = bytearray()
    for column, context in contexts(n, columns or max(1, n), row_context, column_context):
        table = laid_out[context]
        state = states[column % lanes]
        symbol, place = table.slots[state % (1 << prob_bits)]
        state = table.frequencies[symbol] * (state >> prob_bits) + place
        if state < LOWEST:
            if at + 2 > len(stream):
                raise DecodeError("rANS stream ends before its symbols")
            state = state << 16 | int.from_bytes(stream[at : at + 2], "little")
            at += 2
        states[column % lanes] = state
        symbols.append(symbol)
    if at != len(stream) or any(state != LOWEST for state in states):
        raise DecodeError("rANS stream does not end with its symbols")
    return bytes(symbols)
