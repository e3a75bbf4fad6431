"""The integers, blocks and strings of the bitstream (docs/format.md#integers)."""

from __future__ import annotations

from nncodec._core import read_varints
from nncodec.errors import DecodeError, LimitError

__all__ = ["MAX_NAMES_BYTES", "MAX_NAME_BYTES", "FieldReader", "FieldWriter", "shared_prefix", "varint_size"]

MAX_NAME_BYTES = 65535
# Prefix coding lets a few bytes name 64 KiB; together, names may take this much.
MAX_NAMES_BYTES = 1 << 26


class FieldWriter:
    """Collects fields one after the other."""

    def __init__(self) -> None:
        self.data = bytearray()

    def u8(self, value: int) -> None:
        self.data.append(value)

    def u32(self, value: int) -> None:
        self.data += value.to_bytes(4, "little")

    def u64(self, value: int) -> None:
        self.data += value.to_bytes(8, "little")

    def varint(self, value: int) -> None:
        data = self.data
        while value >= 0x80:
            data.append((value & 0x7F) | 0x80)
            value >>= 7
        data.append(value)

    def block(self, value: bytes | bytearray | memoryview) -> None:
        self.varint(len(value))
        self.data += value

    def string(self, value: str) -> None:
        self.block(value.encode("utf-8"))

    def name_after(self, name: str, previous: bytes) -> bytes:
        """A name as what differs from the one before it; returns it as the next one's ``previous``."""
        raw = name.encode("utf-8")
        same = shared_prefix(raw, previous)
        self.varint(same)
        self.block(raw[same:])
        return raw


class FieldReader:
    """Reads fields of a section's body; every failure says which byte of the file.

    ``offset`` is the place of ``data`` in the file.
    """

    def __init__(self, data: bytes | memoryview, offset: int) -> None:
        self.data = bytes(data)
        self.offset = offset
        self.at = 0
        self.names = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def fail(self, cause: str) -> DecodeError:
        return DecodeError(cause, offset=self.offset + self.at)

    def raw(self, size: int, what: str) -> bytes:
        if size > self.left:
            raise self.fail(f"{what} needs {size} bytes, {self.left} are left")
        value = self.data[self.at : self.at + size]
        self.at += size
        return value

    def u8(self, what: str) -> int:
        if self.at >= len(self.data):
            raise self.fail(f"{what} needs 1 bytes, 0 are left")
        value = self.data[self.at]
        self.at += 1
        return value

    def u32(self, what: str) -> int:
        return int.from_bytes(self.raw(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.raw(8, what), "little")

    def varint(self, what: str, maximum: int = (1 << 64) - 1) -> int:
        try:
            byte = self.data[self.at]
        except IndexError:
            byte = 0x80  # the slow way says what is wrong
        if byte < 0x80 and byte <= maximum:  # nearly all of them
            self.at += 1
            return byte
        byte = self.u8(what)
        value = byte & 0x7F
        shift = 0
        while byte >= 0x80:
            shift += 7
            if shift > 63:
                raise self.fail(f"{what} is longer than ten bytes")
            byte = self.u8(what)
            value |= (byte & 0x7F) << shift
        if byte == 0 and shift:
            raise self.fail(f"{what} is spelled with more bytes than it needs")
        if value > maximum:
            raise self.fail(f"{what} is {value}, above {maximum}")
        return value

    def varints(self, count: int, what: str, maximum: int = (1 << 64) - 1) -> list[int]:
        """As many of them in a row."""
        found = read_varints(self.data, self.at, count, maximum)
        if found is None:
            return [self.varint(what, maximum) for _ in range(count)]  # fails where it must
        values, self.at = found
        return values

    def block(self, what: str) -> bytes:
        at = self.at
        if at < len(self.data):
            end = at + 1 + self.data[at]
            if self.data[at] < 0x80 and end <= len(self.data):  # nearly all of them
                self.at = end
                return self.data[at + 1 : end]
        return self.raw(self.varint(f"length of {what}", self.left), what)

    def string(self, what: str) -> str:
        return self.text(self.block(what), what)

    def text(self, raw: bytes, what: str) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"{what} is not UTF-8: {error.reason}") from None

    def name_after(self, previous: bytes) -> bytes:
        """The raw name that ``FieldWriter.name_after`` wrote."""
        same = self.varint("shared part of a name", len(previous))
        rest = self.block("name")
        if same + len(rest) > MAX_NAME_BYTES:
            raise self.fail(f"a name takes {same + len(rest)} bytes, above {MAX_NAME_BYTES}")
        self.names += same + len(rest)
        if self.names > MAX_NAMES_BYTES:
            raise LimitError(
                f"the names take more than {MAX_NAMES_BYTES} bytes", offset=self.offset + self.at
            )
        return previous[:same] + rest

    def end(self, what: str) -> None:
        if self.left:
            raise self.fail(f"{what} has {self.left} bytes too many")


def varint_size(value: int) -> int:
    """Bytes of a varint."""
    return max(1, -(-value.bit_length() // 7))


def shared_prefix(a: bytes, b: bytes) -> int:
    """How many leading bytes are the same."""
    most = min(len(a), len(b))
    # Two long integers differ from the byte on where the names do.
    difference = int.from_bytes(a[:most], "big") ^ int.from_bytes(b[:most], "big")
    return most - (difference.bit_length() + 7) // 8
