"""Reading a file as it arrives, and what can be saved of one that breaks off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from nncodec.container.catalogue import Catalogue, add_walked
from nncodec.container.sections import Footer
from nncodec.container.walk import Record, Source, Stream, walk
from nncodec.decoding import Batch, Output, decoder_for
from nncodec.errors import NNCodecError
from nncodec.limits import check_limit, check_threads
from nncodec.placement import aliased
from nncodec.tensors import Arena, Destination, framework_for

__all__ = ["Recovered", "iter_stream", "load_stream", "recover_stream"]


@dataclass
class Recovered:
    """What could be read of a damaged or truncated file.

    Attributes
    ----------
    tensors : dict
        Every whole tensor up to the damage, by name, in the order of the checkpoint.
    metadata : dict
        The file's metadata.
    error : NNCodecError | None
        What ended the reading; None if the file is whole.
    """

    tensors: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    error: NNCodecError | None = None


class _Reader:
    """Decodes record after record; keeps what aliases and the structure need."""

    def __init__(
        self, source: Source, framework: str | None, threads: int | None, max_bytes: int | None
    ) -> None:
        framework_for(0, framework)
        self._source = source
        self._framework = framework
        self._threads = check_threads(threads)
        self._max_bytes = max_bytes
        self._total = 0
        self._memory: dict[str, Destination] = {}
        self._arena = Arena()
        self.catalogue = Catalogue()
        self.tensors: dict[str, Any] = {}

    def run(self) -> Iterator[str]:
        """Decode; yields each name as soon as its tensor is whole."""
        for item in walk(self._source):
            if isinstance(item, Record):
                yield from self._record(item)
            elif isinstance(item, Footer):
                self.catalogue.finish(item, self._source.position)
            else:
                self.catalogue.add_section(item)
                if item.kind == "A":
                    yield from self._aliases()

    def ordered(self) -> dict[str, Any]:
        """The tensors so far, in the order of the checkpoint."""
        return {name: self.tensors[name] for name in self.catalogue.names() if name in self.tensors}

    def _record(self, record: Record) -> Iterator[str]:
        descriptor = record.descriptor
        self._total += descriptor.raw_bytes
        check_limit(self._total, self._max_bytes, tensor=descriptor.label, offset=record.offset)
        decoder = decoder_for(descriptor, record.offset)
        memory = [
            Destination(
                descriptor.dtype, entry.shape, framework_for(entry.origin, self._framework), self._arena
            )
            for entry in descriptor.tensors
        ]
        batch = Batch(self._threads, fresh=True)
        output = Output(descriptor, {n: destination.bytes for n, destination in enumerate(memory)})
        lengths: list[int] = []
        batch.add(decoder, output, _noting(record.chunks, lengths))
        batch.finish()
        add_walked(self.catalogue, record, lengths)
        for entry, destination in zip(descriptor.tensors, memory, strict=True):
            self._memory[entry.name] = destination
            self.tensors[entry.name] = destination.tensor()
            yield entry.name

    def _aliases(self) -> Iterator[str]:
        for name, alias in self.catalogue.aliases.items():
            target = self.tensors[alias.target]
            self.tensors[name] = aliased(alias, self._memory[alias.target], target, self._framework)
            yield name


def _noting(chunks: Iterator[Any], lengths: list[int]) -> Iterator[Any]:
    for chunk in chunks:
        lengths.append(len(chunk.payload))
        yield chunk


def iter_stream(
    file: IO[bytes],
    *,
    framework: str | None = None,
    threads: int | None = None,
    max_bytes: int | None = None,
) -> Iterator[tuple[str, Any]]:
    """Decode from a file object that may still be arriving (a pipe, a socket, a download): yields (name,
    tensor).

    Tensors come as soon as they are whole, in the order of the file. When the file breaks off or is damaged,
    every whole tensor before that has been given; then DecodeError is raised. Tensors stay in memory until
    the end, since tied tensors, which come last, may be views of any of them.
    """
    reader = _Reader(Stream(file), framework, threads, max_bytes)
    for name in reader.run():
        yield name, reader.tensors[name]


def load_stream(file: IO[bytes], framework: str | None, threads: int | None, max_bytes: int | None) -> Any:
    """The whole checkpoint from a file object."""
    reader = _Reader(Stream(file), framework, threads, max_bytes)
    for _ in reader.run():
        pass
    tensors = reader.ordered()
    if reader.catalogue.structure is None:
        return tensors
    document, offset = reader.catalogue.structure
    from nncodec.structure import rebuild

    return rebuild(document, offset, tensors)


def recover_stream(
    file: IO[bytes], framework: str | None, threads: int | None, max_bytes: int | None
) -> Recovered:
    """Whatever can be read of a file, and the error that ended it."""
    reader = _Reader(Stream(file), framework, threads, max_bytes)
    error: NNCodecError | None = None
    try:
        for _ in reader.run():
            pass
    except NNCodecError as caught:
        error = caught
    return Recovered(reader.ordered(), reader.catalogue.metadata, error)
