"""Decodes the chunks of records, many at a time on many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec._core import ChunkDecoder, decode_chunks
from nncodec.codecs.base import codec_by_id
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
    """Where a record's elements go: straight into its tensor, or through a buffer if it has several.

    ``wanted`` maps numbers of tensors within the record to their destinations.
    """

    def __init__(self, descriptor: Descriptor, wanted: dict[int, NDArray[np.uint8]]) -> None:
        self.descriptor = descriptor
        self._wanted = wanted
        self._direct = len(descriptor.tensors) == 1
        if self._direct:
            self._bytes = wanted[0]
        else:
            self._bytes = Destination(descriptor.dtype, (descriptor.elements,), "np").bytes

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
            self.copy_to(self._wanted)

    def copy_to(self, wanted: dict[int, NDArray[np.uint8]]) -> None:
        """Give tensors of a record that has several their elements."""
        starts = self.descriptor.tensor_starts
        for number, target in wanted.items():
            target[...] = self._bytes[starts[number] : starts[number + 1]]


class Batch:
    """Collects chunks and decodes them together.

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
        self._jobs: list[tuple[ChunkDecoder, int, Any, int, int, Any]] = []
        self._places: list[tuple[Chunk, str]] = []
        self._outputs: list[Output] = []
        self._bytes = 0

    def add(self, decoder: ChunkDecoder, output: Output, chunks: Iterable[Chunk]) -> None:
        """Decode these chunks into the output, now or with a later call."""
        label = output.descriptor.label
        for chunk in chunks:
            out = output.chunk(chunk.number)
            self._jobs.append((decoder, chunk.number, chunk.payload, chunk.seed, chunk.crc, out))
            self._places.append((chunk, label))
            self._bytes += len(out)
            if self._bytes >= BATCH_BYTES:
                self._run()
        if output.buffered:
            self._outputs.append(output)

    def finish(self) -> None:
        """Decode what is left."""
        self._run()
        for output in self._outputs:
            output.finish()
        self._outputs.clear()

    def _run(self) -> None:
        if not self._jobs:
            return
        chunk, label = self._places[0]
        try:
            failure = decode_chunks(self._jobs, self._threads)
        except MemoryError:  # decoders of long records are built in there
            cause = "memory for the decoders of records cannot be had"
            raise LimitError(cause, offset=chunk.offset, tensor=label) from None
        if failure is not None:
            chunk, label = self._places[failure[0]]
            raise DecodeError(failure[1], offset=chunk.offset, tensor=label)
        done, last = self._bytes, self._places[-1][0].offset
        self._jobs.clear()
        self._places.clear()
        self._bytes = 0
        # What was added before the chunk that filled the batch is complete.
        for output in self._outputs:
            output.finish()
        self._outputs.clear()
        if self._done is not None:
            self._done(done, last)
