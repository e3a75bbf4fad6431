"""LZW. Bytes: docs/format.md, "LZW"."""

from __future__ import annotations

from nncodec.errors import DecodeError

__all__ = ["decode", "encode"]

FULL = 1 << 16


def encode(data: bytes) -> bytes:
    """The stream of ``data``."""
    if not data:
        return b""
    number = written = 0
    codes: dict[bytes, int] = {}
    known = 256
    text = data[:1]
    for i in range(1, len(data)):
        longer = text + data[i : i + 1]
        if longer in codes:
            text = longer
            continue
        number |= (codes[text] if len(text) > 1 else text[0]) << written
        written += (known - 1).bit_length()
        if known < FULL:
            codes[longer] = known
        text = data[i : i + 1]
        known += 1
        if known > FULL:
            codes.clear()
            known = 256
    number |= (codes[text] if len(text) > 1 else text[0]) << written
    written += (known - 1).bit_length()
    return number.to_bytes((written + 7) // 8, "little")


def decode(stream: bytes, n: int) -> bytes:
    """The ``n`` bytes of a stream."""
    number, read = int.from_bytes(stream, "little"), 0
    out = bytearray()
    strings: list[tuple[int, int]] = []  # place and length in the output
    known = 256
    while len(out) < n:
        width = (known - 1).bit_length()
        code = number >> read & (1 << width) - 1
        read += width
        if code >= known:
            raise DecodeError(f"LZW code {code} does not exist")
        start = len(out)
        if code < 256:
            out.append(code)
        else:
            at, length = strings[code - 256]
            if length > n - start:
                raise DecodeError("LZW: more bytes than there should be")
            for i in range(length):
                out.append(out[at + i])
        known += 1
        strings.append((start, len(out) - start + 1))
        if known > FULL:
            strings.clear()
            known = 256
    if len(stream) != (read + 7) // 8 or number >> read:
        raise DecodeError("LZW: truncated or corrupt")
    return bytes(out)
