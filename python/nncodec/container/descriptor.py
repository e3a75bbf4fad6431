"""A tensor record's descriptor (docs/format.md#tensor-record-t)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from nncodec.codecs.base import chunk_count
from nncodec.container import table
from nncodec.container.fields import FieldReader, FieldWriter
from nncodec.container.table import (
    MAX_BYTES,
    MAX_DIMENSIONS,
    ORIGINS,
    TensorEntry,
    read_shape,
    write_shape,
)
from nncodec.dtypes import BY_CODE, item_size
from nncodec.errors import DecodeError

__all__ = [
    "MAX_BYTES",
    "MAX_CHUNK_ELEMENTS",
    "MAX_DIMENSIONS",
    "MAX_TENSORS_PER_RECORD",
    "ORIGINS",
    "Descriptor",
    "TensorEntry",
    "read_shape",
    "write_shape",
]

MAX_CHUNK_ELEMENTS = 1 << 20
MAX_TENSORS_PER_RECORD = 65536
# Bit of the element type that says that the tensors are packed.
PACKED = 0x80


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
    def counts(self) -> list[int]:
        """Elements of each tensor."""
        return [math.prod(tensor.shape) for tensor in self.tensors]

    @cached_property
    def elements(self) -> int:
        return sum(self.counts)

    @cached_property
    def chunks(self) -> int:
        return chunk_count(self.elements, self.chunk_elements)

    @property
    def raw_bytes(self) -> int:
        return self.elements * item_size(self.dtype)

    @cached_property
    def chunk_bytes(self) -> int:
        """Decoded size of every chunk but the last."""
        return self.chunk_elements * item_size(self.dtype)

    @cached_property
    def tensor_starts(self) -> list[int]:
        """Where each tensor's bytes start among the decoded ones, and where the last one's end."""
        size = item_size(self.dtype)
        return list(accumulate([count * size for count in self.counts], initial=0))

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple([tensor.shape for tensor in self.tensors])

    @staticmethod
    def count(shape: tuple[int, ...]) -> int:
        """Elements of a shape."""
        return math.prod(shape)

    @property
    def label(self) -> str:
        """The name by which errors call the record."""
        return self.tensors[0].name

    def write(self) -> bytes:
        """Its bytes; the tensors packed where that is shorter."""
        plain = FieldWriter()
        table.write(plain, self.tensors)
        packed = table.pack(self.tensors) if len(self.tensors) > 1 else None
        shorter = packed is not None and len(packed) < len(plain.data)
        out = FieldWriter()
        out.varint(self.codec)
        out.varint(self.version)
        out.u8(self.dtype | (PACKED if shorter else 0))
        out.varint(len(self.tensors))
        out.data += packed if packed is not None and shorter else plain.data
        out.varint(self.chunk_elements)
        out.block(self.model)
        return bytes(out.data)

    @classmethod
    def read(cls, data: bytes | memoryview, offset: int) -> Descriptor:
        """Parse and check; ``offset`` is the place of ``data`` in the file."""
        fields = FieldReader(data, offset)
        codec = fields.varint("codec")
        version = fields.varint("payload version")
        dtype = fields.u8("element type")
        packed = dtype & PACKED != 0
        dtype = check_dtype(fields, dtype & ~PACKED)
        count = fields.varint("number of tensors", MAX_TENSORS_PER_RECORD)
        if count == 0:
            raise fields.fail("number of tensors is 0")
        tensors = (table.unpack if packed else table.read)(fields, count, dtype)
        total = sum([math.prod(tensor.shape) for tensor in tensors])
        if total * item_size(dtype) > MAX_BYTES:
            raise fields.fail("the record's tensors take 2^63 bytes or more")
        chunk_elements = fields.varint("elements per chunk", MAX_CHUNK_ELEMENTS)
        if chunk_elements == 0:
            raise fields.fail("elements per chunk is 0")
        model = fields.block("model")
        fields.end("descriptor")
        return cls(codec, version, dtype, tuple(tensors), chunk_elements, model)


def read_dtype(fields: FieldReader) -> int:
    """An element type, alone."""
    return check_dtype(fields, fields.u8("element type"))


def check_dtype(fields: FieldReader, code: int) -> int:
    """The code, if there is such an element type."""
    if code not in BY_CODE:
        raise DecodeError(f"element type {code} is not defined", offset=fields.offset + fields.at - 1)
    return code
