"""Adaptive byte coder. Bytes: docs/format.md, "Adaptive byte coder"."""

from __future__ import annotations

from collections import defaultdict

from nncodec.errors import DecodeError
from nncodec.reference.range_coder import BinaryDecoder, BinaryEncoder, BitModel, Coder, Mixer, stretch

__all__ = ["decode_bytes", "encode_bytes"]

LIMIT = 254
CONFIDENCES = 8
MAX_HITS = 6
FIRST_WEIGHTS = (Mixer.ONE * 3 // 8, Mixer.ONE // 4, Mixer.ONE // 4, Mixer.ONE // 4)


class ElementModel:
    """Codes elements of ``stride`` bytes, the most significant byte first; plane 0 is the least significant."""

    def __init__(self, stride: int) -> None:
        self.stride = stride
        # Keys: plane, context byte, prefix of the byte with a leading 1.
        self.alone: defaultdict[tuple[int, int], BitModel] = defaultdict(BitModel)
        self.after_last: defaultdict[tuple[int, int, int], BitModel] = defaultdict(BitModel)
        self.second: defaultdict[tuple[int, int, int], BitModel] = defaultdict(BitModel)
        self.line: defaultdict[tuple[int, int], BitModel] = defaultdict(BitModel)
        self.hits = [0] * stride
        self.mixers = [Mixer(FIRST_WEIGHTS) for _ in range(CONFIDENCES)]
        self.last = 0
        self.before_last = 0

    def code(self, coder: Coder, element: int) -> int:
        guess = 2 * self.last - self.before_last
        value = 0
        for plane in reversed(range(self.stride)):
            second = value & 0xFF if self.stride > 1 else (self.last + self.before_last + 1) // 2
            contexts = (self.last >> 8 * plane & 0xFF, second, guess >> 8 * plane & 0xFF)
            value = value << 8 | self._code_byte(coder, element >> 8 * plane & 0xFF, plane, *contexts)
        self.before_last, self.last = self.last, value
        return value

    def _code_byte(self, coder: Coder, byte: int, plane: int, last: int, second: int, guess: int) -> int:
        node = 1
        as_guessed = True
        for depth in range(8):
            a = self.alone[plane, node]
            b = self.after_last[plane, last, node]
            c = self.second[plane, second, node]
            for fresh in (b, c):
                if fresh.n == 0:
                    fresh.p = a.p
            line = self.line[plane, self.hits[plane]]
            guessed_bit = guess >> (7 - depth) & 1
            from_line = (stretch(line.p) if guessed_bit else -stretch(line.p)) if as_guessed else 0
            mixer = self.mixers[min(b.n, CONFIDENCES - 1)]
            inputs = (stretch(a.p), stretch(b.p), stretch(c.p), from_line)
            p = mixer.p(inputs)
            bit = coder.code(byte >> (7 - depth) & 1, p)
            mixer.update(inputs, p, bit)
            for model in (a, b, c):
                model.update(bit, LIMIT)
            if as_guessed:
                as_guessed = bit == guessed_bit
                line.update(int(as_guessed), LIMIT)
            node = 2 * node + bit
        self.hits[plane] = min(self.hits[plane] + 1, MAX_HITS) if as_guessed else 0
        return node & 0xFF


def encode_bytes(values: bytes, stride: int = 1) -> bytes:
    """The stream of ``values``, little-endian integers of ``stride`` bytes each."""
    if not values:
        return b""
    coder = BinaryEncoder()
    model = ElementModel(stride)
    for i in range(0, len(values), stride):
        model.code(coder, int.from_bytes(values[i : i + stride], "little"))
    return coder.finish()


def decode_bytes(stream: bytes, n: int, stride: int = 1) -> bytes:
    """The ``n`` bytes of a stream; DecodeError when it is too short or too long."""
    if n == 0:
        if stream:
            raise DecodeError("adaptive byte stream of no values: corrupt")
        return b""
    coder = BinaryDecoder(stream)
    model = ElementModel(stride)
    values = b"".join(model.code(coder, 0).to_bytes(stride, "little") for _ in range(n // stride))
    coder.finish()
    return values
