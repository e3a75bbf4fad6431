"""Header, footer and the small sections: metadata, aliases, index (docs/format.md#file)."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

from nncodec._core import crc32c
from nncodec.container.descriptor import (
    MAX_BYTES,
    MAX_DIMENSIONS,
    MAX_TENSORS_PER_RECORD,
    ORIGINS,
    Descriptor,
    TensorEntry,
    read_dtype,
    read_shape,
    write_shape,
)
from nncodec.container.fields import MAX_NAME_BYTES, FieldReader, FieldWriter, varint_size
from nncodec.dtypes import item_size
from nncodec.errors import DecodeError, VersionError

__all__ = [
    "FOOTER_BYTES",
    "HEADER_BYTES",
    "MAX_VIEW_ELEMENTS",
    "Alias",
    "Footer",
    "IndexEntry",
    "check_header",
    "frame",
    "header",
    "read_aliases",
    "read_index",
    "read_metadata",
    "write_aliases",
    "write_index",
    "write_metadata",
]

MAGIC = b"\x89NNC\r\n\x1a\n"
MAJOR, MINOR = 1, 0
HEADER_BYTES = 16
FOOTER_BYTES = 32
MAX_VIEW_ELEMENTS = MAX_BYTES // 16  # below 2^63 bytes of any element type
_HEADER = struct.Struct("<8sBBH")
_FOOTER = struct.Struct("<c3sIQQI")


def header() -> bytes:
    """The first bytes of every file."""
    start = _HEADER.pack(MAGIC, MAJOR, MINOR, 0)
    return start + crc32c(start).to_bytes(4, "little")


def check_header(data: bytes | memoryview) -> None:
    """Raise DecodeError or VersionError unless this is the start of a file that this version reads."""
    data = bytes(data[:HEADER_BYTES])
    magic = data[: len(MAGIC)]
    if magic != MAGIC[: len(magic)] or not magic:
        if magic.startswith(b"\x89NNC"):
            raise DecodeError(
                "the start of the file was changed, as a conversion of line ends does", offset=0
            )
        raise DecodeError("this is not an nncodec bitstream", offset=0)
    if len(data) < HEADER_BYTES:
        raise DecodeError(f"the file ends after {len(data)} bytes, within its header", offset=len(data))
    if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise DecodeError("checksum of the header is wrong", offset=0)
    _, major, minor, flags = _HEADER.unpack(data[:-4])
    if major > MAJOR:
        raise VersionError(
            f"the file has format version {major}.{minor}, this nncodec reads up to {MAJOR}; a newer one reads it",
            offset=8,
        )
    if major != MAJOR:
        raise DecodeError(f"format version {major}.{minor} does not exist", offset=8)
    if flags:
        raise DecodeError(f"flags are {flags:#06x}, not 0", offset=10)


def frame(kind: bytes, body: bytes | bytearray) -> bytes:
    """A section: type, length, body, checksum."""
    out = FieldWriter()
    out.data += kind
    out.block(body)
    out.u32(crc32c(out.data))
    return bytes(out.data)


@dataclass(frozen=True)
class Footer:
    """The last bytes of every file."""

    index_length: int
    index_offset: int
    file_length: int
    tensors: int

    def write(self) -> bytes:
        fields = (self.index_length, self.index_offset, self.file_length, self.tensors)
        start = _FOOTER.pack(b"E", b"\0\0\0", *fields)
        return start + crc32c(start).to_bytes(4, "little")

    @classmethod
    def read(cls, data: bytes | memoryview, offset: int) -> Footer:
        """Parse and check; the footer must end the file, so ``offset`` tells how long that is."""
        data = bytes(data)
        if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise DecodeError(
                "checksum of the footer is wrong: the end of the file is missing or damaged", offset=offset
            )
        kind, zero, *fields = _FOOTER.unpack(data[:-4])
        footer = cls(*fields)
        if kind != b"E" or zero != b"\0\0\0":
            raise DecodeError("the file does not end with a footer", offset=offset)
        if footer.file_length != offset + FOOTER_BYTES:
            raise DecodeError(
                f"the footer says {footer.file_length} bytes, the file has {offset + FOOTER_BYTES}",
                offset=offset,
            )
        start, length = footer.index_offset, footer.index_length
        if bool(start) != bool(length) or start + length > offset or (start and start < HEADER_BYTES):
            raise DecodeError(f"the footer puts the index at {start} with {length} bytes", offset=offset)
        return footer


def write_metadata(metadata: Mapping[str, str]) -> bytes:
    out = FieldWriter()
    out.varint(len(metadata))
    for key, value in metadata.items():
        out.string(key)
        out.string(value)
    return bytes(out.data)


def read_metadata(body: bytes | memoryview, offset: int) -> dict[str, str]:
    fields = FieldReader(body, offset)
    metadata: dict[str, str] = {}
    for _ in range(fields.varint("number of metadata entries", len(body))):
        key = fields.string("metadata key")
        if key in metadata:
            raise fields.fail(f"metadata key {key!r} is there twice")
        metadata[key] = fields.string("metadata value")
    fields.end("metadata")
    return metadata


@dataclass(frozen=True)
class Alias:
    """A tensor that shares the memory of another one: all of it (``shape`` None), or a strided view.

    ``offset`` and ``strides`` count elements of the target, which is contiguous.
    """

    name: str
    ordinal: int
    origin: int
    target: str
    offset: int = 0
    shape: tuple[int, ...] | None = None
    strides: tuple[int, ...] = ()

    @property
    def reach(self) -> int:
        """Elements that the target must have."""
        if self.shape is None:
            return 0
        if 0 in self.shape:
            return self.offset
        return 1 + self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))


def write_aliases(aliases: Sequence[Alias]) -> bytes:
    out = FieldWriter()
    out.varint(len(aliases))
    for alias in aliases:
        out.string(alias.name)
        out.varint(alias.ordinal)
        out.u8(alias.origin)
        out.string(alias.target)
        out.u8(alias.shape is not None)
        if alias.shape is not None:
            out.varint(alias.offset)
            out.varint(len(alias.shape))
            for size, stride in zip(alias.shape, alias.strides, strict=True):
                out.varint(size)
                out.varint(stride)
    return bytes(out.data)


def read_aliases(body: bytes | memoryview, offset: int) -> list[Alias]:
    """Parse; whether targets exist and are long enough is checked where they are known."""
    fields = FieldReader(body, offset)
    aliases = []
    for _ in range(fields.varint("number of aliases", len(body))):
        name = fields.string("name")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise fields.fail(f"a name takes more than {MAX_NAME_BYTES} bytes")
        ordinal = fields.varint("ordinal")
        origin = fields.u8("origin")
        if origin >= len(ORIGINS):
            raise fields.fail(f"origin is {origin}, above {len(ORIGINS) - 1}")
        target = fields.string("target of an alias")
        kind = fields.u8("kind of alias")
        if kind > 1:
            raise fields.fail(f"kind of alias is {kind}, above 1")
        start = 0
        shape: tuple[int, ...] | None = None
        strides: tuple[int, ...] = ()
        if kind:
            start = fields.varint("offset of a view", MAX_BYTES)
            pairs = [
                (fields.varint("size", MAX_BYTES), fields.varint("stride", MAX_BYTES))
                for _ in range(fields.varint("number of dimensions", MAX_DIMENSIONS))
            ]
            shape, strides = tuple(n for n, _ in pairs), tuple(step for _, step in pairs)
            if 0 in shape and start:
                raise fields.fail("a view without elements has an offset")
            if math.prod(n for n in shape if n) > MAX_VIEW_ELEMENTS:
                raise fields.fail("a view has too many elements")
        aliases.append(Alias(name, ordinal, origin, target, start, shape, strides))
    fields.end("aliases")
    return aliases


@dataclass(frozen=True)
class IndexEntry:
    """Where a record lies, and what it holds."""

    offset: int
    descriptor_length: int
    payload_lengths: tuple[int, ...]
    dtype: int
    codec: int
    tensors: tuple[TensorEntry, ...]
    _ends: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    @cached_property
    def nbytes(self) -> int:
        """Decoded size of all its tensors."""
        return sum([math.prod(tensor.shape) for tensor in self.tensors]) * item_size(self.dtype)

    @property
    def chunks_offset(self) -> int:
        """Place of the first chunk."""
        return self.offset + 1 + varint_size(self.descriptor_length) + self.descriptor_length + 4

    @property
    def end(self) -> int:
        """Place of the byte after the record."""
        return self.chunk_offset(len(self.payload_lengths))

    def chunk_offset(self, number: int) -> int:
        """Place of a chunk."""
        if not self._ends:
            sizes = (varint_size(n) + n + 4 for n in self.payload_lengths)
            self._ends.extend(accumulate(sizes, initial=self.chunks_offset))
        return self._ends[number]

    def agrees(self, descriptor: Descriptor) -> bool:
        """Whether the record's descriptor says the same (the index does not repeat origins)."""
        return (
            self.dtype == descriptor.dtype
            and self.codec == descriptor.codec
            and len(self.payload_lengths) == descriptor.chunks
            and [(t.name, t.ordinal, t.shape) for t in self.tensors]
            == [(t.name, t.ordinal, t.shape) for t in descriptor.tensors]
        )


def write_index(entries: Sequence[IndexEntry]) -> bytes:
    out = FieldWriter()
    out.varint(len(entries))
    end = 0
    previous = b""
    for entry in entries:
        out.varint(entry.offset - end)
        out.varint(entry.descriptor_length)
        out.varint(len(entry.payload_lengths))
        for length in entry.payload_lengths:
            out.varint(length)
        out.u8(entry.dtype)
        out.varint(entry.codec)
        out.varint(len(entry.tensors))
        for tensor in entry.tensors:
            previous = out.name_after(tensor.name, previous)
            out.varint(tensor.ordinal)
            write_shape(out, tensor.shape)
        end = entry.end
    return bytes(out.data)


def read_index(body: bytes | memoryview, offset: int, limit: int) -> list[IndexEntry]:
    """Parse; all records must lie before ``limit``."""
    fields = FieldReader(body, offset)
    entries = []
    end = 0
    previous = b""
    for _ in range(fields.varint("number of records", len(body))):
        start = end + fields.varint("offset of a record", limit)
        length = fields.varint("length of a descriptor", limit)
        chunks = fields.varint("number of chunks", fields.left)
        lengths = tuple(fields.varints(chunks, "length of a chunk", limit))
        dtype = read_dtype(fields)
        codec = fields.varint("codec")
        tensors = []
        for _ in range(fields.varint("number of tensors", MAX_TENSORS_PER_RECORD)):
            previous = fields.name_after(previous)
            name = fields.text(previous, "name")
            tensors.append(TensorEntry(name, fields.varint("ordinal"), 0, read_shape(fields, dtype)))
        if not tensors:
            raise fields.fail("a record has no tensors")
        entry = IndexEntry(start, length, lengths, dtype, codec, tuple(tensors))
        end = entry.end
        if start < HEADER_BYTES or end > limit:
            raise fields.fail(f"a record lies at {start} to {end}, outside {HEADER_BYTES} to {limit}")
        entries.append(entry)
    fields.end("index")
    return entries
