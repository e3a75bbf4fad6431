"""Adaptive binary range coder and its models. Bytes: docs/format.md, "Adaptive binary range coder".

A probability is that of a 1, in units of 2^-16, from 1 to 65535. Encoder and decoder have the same functions, and both
return what was coded; the decoder ignores the value that it is given, so every model below serves both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nncodec.errors import DecodeError

__all__ = [
    "BinaryDecoder",
    "BinaryEncoder",
    "BitModel",
    "BitTree",
    "Coder",
    "ExpGolomb",
    "Mixer",
    "TwoRateModel",
    "squash",
    "stretch",
]

ONE = 1 << 16
MIN_RANGE = 1 << 24
FLUSH_BYTES = 4


class Coder(Protocol):
    """Either direction."""

    def code(self, bit: int, p: int) -> int:
        """Code one bit that is 1 with probability ``p``."""
        ...

    def direct(self, value: int, n_bits: int) -> int:
        """Code up to 16 equiprobable bits."""
        ...


class BinaryEncoder:
    """Narrows the interval [low, low + range) of numbers that a decoder may read, bit by bit."""

    def __init__(self) -> None:
        self.low = 0  # all bytes so far and the 32 bits that may still change: carries need no care here
        self.range = 0xFFFFFFFF
        self.shifted = 0  # bytes by which `low` has moved to the left

    def code(self, bit: int, p: int) -> int:
        bound = self.range * p >> 16
        if bit:
            self.range = bound
        else:
            self.low += bound
            self.range -= bound
        self._normalise()
        return bit

    def direct(self, value: int, n_bits: int) -> int:
        self.range >>= n_bits
        self.low += value * self.range
        self._normalise()
        return value

    def finish(self) -> bytes:
        """The stream: the number of the interval that ends in most zero bytes, without up to four of them."""
        for n in range(FLUSH_BYTES + 1):
            below = (1 << (32 - 8 * n)) - 1
            number = (self.low + below) & ~below
            if number < self.low + self.range:
                return number.to_bytes(self.shifted + 4, "big")[: self.shifted + n]
        raise AssertionError("with all four bytes the number is low itself")

    def _normalise(self) -> None:
        while self.range < MIN_RANGE:
            self.low <<= 8
            self.range <<= 8
            self.shifted += 1


class BinaryDecoder:
    """Reads zeros beyond the end, and counts them."""

    def __init__(self, stream: bytes) -> None:
        self.stream = stream
        self.at = 4
        self.offset = int.from_bytes(stream[:4].ljust(4, b"\0"), "big")  # of the stream's number from low
        self.range = 0xFFFFFFFF

    def code(self, bit: int, p: int) -> int:
        bound = self.range * p >> 16
        decoded = int(self.offset < bound)
        if decoded:
            self.range = bound
        else:
            self.offset -= bound
            self.range -= bound
        self._normalise()
        return decoded

    def direct(self, value: int, n_bits: int) -> int:
        self.range >>= n_bits
        decoded = min(self.offset // self.range, (1 << n_bits) - 1)
        self.offset -= decoded * self.range
        self._normalise()
        return decoded

    def finish(self) -> None:
        """Refuse streams that are too long or more than four bytes too short."""
        if self.at < len(self.stream):
            raise DecodeError("range coder: corrupt")
        if self.at > len(self.stream) + FLUSH_BYTES:
            raise DecodeError("range coder: truncated")

    def _normalise(self) -> None:
        while self.range < MIN_RANGE:
            byte = self.stream[self.at] if self.at < len(self.stream) else 0
            # Only a damaged stream has an offset beyond the range; 32 bits keep what there is of it.
            self.offset = (self.offset << 8 | byte) & 0xFFFFFFFF
            self.range <<= 8
            self.at += 1


class BitModel:
    """A probability that moves by 1 / (n + 1.5) of the error after n bits, n counted up to ``limit``."""

    def __init__(self) -> None:
        self.p = ONE // 2
        self.n = 0

    def update(self, bit: int, limit: int = 127) -> None:
        rate = 2 * ONE // (2 * self.n + 3)
        if bit:
            self.p += (ONE - 1 - self.p) * rate >> 16
        else:
            self.p -= self.p * rate >> 16
        if self.n < limit:
            self.n += 1


class TwoRateModel:
    """The mean of a quick and a slow average."""

    def __init__(self) -> None:
        self.quick = ONE // 2
        self.slow = ONE // 2

    @property
    def p(self) -> int:
        return (self.quick + self.slow) // 2

    def update(self, bit: int) -> None:
        target = ONE - 1 if bit else 1
        self.quick += (target - self.quick) >> 4
        self.slow += (target - self.slow) >> 7


MAX_STRETCH = 12 * 256 - 1


def _logistic_tables() -> tuple[list[int], list[int]]:
    upper = []  # 65536 / (1 + exp(-x / 256)) for x = 0, 1, ...
    exponential = 1 << 40  # exp(-x / 256) in units of 2^-40
    for _ in range(MAX_STRETCH + 1):
        total = (1 << 40) + exponential
        upper.append(min(((1 << 56) + total // 2) // total, ONE - 1))
        exponential = (exponential * 16711808 + (1 << 23)) >> 24
    squashed = [ONE - p for p in reversed(upper[1:])] + upper
    stretched = [0] * 4096
    for slot in range(2048, 4096):
        stretched[slot] = next(x for x, p in enumerate(upper) if p >= 16 * slot + 8)
        stretched[4095 - slot] = -stretched[slot]
    return squashed, stretched


_SQUASH, _STRETCH = _logistic_tables()


def squash(x: int) -> int:
    """65536 / (1 + exp(-x / 256)), from 1 to 65535, for x from -3071 to 3071."""
    return _SQUASH[x + MAX_STRETCH]


def stretch(p: int) -> int:
    """256 ln(p / (65536 - p)), seen through the upper 12 bits of p."""
    return _STRETCH[p >> 4]


class Mixer:
    """Joins predictions: squash(sum of weight x stretch(prediction)), learning the weights."""

    ONE = 1 << 14
    MAX_WEIGHT = 8 * ONE

    def __init__(self, weights: Sequence[int]) -> None:
        self.weights = list(weights)

    def p(self, inputs: Sequence[int]) -> int:
        total = sum(w * x for w, x in zip(self.weights, inputs, strict=True)) >> 14
        return squash(max(-MAX_STRETCH, min(MAX_STRETCH, total)))

    def update(self, inputs: Sequence[int], p: int, bit: int, rate: int = 17) -> None:
        error = (ONE if bit else 0) - p
        for i, x in enumerate(inputs):
            moved = self.weights[i] + ((x * error + (1 << (rate - 1))) >> rate)
            self.weights[i] = max(-self.MAX_WEIGHT, min(self.MAX_WEIGHT, moved))


def _code_bit(coder: Coder, model: BitModel | TwoRateModel, bit: int) -> int:
    bit = coder.code(bit, model.p)
    model.update(bit)
    return bit


class BitTree:
    """Symbols of ``n_bits`` bits, most significant first; a model for each prefix."""

    def __init__(self, n_bits: int, model: type[BitModel] | type[TwoRateModel] = BitModel) -> None:
        self.n_bits = n_bits
        self.models = [model() for _ in range(1 << n_bits)]

    def code(self, coder: Coder, symbol: int) -> int:
        node = 1
        for i in reversed(range(self.n_bits)):
            node = 2 * node + _code_bit(coder, self.models[node], symbol >> i & 1)
        return node - (1 << self.n_bits)


class ExpGolomb:
    """Integers from 0 to 2^32 - 2 of unknown size."""

    def __init__(self) -> None:
        self.more = [BitModel() for _ in range(31)]
        self.top = [[BitModel() for _ in range(4)] for _ in range(32)]

    def code(self, coder: Coder, value: int) -> int:
        plus_one = value + 1
        k = 0
        while k < 31 and _code_bit(coder, self.more[k], int(k < plus_one.bit_length() - 1)):
            k += 1
        result = 1
        left = k
        while left and result < 4:
            left -= 1
            result = 2 * result + _code_bit(coder, self.top[k][result], plus_one >> left & 1)
        while left:
            n = min(left, 16)
            left -= n
            result = result << n | coder.direct(plus_one >> left & ((1 << n) - 1), n)
        return result - 1
