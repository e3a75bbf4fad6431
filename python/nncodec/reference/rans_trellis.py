"""rANS for trellis levels. Bytes: docs/format.md, section "Trellis rANS".

Symbols are levels plus an even number, so that a symbol has its level's parity. Tables come in pairs: 2 * context +
union.
"""

from __future__ import annotations

from collections.abc import Sequence

from nncodec.errors import DecodeError
from nncodec.reference.rans import LOWEST, Table, make_tables
from nncodec.reference.trellis import next_state

__all__ = ["decode", "encode"]


def _pairs(tables: Sequence[Sequence[int]]) -> list[Table]:
    """The tables laid out; the two of a context have as many buckets."""
    return [table for t in range(0, len(tables), 2) for table in make_tables(tables[t : t + 2])]


def _places(n: int, lanes: int, unit: int) -> list[tuple[int, int]]:
    """(element, lane) in the order of decoding. Lanes take turns; with a unit they are pieces of whole units."""
    if unit == 0:
        return [(i, i % lanes) for i in range(n)]
    units = -(-n // unit)
    piece = -(-units // lanes) * unit
    return [(lane * piece + i, lane) for i in range(piece) for lane in range(lanes) if lane * piece + i < n]


def encode(
    symbols: Sequence[int],
    tables: Sequence[Sequence[int]],
    states: int,
    lanes: int,
    contexts: Sequence[int] | None = None,
    unit: int = 0,
) -> bytes:
    """The stream of the symbols: the inverse of :func:`decode`, step by step from the last to the first."""
    laid_out = _pairs(tables)
    slot_of = [table.slot_of() for table in laid_out]
    places = _places(len(symbols), lanes, unit)
    trellis = [0] * lanes
    table_of = {}
    for i, lane in places:
        table_of[i] = 2 * (contexts[i] if contexts else 0) + (trellis[lane] & 1)
        trellis[lane] = next_state(states, trellis[lane], symbols[i] & 1)
    rans = [LOWEST] * lanes
    words: list[int] = []
    for i, lane in reversed(places):
        frequency = laid_out[table_of[i]].frequencies[symbols[i]]
        state = rans[lane]
        if state >= frequency << 20:
            words.append(state & 0xFFFF)
            state >>= 16
        quotient, place = divmod(state, frequency)
        rans[lane] = (quotient << 12) + slot_of[table_of[i]][symbols[i], place]
    return b"".join(x.to_bytes(4, "little") for x in rans) + b"".join(
        word.to_bytes(2, "little") for word in reversed(words)
    )


def decode(
    stream: bytes,
    n: int,
    tables: Sequence[Sequence[int]],
    states: int,
    lanes: int,
    contexts: Sequence[int] | None = None,
    unit: int = 0,
) -> tuple[list[int], list[int]]:
    """The n symbols of a stream and the table of each. Raises DecodeError unless :func:`encode` made the stream."""
    laid_out = _pairs(tables)
    rans = [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(lanes)]
    at = 4 * lanes
    if len(stream) < at or min(rans) < LOWEST:
        raise DecodeError("bad rANS lane states")
    trellis = [0] * lanes
    symbols, table_of = [0] * n, [0] * n
    for i, lane in _places(n, lanes, unit):
        table_of[i] = 2 * (contexts[i] if contexts else 0) + (trellis[lane] & 1)
        table = laid_out[table_of[i]]
        symbols[i], place = table.slots[rans[lane] % 4096]
        rans[lane] = table.frequencies[symbols[i]] * (rans[lane] >> 12) + place
        trellis[lane] = next_state(states, trellis[lane], symbols[i] & 1)
        if rans[lane] < LOWEST:
            if at + 2 > len(stream):
                raise DecodeError("rANS stream ends before its symbols")
            rans[lane] = rans[lane] << 16 | int.from_bytes(stream[at : at + 2], "little")
            at += 2
    if at != len(stream) or any(x != LOWEST for x in rans):
        raise DecodeError("rANS stream does not end with its symbols")
    return symbols, table_of
