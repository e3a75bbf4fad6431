"""Decoder of bzip2 streams in plain Python. Bytes: docs/format.md, section "bzip2"."""

from __future__ import annotations

from nncodec.errors import DecodeError

__all__ = ["decode"]

BLOCK, END = 0x314159265359, 0x177245385090


class _Bits:
    """Most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, n: int) -> int:
        if n > self.left:
            raise DecodeError("bzip2 stream: it is too short")
        self.left -= n
        return self.value >> self.left & ((1 << n) - 1)


def decode(stream: bytes) -> bytes:
    """The bytes of one stream."""
    bits = _Bits(stream)
    if bits.read(24) != 0x425A68:
        raise DecodeError("bzip2 stream: it does not begin with BZh")
    limit = (bits.read(8) - ord("0")) * 100_000
    out, combined = bytearray(), 0
    while True:
        magic, checksum = bits.read(48), bits.read(32)
        if magic == END:
            break
        if magic != BLOCK or bits.read(1):
            raise DecodeError("bzip2 stream: a block does not begin as it should")
        origin = bits.read(24)
        block = _runs(_unsorted(_column(bits, limit), origin))
        if _crc(block) != checksum:
            raise DecodeError("bzip2 stream: the checksum of a block is wrong")
        combined = ((combined << 1 | combined >> 31) & 0xFFFFFFFF) ^ checksum
        out += block
    if combined != checksum or bits.left >= 8:
        raise DecodeError("bzip2 stream: its checksum is wrong or bytes are left over")
    return bytes(out)


def _column(bits: _Bits, limit: int) -> list[int]:
    """Last column of the sorted rotations."""
    rows = bits.read(16)
    front = []
    for row in range(16):
        if rows >> (15 - row) & 1:
            present = bits.read(16)
            front += [16 * row + i for i in range(16) if present >> (15 - i) & 1]
    alphabet = len(front) + 2
    tables, groups = bits.read(3), bits.read(15)
    order = list(range(tables))
    selectors = []
    for _ in range(groups):
        place = 0
        while bits.read(1):
            place += 1
        order.insert(0, order.pop(place))
        selectors.append(order[0])
    codes = [_code(bits, alphabet) for _ in range(tables)]
    column: list[int] = []
    run, weight = 0, 1
    for selector in selectors:
        for _ in range(50):
            symbol = _symbol(bits, codes[selector])
            if symbol <= 1:
                run += weight << symbol
                weight <<= 1
                continue
            column += [front[0]] * run
            run, weight = 0, 1
            if len(column) > limit:
                raise DecodeError("bzip2 stream: a block is longer than it says")
            if symbol == alphabet - 1:
                return column
            front.insert(0, front.pop(symbol - 1))
            column.append(front[0])
    raise DecodeError("bzip2 stream: a block has no end")


def _code(bits: _Bits, alphabet: int) -> dict[tuple[int, int], int]:
    """(length, code word) to symbol of a canonical Huffman code."""
    lengths, length = [], bits.read(5)
    for _ in range(alphabet):
        while bits.read(1):
            length += -1 if bits.read(1) else 1
        lengths.append(length)
    code, found = 0, {}
    for size in range(1, 21):
        for symbol in range(alphabet):
            if lengths[symbol] == size:
                found[size, code] = symbol
                code += 1
        code <<= 1
    return found


def _symbol(bits: _Bits, code: dict[tuple[int, int], int]) -> int:
    word = 0
    for length in range(1, 21):
        word = word << 1 | bits.read(1)
        if (length, word) in code:
            return code[length, word]
    raise DecodeError("bzip2 stream: a code word is none of its table")


def _unsorted(column: list[int], origin: int) -> bytes:
    order = sorted(range(len(column)), key=lambda i: column[i])  # stable: equal bytes stay in order
    out = bytearray()
    at = order[origin]
    for _ in column:
        out.append(column[at])
        at = order[at]
    return bytes(out)


def _runs(data: bytes) -> bytes:
    out = bytearray()
    run = 0
    for byte in data:
        if run == 4:
            out += out[-1:] * byte
            run = 0
            continue
        run = run + 1 if run and out[-1] == byte else 1
        out.append(byte)
    return bytes(out)


def _crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc ^ 0xFFFFFFFF
