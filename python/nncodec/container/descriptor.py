"""A tensor record's descriptor (docs/format.md#tensor-record-t)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from nncodec.codecs.base import chunk_count
from nncodec.container.fields import FieldReader, FieldWriter
from nncodec.dtypes import BY_CODE, item_size
from nncodec.errors import DecodeError

__all__ = [
    "MAX_CHUNK_ELEMENTS",
    "MAX_TENSORS_PER_RECORD",
    "Descriptor",
    "TensorEntry",
    "read_shape",
    "write_shape",
]

MAX_CHUNK_ELEMENTS = 1 << 20
MAX_TENSORS_PER_RECORD = 65536
MAX_DIMENSIONS = 64
MAX_BYTES = (1 << 63) - 1
ORIGINS = ("np", "pt")


@dataclass(frozen=True)
class TensorEntry:
    """A tensor of a record: its name, its place among all tensors, where it came from, its shape."""

    name: str
    ordinal: int
    origin: int
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Descriptor:
    """What a record says of itself before its chunks."""

    codec: int
    version: int
    dtype: int
    tensors: tuple[TensorEntry, ...]
    chunk_elements: int
    model: bytes

    @cached_property
    def elements(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def chunks(self) -> int:
        return chunk_count(self.elements, self.chunk_elements)

    @property
    def raw_bytes(self) -> int:
        return self.elements * item_size(self.dtype)

    @property
    def chunk_bytes(self) -> int:
        """Decoded size of every chunk but the last."""
        return self.chunk_elements * item_size(self.dtype)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tensor.shape for tensor in self.tensors)

    @staticmethod
    def count(shape: tuple[int, ...]) -> int:
        """Elements of a shape."""
        return math.prod(shape)

    @property
    def label(self) -> str:
        """The name by which errors call the record."""
        return self.tensors[0].name

    def write(self) -> bytes:
        out = FieldWriter()
        out.varint(self.codec)
        out.varint(self.version)
        out.u8(self.dtype)
        out.varint(len(self.tensors))
        previous = b""
        for tensor in self.tensors:
            previous = out.name_after(tensor.name, previous)
            out.varint(tensor.ordinal)
            out.u8(tensor.origin)
            write_shape(out, tensor.shape)
        out.varint(self.chunk_elements)
        out.block(self.model)
        return bytes(out.data)

    @classmethod
    def read(cls, data: bytes | memoryview, offset: int) -> Descriptor:
        """Parse and check; ``offset`` is the place of ``data`` in the file."""
        fields = FieldReader(data, offset)
        codec = fields.varint("codec")
        version = fields.varint("payload version")
        dtype = read_dtype(fields)
        count = fields.varint("number of tensors", MAX_TENSORS_PER_RECORD)
        if count == 0:
            raise fields.fail("number of tensors is 0")
        tensors = []
        previous = b""
        total = 0
        for _ in range(count):
            previous = fields.name_after(previous)
            name = fields.text(previous, "name")
            ordinal = fields.varint("ordinal")
            origin = fields.u8("origin")
            if origin >= len(ORIGINS):
                raise fields.fail(f"origin is {origin}, above {len(ORIGINS) - 1}")
            shape = read_shape(fields, dtype)
            tensors.append(TensorEntry(name, ordinal, origin, shape))
            total += tensors[-1].elements
        if total * item_size(dtype) > MAX_BYTES:
            raise fields.fail("the record's tensors take 2^63 bytes or more")
        chunk_elements = fields.varint("elements per chunk", MAX_CHUNK_ELEMENTS)
        if chunk_elements == 0:
            raise fields.fail("elements per chunk is 0")
        model = fields.block("model")
        fields.end("descriptor")
        return cls(codec, version, dtype, tuple(tensors), chunk_elements, model)


def read_dtype(fields: FieldReader) -> int:
    code = fields.u8("element type")
    if code not in BY_CODE:
        raise DecodeError(f"element type {code} is not defined", offset=fields.offset + fields.at - 1)
    return code


def write_shape(out: FieldWriter, shape: tuple[int, ...]) -> None:
    out.varint(len(shape))
    for size in shape:
        out.varint(size)


def read_shape(fields: FieldReader, dtype: int) -> tuple[int, ...]:
    """Sizes whose product, zeros left out, stays below 2^63 bytes: no arithmetic on them can overflow."""
    dimensions = fields.varint("number of dimensions", MAX_DIMENSIONS)
    shape = tuple(fields.varint("size", MAX_BYTES) for _ in range(dimensions))
    if math.prod(size for size in shape if size) * item_size(dtype) > MAX_BYTES:
        raise fields.fail("a tensor takes 2^63 bytes or more")
    return shape
