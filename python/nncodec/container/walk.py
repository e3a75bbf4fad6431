"""Reads a file's sections one after the other, from memory or as they arrive.

Specified in docs/format.md#reading-a-stream.

"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple, Protocol

from nncodec._core import crc32c, read_block, read_descriptor, skip_blocks
from nncodec.container.descriptor import Descriptor, TensorEntry
from nncodec.container.fields import FieldWriter
from nncodec.container.sections import FOOTER_BYTES, HEADER_BYTES, Footer, check_header
from nncodec.errors import DecodeError

__all__ = [
    "Chunk",
    "Memory",
    "Record",
    "Section",
    "Source",
    "Stream",
    "chunk_seed",
    "read_record",
    "skip_chunks",
    "walk",
]

_SEED = struct.Struct("<IQQ")
_MIN_CHUNK = 5  # length and checksum: what a chunk takes at least
_STEP = 1 << 20


class Source(Protocol):
    """Where bytes come from. ``position`` counts from the start of the file."""

    position: int

    def take(self, size: int, what: str) -> bytes | memoryview:
        """The next ``size`` bytes; DecodeError when the file ends before."""

    def room(self) -> int | None:
        """Bytes left, if that is known."""

    def at_end(self) -> bool:
        """Whether nothing is left."""


class Memory:
    """A file in memory (or mapped); what it gives are views."""

    def __init__(self, data: memoryview, position: int = 0) -> None:
        self.data = data
        self.position = position

    def take(self, size: int, what: str) -> memoryview:
        left = len(self.data) - self.position
        if size > left:
            raise _cut(what, size, left, len(self.data))
        view = self.data[self.position : self.position + size]
        self.position += size
        return view

    def room(self) -> int:
        return len(self.data) - self.position

    def at_end(self) -> bool:
        return self.position == len(self.data)

    def record(self) -> tuple[int, Descriptor, int] | None:
        """Length, descriptor and checksum of the record whose type has been read; None, and nothing read, if any of it
        is odd.
        """
        found = read_descriptor(self.data, self.position)
        if found is None:
            return None
        self.position, length, crc, codec, version, dtype, tensors, chunk_elements, model = found
        entries = tuple(map(TensorEntry._make, tensors))
        return length, Descriptor(codec, version, dtype, entries, chunk_elements, model), crc

    def chunk(self, record_crc: int, number: int) -> Chunk | None:
        """A record's next chunk; None, and nothing read, if anything is odd."""
        offset = self.position
        found = read_block(self.data, offset, record_crc, number)
        if found is None:
            return None
        start, end, seed, crc = found
        self.position = end + 4
        return Chunk(number, offset, self.data[start:end], seed, crc)


class Stream:
    """A file object that can only be read onwards."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.position = 0

    def take(self, size: int, what: str) -> bytes:
        # In steps: memory grows with what has arrived, not with what a length claims.
        parts = []
        left = size
        while left:
            part = self.file.read(min(left, _STEP))
            if not part:
                raise _cut(what, size, size - left, self.position + size - left)
            parts.append(part)
            left -= len(part)
        self.position += size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def room(self) -> None:
        return None

    def at_end(self) -> bool:
        return not self.file.read(1)


def _cut(what: str, size: int, left: int, end: int) -> DecodeError:
    return DecodeError(f"the file ends within {what}: {size} bytes are needed, {left} are left", offset=end)


@dataclass(frozen=True)
class Section:
    """One of the small sections, its checksum verified. ``offset`` is where the section starts."""

    kind: str
    offset: int
    body_offset: int
    body: bytes | memoryview
    end: int


class Chunk(NamedTuple):
    """One chunk as it lies in the file; the checksum over ``payload``, seeded with ``seed``, must give
    ``crc``.
    """

    number: int
    offset: int
    payload: bytes | memoryview
    seed: int
    crc: int


@dataclass(frozen=True)
class Record:
    """A tensor record. ``chunks`` reads them from the source as it is consumed."""

    offset: int
    descriptor_length: int
    descriptor: Descriptor
    crc: int
    chunks: Generator[Chunk, None, None]


def varint(source: Source, what: str) -> int:
    value = shift = 0
    while True:
        byte = source.take(1, what)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise DecodeError(f"{what} is longer than ten bytes", offset=source.position)
    if (byte == 0 and shift) or value >> 64:
        raise DecodeError(f"{what} is not spelled as it must be", offset=source.position)
    return value


def length_before(source: Source, what: str) -> int:
    """A block's length, at most what is left."""
    length = varint(source, f"the length of {what}")
    room = source.room()
    if room is not None and length > room:
        raise DecodeError(f"{what} is said to take {length} bytes, {room} are left", offset=source.position)
    return length


def chunk_seed(record_crc: int, number: int, length: int) -> int:
    """What the checksum of a chunk's payload continues from."""
    return crc32c(_SEED.pack(record_crc, number, length))


def framed(source: Source, kind: bytes, what: str) -> tuple[bytes | memoryview, int, int]:
    """Body, its place, and checksum of a section whose type has been read."""
    start = source.position - 1
    head = FieldWriter()
    head.data += kind
    length = length_before(source, what)
    head.varint(length)
    place = source.position
    body = source.take(length, what)
    crc = crc32c(body, crc32c(head.data))
    if int.from_bytes(source.take(4, f"the checksum of {what}"), "little") != crc:
        raise DecodeError(f"checksum of {what} is wrong: the data is damaged", offset=start)
    return body, place, crc


def read_record(source: Source) -> Record:
    """The record whose type has just been read."""
    start = source.position - 1
    if isinstance(source, Memory) and (found := source.record()) is not None:
        length, descriptor, crc = found
    else:
        body, place, crc = framed(source, b"T", "a tensor's descriptor")
        length, descriptor = len(body), Descriptor.read(body, place)
    room = source.room()
    if room is not None and descriptor.chunks * _MIN_CHUNK > room:
        raise DecodeError(
            f"{descriptor.chunks} chunks cannot lie in the {room} bytes that are left",
            offset=start,
            tensor=descriptor.label,
        )
    return Record(start, length, descriptor, crc, _chunks(source, descriptor, crc))


def read_chunk(source: Source, descriptor: Descriptor, record_crc: int, number: int) -> Chunk:
    if isinstance(source, Memory) and (chunk := source.chunk(record_crc, number)) is not None:
        return chunk
    start = source.position
    try:
        length = length_before(source, f"chunk {number}")
        payload = source.take(length, f"chunk {number}")
        crc = int.from_bytes(source.take(4, f"the checksum of chunk {number}"), "little")
    except DecodeError as error:
        raise DecodeError(error.cause, offset=error.offset, tensor=descriptor.label) from None
    return Chunk(number, start, payload, chunk_seed(record_crc, number, length), crc)


def _chunks(source: Source, descriptor: Descriptor, record_crc: int) -> Generator[Chunk, None, None]:
    for number in range(descriptor.chunks):
        yield read_chunk(source, descriptor, record_crc, number)


def skip_chunks(source: Source, record: Record) -> list[int]:
    """Read over a record's chunks, of which none has been read; the lengths of their payloads."""
    if isinstance(source, Memory):
        found = skip_blocks(source.data, source.position, record.descriptor.chunks)
        if found is not None:
            lengths, source.position = found
            record.chunks.close()
            return lengths
    return [len(chunk.payload) for chunk in record.chunks]  # fails where it must


def walk(source: Source, start: int = 0, stop: int | None = None) -> Iterator[Section | Record | Footer]:
    """Sections in file order, with every rule on their order checked.

    A record's chunks that the caller leaves are read over. With ``start``, the walk begins behind the header,
    at that place; with ``stop``, it ends there without a footer.
    """
    if not start:
        head = source.take(min(HEADER_BYTES, source.room() or HEADER_BYTES), "the header")
        check_header(head)
    seen: set[str] = set()
    index = (0, 0)
    while stop is None or source.position < stop:
        offset = source.position
        kind = bytes(source.take(1, "a section"))
        if kind == b"E":
            footer = Footer.read(kind + bytes(source.take(FOOTER_BYTES - 1, "the footer")), offset)
            if not source.at_end():
                raise DecodeError("there are bytes after the footer", offset=offset + FOOTER_BYTES)
            if index != (footer.index_offset, footer.index_length):
                raise DecodeError("the footer points elsewhere than to the index", offset=offset)
            yield footer
            return
        name = _check_order(kind, seen, offset)
        seen.add(name)
        if name == "T":
            record = read_record(source)
            yield record
            for _ in record.chunks:
                pass
            continue
        body, place, _ = framed(source, kind, f"section {name}")
        if name == "I":
            index = (offset, source.position - offset)
        if name in "MSAI":
            yield Section(name, offset, place, body, source.position)


def _check_order(kind: bytes, seen: set[str], offset: int) -> str:
    if not kind.isalpha():
        raise DecodeError(f"a section of type {kind[0]:#04x} does not exist", offset=offset)
    name = kind.decode()
    if name.isupper() and name not in "MSTAI":
        raise DecodeError(
            f"section {name!r} is unknown, and must be understood to read the file", offset=offset
        )
    if "I" in seen:
        raise DecodeError(f"section {name!r} follows the index", offset=offset)
    if name in "MSAI" and name in seen:
        raise DecodeError(f"section {name!r} is there twice", offset=offset)
    if name in "MS" and seen & {"T", "A"}:
        raise DecodeError(f"section {name!r} follows a tensor", offset=offset)
    if name == "T" and "A" in seen:
        raise DecodeError("a tensor follows the aliases", offset=offset)
    return name
