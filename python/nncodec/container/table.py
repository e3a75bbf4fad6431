"""A record's list of tensors: written out, or packed for records of many (docs/format.md#packed-tensors)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nncodec._core import adaptive_decode_bytes, adaptive_encode_bytes, unpack_tensors
from nncodec.container.fields import (
    MAX_NAME_BYTES,
    MAX_NAMES_BYTES,
    FieldReader,
    FieldWriter,
    shared_prefix,
)
from nncodec.dtypes import item_size
from nncodec.errors import LimitError

__all__ = [
    "MAX_BYTES",
    "ORIGINS",
    "TensorEntry",
    "pack",
    "parse",
    "read",
    "read_shape",
    "unpack",
    "write",
    "write_shape",
]

MAX_BYTES = (1 << 63) - 1
MAX_DIMENSIONS = 64
MAX_PACKED_BYTES = 1 << 20  # before packing
ORIGINS = ("np", "pt")


class TensorEntry(NamedTuple):
    """A tensor of a record: its name, its place among all tensors, where it came from, its shape."""

    name: str
    ordinal: int
    origin: int
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Product of the shape."""
        return math.prod(self.shape)


def write(out: FieldWriter, tensors: Sequence[TensorEntry]) -> None:
    """One after the other."""
    previous = b""
    for tensor in tensors:
        previous = out.name_after(tensor.name, previous)
        out.varint(tensor.ordinal)
        out.u8(tensor.origin)
        write_shape(out, tensor.shape)


def read(fields: FieldReader, count: int, dtype: int) -> list[TensorEntry]:
    """What :func:`write` wrote of ``count`` tensors."""
    tensors = []
    previous = b""
    for _ in range(count):
        previous = fields.name_after(previous)
        name = fields.text(previous, "name")
        ordinal = fields.varint("ordinal")
        origin = _origin(fields)
        tensors.append(TensorEntry(name, ordinal, origin, read_shape(fields, dtype)))
    return tensors


def pack(tensors: Sequence[TensorEntry]) -> bytes | None:
    """Field by field through the adaptive byte coder; None for tensors that do not fit the packed form."""
    shared, suffix, steps = bytearray(), bytearray(), bytearray()
    number: dict[bytes, int] = {}
    shapes = FieldWriter()
    previous, last = b"", -1
    for tensor in tensors:
        raw = tensor.name.encode("utf-8")
        same = shared_prefix(raw, previous)
        rest = raw[same:]
        step = tensor.ordinal - last - 1
        if max(same, len(rest), step) > 255 or step < 0:
            return None
        if number.setdefault(rest, len(number)) > 255:
            return None
        shared.append(same)
        suffix.append(number[rest])
        steps.append(step)
        previous, last = raw, tensor.ordinal
        for size in tensor.shape:
            shapes.varint(size)
    raw = bytes(shared) + bytes(suffix) + bytes(steps)
    raw += bytes(t.origin for t in tensors) + bytes(len(t.shape) for t in tensors) + shapes.data
    raw += bytes([len(number) - 1]) + bytes(map(len, number)) + b"".join(number)
    if len(raw) > MAX_PACKED_BYTES:
        return None
    out = FieldWriter()
    out.varint(len(raw))
    out.block(adaptive_encode_bytes(raw))
    return bytes(out.data)


def unpack(fields: FieldReader, count: int, dtype: int) -> list[TensorEntry]:
    """What :func:`pack` packed of ``count`` tensors."""
    size = fields.varint("size of the packed tensors", MAX_PACKED_BYTES)
    start = fields.offset + fields.at
    raw = bytearray(size)
    adaptive_decode_bytes(fields.block("packed tensors"), raw)
    found = unpack_tensors(raw, count, item_size(dtype), len(ORIGINS))
    if found is not None:
        return list(map(TensorEntry._make, found))
    return parse(FieldReader(bytes(raw), start), count, dtype)  # fails where it must


def parse(inner: FieldReader, count: int, dtype: int) -> list[TensorEntry]:
    """What ``_core.unpack_tensors`` does, but it says what is wrong."""
    shared = inner.raw(count, "shared parts of names")
    suffix = inner.raw(count, "suffixes of names")
    steps = inner.raw(count, "ordinals")
    origins = [_origin(inner) for _ in range(count)]
    dimensions = inner.raw(count, "numbers of dimensions")
    shapes = [_sizes(inner, n, dtype) for n in dimensions]
    lengths = inner.raw(inner.u8("number of suffixes") + 1, "lengths of suffixes")
    suffixes = [inner.raw(length, "suffix") for length in lengths]
    inner.end("packed tensors")
    tensors = []
    previous, ordinal, names = b"", -1, 0
    for same, which, step, origin, shape in zip(shared, suffix, steps, origins, shapes, strict=True):
        if same > len(previous) or which >= len(suffixes):
            raise inner.fail("a packed name refers to what is not there")
        previous = previous[:same] + suffixes[which]
        names += len(previous)
        if len(previous) > MAX_NAME_BYTES:
            raise inner.fail(f"a name takes {len(previous)} bytes, above {MAX_NAME_BYTES}")
        if names > MAX_NAMES_BYTES:
            raise LimitError(f"the names take more than {MAX_NAMES_BYTES} bytes", offset=inner.offset)
        ordinal += step + 1
        tensors.append(TensorEntry(inner.text(previous, "name"), ordinal, origin, shape))
    return tensors


def _origin(fields: FieldReader) -> int:
    origin = fields.u8("origin")
    if origin >= len(ORIGINS):
        raise fields.fail(f"origin is {origin}, above {len(ORIGINS) - 1}")
    return origin


def write_shape(out: FieldWriter, shape: tuple[int, ...]) -> None:
    out.varint(len(shape))
    for size in shape:
        out.varint(size)


def read_shape(fields: FieldReader, dtype: int) -> tuple[int, ...]:
    """Sizes whose product, zeros left out, stays below 2^63 bytes: no arithmetic on them can overflow."""
    return _sizes(fields, fields.varint("number of dimensions", MAX_DIMENSIONS), dtype)


def _sizes(fields: FieldReader, dimensions: int, dtype: int) -> tuple[int, ...]:
    if dimensions > MAX_DIMENSIONS:
        raise fields.fail(f"number of dimensions is {dimensions}, above {MAX_DIMENSIONS}")
    shape = tuple(fields.varints(dimensions, "size", MAX_BYTES))
    if math.prod(filter(None, shape)) * item_size(dtype) > MAX_BYTES:
        raise fields.fail("a tensor takes 2^63 bytes or more")
    return shape
