"""Decodes the chunks of records, many at a time on many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from nncodec._core import ChunkBatch
from nncodec.codecs.registry import codec_by_id
from nncodec.container.descriptor import Descriptor
from nncodec.container.sections import IndexEntry
from nncodec.container.walk import Chunk
from nncodec.errors import DecodeError, LimitError, NNCodecError, VersionError
from nncodec.tensors import Destination

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nncodec._core import ChunkDecoder, ChunkJob, ChunkRun

__all__ = ["Batch", "Output", "Run", "decoder_for"]

# A batch ends when it holds this much output: enough to keep every core busy, little enough to report
# progress and to let go of the input that was read.
BATCH_BYTES = 16 << 20


def decoder_for(descriptor: Descriptor, offset: int) -> ChunkDecoder:
    """The codec's decoder of a record; DecodeError, VersionError or LimitError, with the place, if there is none."""
    codec = codec_by_id(descriptor.codec)
    try:
        if codec is None:
            raise DecodeError(f"codec {descriptor.codec} is unknown")
        if descriptor.version < 1:
            raise DecodeError(f"payload version {descriptor.version} of codec {codec.name!r} does not exist")
        if descriptor.version > codec.version:
            raise VersionError(
                f"payload version {descriptor.version} of codec {codec.name!r} is too new: "
                f"this nncodec reads up to {codec.version}, a newer one reads it"
            )
        return codec.decoder(
            descriptor.version,
            descriptor.dtype,
            descriptor.shapes,
            descriptor.chunk_elements,
            descriptor.model,
        )
    except NNCodecError as error:
        raise placed(error, offset, descriptor.label) from None
    except MemoryError:
        cause = "memory for the record's decoder cannot be had"
        raise LimitError(cause, offset=offset, tensor=descriptor.label) from None


def placed(error: NNCodecError, offset: int, tensor: str) -> NNCodecError:
    """The same error, saying where."""
    return type(error)(error.cause, offset=offset, tensor=tensor)


class Output:
    """Where a record's elements go: straight into its tensor or ``memory``, or through a buffer if it has several.

    ``wanted`` maps numbers of tensors within the record to their destinations; ``memory`` is for the whole record.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        wanted: dict[int, NDArray[np.uint8]],
        memory: NDArray[np.uint8] | None = None,
    ) -> None:
        self.descriptor = descriptor
        self.wanted = wanted
        self._direct = memory is not None or len(descriptor.tensors) == 1
        self._given = memory if memory is not None else wanted[0] if self._direct else None

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        if self._given is not None:
            return self._given
        return Destination(self.descriptor.dtype, (self.descriptor.elements,), "np").bytes

    @property
    def buffered(self) -> bool:
        """Whether something is left to do after all chunks."""
        return not self._direct

    def chunks(self, begin: int, end: int) -> NDArray[np.uint8]:
        """Memory of the elements of these chunks."""
        size = self.descriptor.chunk_bytes
        return self._bytes[begin * size : end * size]

    def finish(self) -> None:
        """Distribute to the tensors, after all chunks."""
        if self._direct:
            return
        starts = self.descriptor.tensor_starts
        for number, target in self.wanted.items():
            target[...] = self._bytes[starts[number] : starts[number + 1]]


class Run(NamedTuple):
    """Chunks of a record that follow each other in a file in memory.

    ``find`` reads where one of them lies, in Python: DecodeError says what is wrong with one that is not where the
    index says.
    """

    data: memoryview
    entry: IndexEntry
    crc: int
    numbers: range
    find: Callable[[int], Chunk]


class Batch:
    """Collects chunks and decodes them together, on other threads while the next ones are collected.

    Parameters
    ----------
    threads : int
        0: all cores.
    done : callable
        Called after each batch with the number of bytes that were decoded, and the place in the file of the last
        chunk among them.
    fresh : bool
        Whether the outputs are memory that nobody has touched yet.
    """

    def __init__(
        self, threads: int, done: Callable[[int, int], None] | None = None, *, fresh: bool = False
    ) -> None:
        self._threads = threads
        self._done = done
        self._fresh = fresh
        self._next = _Chunks()
        self._now: _Chunks | None = None

    def add(self, decoder: ChunkDecoder, output: Output, chunks: Iterable[Chunk]) -> None:
        """Decode these chunks into the output, now or with a later call."""
        label = output.descriptor.label
        for chunk in chunks:
            out = output.chunks(chunk.number, chunk.number + 1)
            job = (decoder, chunk.number, chunk.payload, chunk.seed, chunk.crc, out)
            self._next.last_offset = chunk.offset
            self._take(job, _Place(1, chunk.number, chunk.offset, label), len(out))
        if output.buffered:
            self._next.outputs.append(output)

    def add_run(self, decoder: ChunkDecoder, output: Output, run: Run) -> None:
        """The same of chunks whose frames the engine reads."""
        descriptor, entry = output.descriptor, run.entry
        begin = run.numbers.start
        while begin < run.numbers.stop:
            most = -(-(BATCH_BYTES - self._next.bytes) // descriptor.chunk_bytes)
            end = min(run.numbers.stop, begin + most)
            out = output.chunks(begin, end)
            place = _Place(end - begin, begin, entry.chunk_offset(begin), descriptor.label, run.find)
            lengths = entry.payload_lengths[begin:end]
            job = (decoder, begin, run.data, place.offset, lengths, run.crc, out, descriptor.chunk_bytes)
            self._next.last_offset = entry.chunk_offset(end - 1)
            self._take(job, place, len(out))
            begin = end
        if output.buffered:
            self._next.outputs.append(output)

    def _take(self, job: ChunkJob | ChunkRun, place: _Place, size: int) -> None:
        self._next.jobs.append(job)
        self._next.places.append(place)
        self._next.bytes += size
        if self._next.bytes >= BATCH_BYTES:
            self._run()

    def finish(self) -> None:
        """Decode what is left."""
        self._run()
        self._run()

    def _run(self) -> None:
        """Begin with the chunks that were added, and end those that were begun before: a thread that has no more of
        these to do goes on with the others.
        """
        before, self._now = self._now, None
        if self._next.jobs or self._next.outputs:
            self._now, self._next = self._next, _Chunks()
            self._now.start(self._threads, self._fresh)
        if before is not None:
            self._end(before)

    def _end(self, chunks: _Chunks) -> None:
        try:
            failure = chunks.wait()
        except MemoryError:  # decoders of long records are built in there
            cause = "memory for the decoders of records cannot be had"
            place = chunks.places[0]
            raise LimitError(cause, offset=place.offset, tensor=place.label) from None
        if failure is not None:
            raise chunks.error(*failure)
        # What was added before the chunk that filled these is complete with them.
        for output in chunks.outputs:
            output.finish()
        if self._done is not None and chunks.places:
            self._done(chunks.bytes, chunks.last_offset)


class _Place(NamedTuple):
    """Where the chunks of a job lie: how many, number and place of the first, name of the tensor."""

    chunks: int
    first: int
    offset: int
    label: str
    find: Callable[[int], Chunk] | None = None  # only where there are several


@dataclass
class _Chunks:
    """Chunks that are decoded together, and the outputs that are complete then."""

    jobs: list[ChunkJob | ChunkRun] = field(default_factory=list)
    places: list[_Place] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    bytes: int = 0
    last_offset: int = 0
    _running: ChunkBatch | None = None

    def start(self, threads: int, fresh: bool) -> None:
        """Begin, on other threads if there are any."""
        if self.jobs:
            self._running = ChunkBatch(self.jobs, threads, fresh)
            self.jobs.clear()

    def wait(self) -> tuple[int, str] | None:
        """The number of the first chunk that failed, and why."""
        return None if self._running is None else self._running.wait()

    def error(self, number: int, cause: str) -> DecodeError:
        """What to say of a chunk that failed. A frame that is odd raises by itself."""
        for place in self.places:
            if number < place.chunks:
                break
            number -= place.chunks
        offset = place.offset if place.find is None else place.find(place.first + number).offset
        return DecodeError(cause, offset=offset, tensor=place.label)
