"""Turns tensors into records, in batches, and writes them in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TypeAlias

import numpy as np

from nncodec._core import Sink
from nncodec.codecs.base import WINDOW_BYTES, Codec, Encoded, Part, Setting
from nncodec.container.descriptor import MAX_TENSORS_PER_RECORD, Descriptor, TensorEntry
from nncodec.container.fields import MAX_NAME_BYTES, MAX_NAMES_BYTES, varint_size
from nncodec.container.sections import (
    FOOTER_BYTES,
    Alias,
    Footer,
    IndexEntry,
    frame,
    header,
    write_aliases,
    write_index,
)
from nncodec.tensors import Leaf

__all__ = ["Encoder", "RecordWriter", "check_names", "part_of"]

# Lossless tensors up to this size share records, so that a bias does not pay for a descriptor and a model.
SMALL_BYTES = 4096
SHARED_RECORD_BYTES = 1 << 16
# Files below this size have no index: one read fetches them whole.
INDEX_FROM_BYTES = 1 << 20
# Bytes that are checked and copied together, and bytes from which on they are handed to a file.
TOGETHER_BYTES = 4 << 20
FLUSH_BYTES = 1 << 20


# Bytes as they are, or a chunk: payload, checksum of its record, number.
Piece: TypeAlias = "bytes | bytearray | memoryview | tuple[bytes | memoryview, int, int]"


def check_names(names: Iterable[str], before: int = 0) -> int:
    """Raise ValueError if tensors cannot have these names; returns their bytes with the ``before`` of earlier ones."""
    total = before
    for name in names:
        total += _name_bytes(name)
        if total > MAX_NAMES_BYTES:
            raise ValueError(
                f"the names of the tensors up to {name[:40]!r} take {total} bytes of UTF-8, above {MAX_NAMES_BYTES}"
            )
    return total


def _name_bytes(name: str) -> int:
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError(f"the name {name!r} cannot be written as UTF-8") from None
    if size > MAX_NAME_BYTES:
        raise ValueError(f"the name {name[:40]!r}... takes {size} bytes of UTF-8, above {MAX_NAME_BYTES}")
    return size


class RecordWriter:
    """Writes the parts of a file in order to anything with ``write``; it never looks back.

    Parameters
    ----------
    file : binary file, optional
        Without one, everything is kept, see :meth:`take`.
    threads : int
        For checksums; 0: all cores.
    capacity : int
        Bytes to make room for; more are taken as they are needed.
    """

    def __init__(self, file: IO[bytes] | None, threads: int = 1, capacity: int = 0) -> None:
        self._file = file
        self._threads = threads
        self._sink = Sink(capacity)
        self._entries: list[IndexEntry] = []
        self._pieces: list[Piece] = []
        self._waiting = 0  # their bytes
        self.position = 0
        self.reserved = 0
        self._write(header())

    def take(self) -> bytes:
        """What was written, if there is no file."""
        self.write_out()
        return self._sink.take()

    def section(self, kind: bytes, body: bytes) -> None:
        """Write a small section."""
        self._write(frame(kind, body))

    def record(
        self, descriptor: Descriptor, encoded: Encoded, done: Callable[[int], None] | None = None
    ) -> None:
        """Write a record, taking its chunks one by one; ``done`` gets the raw size of each."""
        left = descriptor.raw_bytes
        start = self.position
        head = descriptor.write()
        framed = frame(b"T", head)
        self._write(framed)
        crc = int.from_bytes(framed[-4:], "little")
        lengths: list[int] = []
        for payload in encoded.chunks:
            length = len(payload)
            self._add((payload, crc, len(lengths)), varint_size(length) + length + 4)
            lengths.append(length)
            raw = min(left, descriptor.chunk_bytes)
            left -= raw
            del payload  # the next one may be made in the same memory
            if done is not None:
                done(raw)
        if len(lengths) != descriptor.chunks:
            raise RuntimeError(
                f"codec {descriptor.codec} made {len(lengths)} chunks, not {descriptor.chunks}"
            )
        self._entries.append(
            IndexEntry(
                start, len(head), tuple(lengths), descriptor.dtype, descriptor.codec, descriptor.tensors
            )
        )

    def reserve(self, descriptor: Descriptor, payload_length: int = 1 << 16) -> None:
        """Count a record without writing it, its payloads being about so long; ``reserved`` sums them up."""
        head = descriptor.write()
        lengths = (payload_length,) * descriptor.chunks
        entry = IndexEntry(
            self.position, len(head), lengths, descriptor.dtype, descriptor.codec, descriptor.tensors
        )
        self._entries.append(entry)
        self.position = entry.end
        self.reserved += sum(lengths)

    def finish(self, aliases: Sequence[Alias]) -> None:
        """Write aliases, index and footer."""
        if aliases:
            self.section(b"A", write_aliases(aliases))
        index = b""
        if self.position >= INDEX_FROM_BYTES:
            index = frame(b"I", write_index(self._entries))
        offset = self.position if index else 0
        self._write(index)
        count = len(aliases) + sum(len(entry.tensors) for entry in self._entries)
        self._write(Footer(len(index), offset, self.position + FOOTER_BYTES, count).write())
        self.write_out()
        if self._file is not None:
            self._sink.flush(self._file.write)

    def write_out(self) -> None:
        """Begin to copy everything that was given so far, on other threads if there are any."""
        if not self._pieces:
            return
        if self._file is not None and self._sink.size >= FLUSH_BYTES:
            self._sink.flush(self._file.write)
        written = self._sink.write_pieces(self._pieces, self._threads)
        if written != self._waiting:
            raise RuntimeError(f"{written} bytes were written, not {self._waiting}")
        self._pieces.clear()
        self._waiting = 0

    def settle(self) -> None:
        """Copy everything that was given so far: what chunks are views of may change then."""
        self.write_out()
        self._sink.finish()

    def _write(self, data: bytes | bytearray) -> None:
        self._add(data, len(data))

    def _add(self, piece: Piece, size: int) -> None:
        self._pieces.append(piece)
        self.position += size
        self._waiting += size
        if self._waiting >= TOGETHER_BYTES:
            self.write_out()


@dataclass(frozen=True)
class _Item:
    entry: TensorEntry
    leaf: Leaf


@dataclass
class _Group:
    """Small tensors that will share a record."""

    items: list[_Item]
    raw_bytes: int = 0


@dataclass
class _Pending:
    """What one codec will be given with its next call: tensors of each record to be."""

    records: list[list[_Item]]
    settings: list[Setting | None]
    raw_bytes: int = 0


class Encoder:
    """Groups tensors into records, gives them to their codecs in batches, writes what comes back.

    Tensors are read when their batch is encoded, so they must not change before :meth:`flush`.

    Parameters
    ----------
    writer : RecordWriter
    threads : int
        0: all cores.
    done : callable
        Called with the number of raw bytes of each chunk that was written.
    """

    def __init__(self, writer: RecordWriter, threads: int, done: Callable[[int], None] | None = None) -> None:
        self._writer = writer
        self._threads = threads
        self._done = done
        self._pending: dict[Codec, _Pending] = {}
        self._small: dict[tuple[Codec, int], _Group] = {}

    def add(self, leaf: Leaf, ordinal: int, codec: Codec, setting: Setting | None = None) -> None:
        """Take up a tensor."""
        item = _item(leaf, ordinal)
        if codec.lossy or leaf.nbytes > SMALL_BYTES:
            self._enqueue(codec, [item], setting)
            return
        group = self._small.setdefault((codec, leaf.dtype.code), _Group([]))
        group.items.append(item)
        group.raw_bytes += leaf.nbytes
        if group.raw_bytes >= SHARED_RECORD_BYTES or len(group.items) == MAX_TENSORS_PER_RECORD:
            self._enqueue(codec, self._small.pop((codec, leaf.dtype.code)).items, None)

    def add_record(
        self, leaves: Sequence[Leaf], ordinals: Sequence[int], codec: Codec, setting: Setting
    ) -> None:
        """Take up tensors of one element type that share a record of a lossy codec."""
        self._enqueue(codec, [_item(leaf, n) for leaf, n in zip(leaves, ordinals, strict=True)], setting)

    def flush(self) -> None:
        """Write everything that was added."""
        for (codec, _), group in self._small.items():
            self._enqueue(codec, group.items, None)
        self._small.clear()
        self.flush_large()

    def flush_large(self) -> None:
        """Write everything but small tensors that wait for others to share their record."""
        for codec in list(self._pending):
            self._encode(codec)
        self._writer.settle()

    def _enqueue(self, codec: Codec, record: list[_Item], setting: Setting | None) -> None:
        size = sum(item.leaf.nbytes for item in record)
        pending = self._pending.get(codec)
        if pending is not None and pending.raw_bytes + size > WINDOW_BYTES:
            self._encode(codec)
            pending = None
        if pending is None:
            pending = self._pending[codec] = _Pending([], [])
        pending.records.append(record)
        pending.settings.append(setting)
        pending.raw_bytes += size
        if pending.raw_bytes >= WINDOW_BYTES:
            self._encode(codec)

    def _encode(self, codec: Codec) -> None:
        pending = self._pending.pop(codec)
        parts = [part_of([item.leaf for item in record]) for record in pending.records]
        settings = [setting for setting in pending.settings if setting is not None] or None
        results = codec.encode(parts, settings, self._threads)
        for record, part, encoded in zip(pending.records, parts, results, strict=True):
            descriptor = Descriptor(
                codec.id,
                codec.version if encoded.version is None else encoded.version,
                part.dtype,
                tuple(item.entry for item in record),
                encoded.chunk_elements,
                encoded.model,
            )
            self._writer.record(descriptor, encoded, self._done)
        self._writer.write_out()


def _item(leaf: Leaf, ordinal: int) -> _Item:
    return _Item(TensorEntry(leaf.name, ordinal, leaf.origin, leaf.shape), leaf)


def part_of(leaves: Sequence[Leaf]) -> Part:
    """What a record of these tensors gives its codec."""
    data = leaves[0].data() if len(leaves) == 1 else np.concatenate([leaf.data() for leaf in leaves])
    return Part(
        leaves[0].dtype.code,
        tuple(leaf.shape for leaf in leaves),
        data,
        tuple(leaf.name for leaf in leaves),
    )
