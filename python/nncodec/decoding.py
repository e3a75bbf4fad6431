"""Decodes the chunks of records, many at a time on many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec._core import ChunkBatch, ChunkDecoder
from nncodec.codecs.registry import codec_by_id
from nncodec.container.descriptor import Descriptor
from nncodec.container.walk import Chunk
from nncodec.errors import DecodeError, LimitError, NNCodecError, VersionError
from nncodec.tensors import Destination

__all__ = ["Batch", "Output", "decoder_for"]

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

    def chunk(self, number: int) -> NDArray[np.uint8]:
        """Memory of a chunk's elements."""
        size = self.descriptor.chunk_bytes
        return self._bytes[number * size : (number + 1) * size]

    def finish(self) -> None:
        """Distribute to the tensors, after all chunks."""
        if not self._direct:
            self.copy_to(self.wanted)

    def copy_to(self, wanted: dict[int, NDArray[np.uint8]]) -> None:
        """Give tensors of a record that has several their elements."""
        starts = self.descriptor.tensor_starts
        for number, target in wanted.items():
            target[...] = self._bytes[starts[number] : starts[number + 1]]


class Batch:
    """Collects chunks and decodes them together, on other threads while the next ones are collected.

    Parameters
    ----------
    threads : int
        0: all cores.
    done : callable
        Called after each batch with the number of bytes that were decoded, and the place in the file of the last
        chunk among them.
    """

    def __init__(self, threads: int, done: Callable[[int, int], None] | None = None) -> None:
        self._threads = threads
        self._done = done
        self._next = _Chunks()
        self._now: _Chunks | None = None

    def add(self, decoder: ChunkDecoder, output: Output, chunks: Iterable[Chunk]) -> None:
        """Decode these chunks into the output, now or with a later call."""
        label = output.descriptor.label
        for chunk in chunks:
            out = output.chunk(chunk.number)
            self._next.jobs.append((decoder, chunk.number, chunk.payload, chunk.seed, chunk.crc, out))
            self._next.places.append((chunk, label))
            self._next.bytes += len(out)
            if self._next.bytes >= BATCH_BYTES:
                self._run()
        if output.buffered:
            self._next.outputs.append(output)

    def finish(self) -> None:
        """Decode what is left."""
        self._run()
        self._run()

    def _run(self) -> None:
        """End the chunks that are being decoded, and begin with those that were added since."""
        if self._now is not None:
            now, self._now = self._now, None
            self._end(now)
        if not self._next.jobs and not self._next.outputs:
            return
        self._now, self._next = self._next, _Chunks()
        self._now.start(self._threads)

    def _end(self, chunks: _Chunks) -> None:
        chunk, label = chunks.places[0] if chunks.places else (None, "")
        try:
            failure = chunks.wait()
        except MemoryError:  # decoders of long records are built in there
            cause = "memory for the decoders of records cannot be had"
            raise LimitError(cause, offset=chunk.offset if chunk else None, tensor=label) from None
        if failure is not None:
            chunk, label = chunks.places[failure[0]]
            raise DecodeError(failure[1], offset=chunk.offset, tensor=label)
        # What was added before the chunk that filled these is complete with them.
        for output in chunks.outputs:
            output.finish()
        if self._done is not None and chunks.places:
            self._done(chunks.bytes, chunks.places[-1][0].offset)


@dataclass
class _Chunks:
    """Chunks that are decoded together, and the outputs that are complete then."""

    jobs: list[tuple[ChunkDecoder, int, Any, int, int, Any]] = field(default_factory=list)
    places: list[tuple[Chunk, str]] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    bytes: int = 0
    _running: ChunkBatch | None = None

    def start(self, threads: int) -> None:
        """Begin, on other threads if there are any."""
        if self.jobs:
            self._running = ChunkBatch(self.jobs, threads)
            self.jobs.clear()

    def wait(self) -> tuple[int, str] | None:
        """The number of the first chunk that failed, and why."""
        return None if self._running is None else self._running.wait()
