"""Context mixing of integers. Bytes: docs/format.md, "Context mixing"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from nncodec.reference.lattice import quarters
from nncodec.reference.range_coder import BinaryDecoder, BinaryEncoder, Coder, squash, stretch

__all__ = ["Integers", "decode_integers", "encode_integers"]

LIMIT, CONTEXT_LIMIT = 1023, 255
INPUTS = 6
SIGN_NODES = 32 + 128
TREE_EXPONENT, MAX_EXPONENT, TOP_BITS = 6, 29, 3
MAX_STRETCH = 12 * 256 - 1


class Counter:
    """A probability of 22 bits that moves by 1 / (n + 1.5) of the error, n counted up to a limit."""

    def __init__(self) -> None:
        self.state = 1 << 21
        self.n = 0

    @property
    def p(self) -> int:
        return min(max(self.state >> 6, 1), 65535)

    def update(self, bit: int, limit: int) -> None:
        target = (1 << 22) - 1 if bit else 0
        self.state += (target - self.state) * (131072 // (2 * self.n + 3)) >> 16
        if self.n < limit:
            self.n += 1


class Mixer:
    """Weights in units of 2^-16, that learn ever more slowly."""

    def __init__(self) -> None:
        self.weights = [65536 * 3 // 10] * INPUTS
        self.seen = 0

    def p(self, inputs: Sequence[int]) -> int:
        total = sum(w * x for w, x in zip(self.weights, inputs, strict=True)) >> 16
        return squash(max(-MAX_STRETCH, min(MAX_STRETCH, total)))

    def update(self, inputs: Sequence[int], p: int, bit: int) -> None:
        error = (65536 if bit else 0) - p
        shift = 13 + min((self.seen >> 4).bit_length(), 6)
        for i, x in enumerate(inputs):
            moved = self.weights[i] + (x * error + (1 << (shift - 1)) >> shift)
            self.weights[i] = max(-8 * 65536, min(8 * 65536, moved))
        self.seen = min(self.seen + 1, 1 << 20)


def octave(x: int) -> int:
    """Two steps per octave."""
    return x if x < 2 else 2 * (x.bit_length() - 1) + (x >> (x.bit_length() - 2) & 1)


def level(quarter: int) -> int:
    return (abs(quarter) + 1) // 2


def grade(size: int) -> int:
    """0 to 5 for nothing, up to 1/2, 1, 2, 4, more."""
    return size if size < 3 else 3 if size < 5 else 4 if size < 9 else 5


def sign(quarter: int) -> int:
    return 0 if quarter == 0 else 1 if quarter < 0 else 2


class Integers:
    """Codes integers at positions of a tensor, either direction."""

    def __init__(self, coder: Coder, elements: int, width: int = 1, repeat: int = 1, row: int = 0) -> None:
        self.coder, self.width, self.repeat, self.row = coder, width, repeat, row
        self.value = [0] * elements
        self.column = [0] * max(row, 1)
        # Keys: number of the input, kind, context, node.
        self.counters: defaultdict[tuple[int, int, int, int], Counter] = defaultdict(Counter)
        self.mixers: defaultdict[int, Mixer] = defaultdict(Mixer)
        self.top: defaultdict[tuple[int, int], Counter] = defaultdict(Counter)
        self.last = self.before = 0
        self.recent = self.across = self.overall = 0
        self.row_number = 0

    def integer(self, position: int, kind: int, value: int) -> int:
        self._look(position, kind)
        result = 0
        if not self._decide(0, 0, int(value == 0)):
            negative = self._decide(1, 1, int(value < 0))
            first = 2 + SIGN_NODES * negative
            size = abs(value) or 1
            e = 0
            while e < MAX_EXPONENT and self._decide(first + e, 2 + min(e, 9), int(e < size.bit_length() - 1)):
                e += 1
            magnitude = 1
            for left in reversed(range(e)):
                bit = size >> left & 1
                if e <= TREE_EXPONENT:
                    bit = self._decide(first + 32 + (1 << e) - 2 + magnitude - 1, 12, bit)
                elif magnitude < 1 << TOP_BITS:
                    counter = self.top[e, magnitude]
                    bit = self.coder.code(bit, counter.p)
                    counter.update(bit, CONTEXT_LIMIT)
                else:
                    break
                magnitude = 2 * magnitude + bit
            left = e + 1 - magnitude.bit_length()
            while left:
                n = min(left, 16)
                left -= n
                magnitude = magnitude << n | self.coder.direct(size >> left & (1 << n) - 1, n)
            result = -magnitude if negative else magnitude
        self._note(position, quarters(kind, result))
        return result

    def flag(self, position: int, is_set: int) -> int:
        self._look(position, 0)
        result = 1 - self._decide(0, 0, 1 - is_set)
        self._note(position, 4 * result)
        return result

    def _at(self, position: int, distance: int) -> int:
        return self.value[position - distance] if 0 < distance <= position else 0

    def _look(self, position: int, kind: int) -> None:
        above, channel, row = (self._at(position, d) for d in (self.width, self.repeat, self.row))
        if self.row and position // self.row != self.row_number:
            self.row_number = position // self.row
            self.across = (self.across + self.overall) // 2
        self.column_number = position % self.row if self.row else 0
        place = position % self.repeat if self.repeat <= 16 else 0
        column = min(octave(self.column[self.column_number]), 31)
        signs = 27 * sign(self.last) + 9 * sign(above) + 3 * sign(channel) + sign(row)
        contexts = (
            0,
            (6 * grade(level(self.last)) + grade(level(self.before))) * 3 + sign(self.last),
            16 * min(octave(self.recent), 31) + place,
            (6 * grade(level(channel)) + grade(level(row))) * 3 + sign(channel),
            32 * column + min(octave(self.across), 31),
            signs * 4 + min(3, grade(level(above))),
        )
        self.contexts = [(i, kind, context) for i, context in enumerate(contexts)]

    def _decide(self, node: int, of: int, bit: int) -> int:
        counters = [self.counters[i, kind, context, node] for i, kind, context in self.contexts]
        for counter in counters:
            if counter.n == 0:
                counter.state = counters[0].state
        inputs = [stretch(counter.p) for counter in counters]
        mixer = self.mixers[of]
        p = mixer.p(inputs)
        bit = self.coder.code(bit, p)
        mixer.update(inputs, p, bit)
        counters[0].update(bit, LIMIT)
        for counter in counters[1:]:
            counter.update(bit, CONTEXT_LIMIT)
        return bit

    def _note(self, position: int, quarter: int) -> None:
        quarter = max(-32767, min(32767, quarter))
        self.value[position] = quarter
        self.before, self.last = self.last, quarter
        scaled = min(level(quarter), 4095) * 256
        self.recent += (scaled >> 2) - (self.recent >> 2)
        self.across += (scaled >> 4) - (self.across >> 4)
        self.overall += (scaled >> 8) - (self.overall >> 8)
        number = self.column_number
        self.column[number] += (scaled >> 2) - (self.column[number] >> 2)


def encode_integers(
    values: Sequence[int], kinds: Sequence[int] | None = None, width: int = 1, repeat: int = 1, row: int = 0
) -> bytes:
    """The stream of integers at the positions 0, 1, ..."""
    coder = BinaryEncoder()
    model = Integers(coder, len(values), width, repeat, row)
    for i, value in enumerate(values):
        model.integer(i, kinds[i] if kinds else 0, value)
    return coder.finish()


def decode_integers(
    stream: bytes, n: int, kinds: Sequence[int] | None = None, width: int = 1, repeat: int = 1, row: int = 0
) -> list[int]:
    """The ``n`` integers of a stream; DecodeError when it is too short or too long."""
    coder = BinaryDecoder(stream)
    model = Integers(coder, n, width, repeat, row)
    values = [model.integer(i, kinds[i] if kinds else 0, 0) for i in range(n)]
    coder.finish()
    return values
