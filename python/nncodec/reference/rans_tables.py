"""Tables of frequencies as bytes. Bytes: docs/format.md, section "rANS", "Tables".

A table is the list of its frequencies up to the last one that is not 0; they sum to 2**prob_bits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from nncodec.errors import DecodeError
from nncodec.reference.range_coder import BinaryDecoder, BinaryEncoder, BitModel, Coder, ExpGolomb

__all__ = ["read_tables", "write_tables"]

MIN_PROB_BITS, MAX_PROB_BITS = 12, 16


def kept_bits(width: int, fineness: int) -> int:
    """Bits sent below the leading one of a frequency of ``width`` bits."""
    return 0 if width <= 1 else min(width - 1, (max(width + fineness, 6) - 6) // 2)


def _is_exact(frequency: int, fineness: int) -> bool:
    width = frequency.bit_length()
    return width == 0 or frequency % (1 << (width - 1 - kept_bits(width, fineness))) == 0


def _balance(table: Sequence[int], fineness: int) -> int | None:
    """The symbol not sent: the one that cannot be, else the most frequent; None if two cannot be."""
    odd = [s for s, frequency in enumerate(table) if not _is_exact(frequency, fineness)]
    if len(odd) > 1:
        return None
    return odd[0] if odd else max(range(len(table)), key=lambda s: table[s])


@dataclass
class _Shape:
    first: int = 0
    last: int = 0
    balance: int = 0
    frequency: list[int] = field(default_factory=lambda: [0] * 256)


class _TableCoder:
    """Codes tables in either direction: what it is given while it decodes does not matter."""

    def __init__(self, coder: Coder, prob_bits: int, fineness: int) -> None:
        self.coder = coder
        self.prob_bits = prob_bits
        self.fineness = fineness
        self.previous: _Shape | None = None
        self.ends = ExpGolomb()
        self.balance = ExpGolomb()
        self.models: defaultdict[tuple[object, ...], BitModel] = defaultdict(BitModel)

    def bit(self, bit: bool, *model: object) -> bool:
        decided = self.coder.code(int(bit), self.models[model].p)
        self.models[model].update(decided)
        return bool(decided)

    def near(self, golomb: ExpGolomb, value: int, v: int) -> int:
        u = golomb.code(self.coder, 2 * (value - v) if value >= v else 2 * (v - value) - 1)
        return v + u // 2 if u % 2 == 0 else v - (u + 1) // 2

    def table(self, given: _Shape) -> _Shape:
        shape, previous = _Shape(), self.previous
        if previous is None:
            shape.first = self.coder.direct(given.first, 8)
            shape.last = self.coder.direct(given.last, 8)
            expected_balance = (shape.first + shape.last) // 2
        else:
            shape.first = self.near(self.ends, given.first, previous.first)
            shape.last = self.near(self.ends, given.last, previous.last)
            expected_balance = previous.balance
        if not 0 <= shape.first <= shape.last <= 255:
            raise DecodeError("rANS table: bad ends")
        shape.balance = self.near(self.balance, given.balance, expected_balance)
        if not shape.first <= shape.balance <= shape.last:
            raise DecodeError("rANS table: bad balance symbol")

        widths = [0, 0]  # of the last two symbols read
        drift = 0
        for s in range(shape.first, shape.last + 1):
            if s == shape.balance:
                continue
            expected = widths[-1] if previous is None else previous.frequency[s].bit_length()
            trend = widths[-1] - widths[-2] if previous is None else drift
            context = (0 if previous is None else 3) + (trend > 0) - (trend < 0) + 1
            width = self.width(given.frequency[s].bit_length(), expected, context)
            shape.frequency[s] = self.below_leading(given.frequency[s], width)
            widths.append(width)
            drift = width - expected
        shape.frequency[shape.balance] = (1 << self.prob_bits) - sum(shape.frequency)
        if shape.frequency[shape.balance] < 1:
            raise DecodeError("rANS table: bad sum")
        self.previous = shape
        return shape

    def width(self, width: int, expected: int, context: int) -> int:
        if self.bit(width == expected, "same", context):
            return expected
        up = expected == 0 or (expected < self.prob_bits and self.bit(width > expected, "rises", context))
        most = self.prob_bits - expected if up else expected
        distance = 1
        while distance < most and self.bit(
            distance < abs(width - expected), "further", context >= 3, up, min(distance, 4)
        ):
            distance += 1
        return expected + distance if up else expected - distance

    def below_leading(self, frequency: int, width: int) -> int:
        if width == 0:
            return 0
        kept = kept_bits(width, self.fineness)
        dropped = width - 1 - kept
        if kept == 0:
            return 1 << dropped
        top = self.bit(bool(frequency >> (width - 2) & 1), "top", width)
        low = self.coder.direct(frequency >> dropped & ((1 << (kept - 1)) - 1), kept - 1)
        return ((2 + top) << (kept - 1) | low) << dropped


def write_tables(tables: Sequence[Sequence[int]], prob_bits: int = 12) -> bytes:
    """The block's content, without its length: as coarse as the tables allow."""
    fineness = next(f for f in range(32) if all(_balance(table, f) is not None for table in tables))
    coder = BinaryEncoder()
    coder.direct(len(tables) - 1, 8)
    coder.direct(prob_bits - MIN_PROB_BITS, 3)
    coder.direct(fineness, 5)
    table_coder = _TableCoder(coder, prob_bits, fineness)
    for table in tables:
        used = [s for s, frequency in enumerate(table) if frequency]
        balance = _balance(table, fineness) or 0
        table_coder.table(_Shape(used[0], used[-1], balance, list(table) + [0] * (256 - len(table))))
    return coder.finish()


def read_tables(body: bytes) -> tuple[list[list[int]], int]:
    """(tables, prob_bits) of a block's content. Raises DecodeError unless every rule is kept."""
    coder = BinaryDecoder(body)
    count = coder.direct(0, 8) + 1
    prob_bits = coder.direct(0, 3) + MIN_PROB_BITS
    fineness = coder.direct(0, 5)
    if prob_bits > MAX_PROB_BITS:
        raise DecodeError("rANS tables: bad prob_bits")
    table_coder = _TableCoder(coder, prob_bits, fineness)
    tables = []
    for _ in range(count):
        shape = table_coder.table(_Shape())
        if shape.frequency[shape.last] == 0:
            raise DecodeError("rANS table ends in an unused symbol")
        tables.append(shape.frequency[: shape.last + 1])
    coder.finish()
    return tables, prob_bits
