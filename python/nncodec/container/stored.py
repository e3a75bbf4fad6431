"""Records of a file in memory, found through its index."""

from __future__ import annotations

from collections.abc import Iterator

from nncodec.container.descriptor import Descriptor
from nncodec.container.sections import IndexEntry
from nncodec.container.walk import Chunk, Memory, read_chunk, read_record
from nncodec.errors import DecodeError

__all__ = ["stored_chunks", "stored_descriptor"]


def stored_descriptor(data: memoryview, entry: IndexEntry) -> tuple[Descriptor, int]:
    """A record's descriptor where the index says that it is."""
    source = Memory(data, entry.offset)
    label = entry.tensors[0].name
    if bytes(source.take(1, "a record")) != b"T":
        raise DecodeError("there is no record where the index says", offset=entry.offset, tensor=label)
    record = read_record(source)
    if record.descriptor_length != entry.descriptor_length or not entry.agrees(record.descriptor):
        raise DecodeError("the index does not agree with the record", offset=entry.offset, tensor=label)
    return record.descriptor, record.crc


def stored_chunks(
    data: memoryview, entry: IndexEntry, descriptor: Descriptor, crc: int, numbers: range
) -> Iterator[Chunk]:
    """Chunks of a record by number, each found through the lengths in the index and compared with its own."""
    source = Memory(data)
    for number in numbers:
        source.position = entry.chunk_offset(number)
        chunk = read_chunk(source, descriptor, crc, number)
        if len(chunk.payload) != entry.payload_lengths[number]:
            raise DecodeError(
                f"chunk {number} has {len(chunk.payload)} bytes, the index says {entry.payload_lengths[number]}",
                offset=chunk.offset,
                tensor=descriptor.label,
            )
        yield chunk
