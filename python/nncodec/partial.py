"""Parts of a record, decoding only the chunks that they touch: tensors that share a record, and slices."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nncodec.container.descriptor import Descriptor
from nncodec.decoding import Batch, Output, Run
from nncodec.dtypes import item_size
from nncodec.limits import check_limit
from nncodec.tensors import Destination

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nncodec._core import ChunkDecoder

__all__ = ["KeptChunks", "Part", "PartialRecord"]

KEPT_BYTES = 16 << 20


class KeptChunks:
    """The decoded chunks that were asked for last, :data:`KEPT_BYTES` of them at most, by record and chunk.

    Small tensors are asked for one by one, and so are rows: their neighbours are in the same chunk. Safe to use from
    many threads at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self._closed = False

    def get(self, record: int, chunk: int) -> NDArray[np.uint8] | None:
        """A chunk's bytes, for reading only; None if they are not here."""
        with self._lock:
            found = self._chunks.get((record, chunk))
            if found is not None:
                self._chunks.move_to_end((record, chunk))
            return found

    def put(self, record: int, chunk: int, memory: NDArray[np.uint8]) -> None:
        """Keep a chunk, and drop those that were not asked for the longest; one that is too long is not kept."""
        with self._lock:
            if self._closed or len(memory) > KEPT_BYTES or (record, chunk) in self._chunks:
                return
            self._chunks[record, chunk] = memory
            self._bytes += len(memory)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._chunks.popitem(last=False)[1])

    def close(self) -> None:
        """Drop all, and keep none from now on."""
        with self._lock:
            self._closed = True
            self._chunks.clear()
            self._bytes = 0


class Part(NamedTuple):
    """A stretch of a record's decoded bytes: where it starts among them, and the memory, as long, that it goes to."""

    start: int
    target: NDArray[np.uint8]

    @property
    def stop(self) -> int:
        return self.start + len(self.target)


@dataclass(frozen=True)
class PartialRecord:
    """A record of which parts are decoded. ``run`` gives chunks by their numbers."""

    number: int
    descriptor: Descriptor
    decoder: ChunkDecoder
    run: Callable[[range], Run]

    def add_to(
        self, batch: Batch, parts: Iterable[Part], kept: KeptChunks, max_bytes: int | None, tensor: str
    ) -> None:
        """Decode parts with a batch; LimitError, about ``tensor``, if the chunks take more than ``max_bytes``.

        A chunk that is all of one part goes straight to its memory. Others are decoded for themselves, and kept.
        """
        whole, shared = self._plan(parts)
        held = sum(len(self._within(part, numbers)) for part, numbers in whole)
        held += sum(self._size(chunk) for chunk in shared)
        check_limit(held, max_bytes, tensor=tensor)
        for part, numbers in whole:
            output = _Window(self.descriptor, self._within(part, numbers), numbers.start)
            batch.add_run(self.decoder, output, self.run(numbers))
        for chunk in sorted(shared):
            self._add_shared(batch, chunk, shared[chunk], kept)

    def _plan(self, parts: Iterable[Part]) -> tuple[list[tuple[Part, range]], dict[int, list[Part]]]:
        """Parts with the chunks that are all theirs; parts by the chunks of which they take some."""
        whole = []
        shared: dict[int, list[Part]] = {}
        size = self.descriptor.chunk_bytes
        for part in parts:
            if not len(part.target):
                continue
            at_end = part.stop == self.descriptor.raw_bytes  # the last chunk may be short
            last = self.descriptor.chunks if at_end else part.stop // size
            numbers = range(-(-part.start // size), last)
            if numbers:
                whole.append((part, numbers))
            for chunk in {part.start // size, (part.stop - 1) // size}:
                if chunk not in numbers:
                    shared.setdefault(chunk, []).append(part)
        return whole, shared

    def _within(self, part: Part, numbers: range) -> NDArray[np.uint8]:
        """The memory of chunks that are all a part's."""
        size = self.descriptor.chunk_bytes
        return part.target[numbers.start * size - part.start : numbers.stop * size - part.start]

    def _size(self, chunk: int) -> int:
        """Decoded bytes of a chunk."""
        size = self.descriptor.chunk_bytes
        return min(size, self.descriptor.raw_bytes - chunk * size)

    def _add_shared(self, batch: Batch, chunk: int, parts: Sequence[Part], kept: KeptChunks) -> None:
        begin = chunk * self.descriptor.chunk_bytes

        def take(memory: NDArray[np.uint8]) -> None:
            for part in parts:
                start, stop = max(part.start, begin), min(part.stop, begin + len(memory))
                part.target[start - part.start : stop - part.start] = memory[start - begin : stop - begin]

        def done(memory: NDArray[np.uint8]) -> None:
            take(memory)
            kept.put(self.number, chunk, memory)

        found = kept.get(self.number, chunk)
        if found is not None:
            take(found)
            return
        dtype = self.descriptor.dtype
        memory = Destination(dtype, (self._size(chunk) // item_size(dtype),), "np").bytes
        output = _Window(self.descriptor, memory, chunk, done)
        batch.add_run(self.decoder, output, self.run(range(chunk, chunk + 1)))


class _Window(Output):
    """Where a run of chunks of a record goes; ``done`` is called with the memory after them."""

    def __init__(
        self,
        descriptor: Descriptor,
        memory: NDArray[np.uint8],
        first: int,
        done: Callable[[NDArray[np.uint8]], None] | None = None,
    ) -> None:
        super().__init__(descriptor, {}, memory)
        self._memory = memory
        self._first = first
        self._done = done

    @property
    def buffered(self) -> bool:
        return self._done is not None

    def chunks(self, begin: int, end: int) -> NDArray[np.uint8]:
        return super().chunks(begin - self._first, end - self._first)

    def finish(self) -> None:
        if self._done is not None:
            self._done(self._memory)
