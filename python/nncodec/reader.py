"""Random access to a file: :func:`nncodec.open`."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any

from nncodec._core import ChunkDecoder, WeightlessDecoder
from nncodec.codecs.registry import codec_by_id
from nncodec.container.catalogue import Catalogue, open_catalogue, scan_catalogue
from nncodec.container.descriptor import Descriptor
from nncodec.container.sections import IndexEntry
from nncodec.container.stored import stored_chunks, stored_descriptor
from nncodec.container.walk import Chunk
from nncodec.decoding import Batch, Output, Run, decoder_for
from nncodec.dtypes import BY_CODE
from nncodec.errors import DecodeError
from nncodec.limits import check_limit, check_threads
from nncodec.lookup import TensorLookup, checked_payload
from nncodec.partial import KeptChunks, Part, PartialRecord
from nncodec.placement import Placed, aliased
from nncodec.slices import TensorSlice
from nncodec.tensors import Arena, Destination, framework_for, writable_bytes

__all__ = ["File", "TensorInfo", "map_file", "verify_file"]

_DECODERS_KEPT = 64
_RELEASE_BYTES = 16 << 20  # of the file: what is read of it before its pages are let go


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of one tensor.

    Attributes
    ----------
    name, codec, dtype, shape, framework
        Names as in torch; ``framework`` is ``"pt"`` or ``"np"``, what was encoded.
    nbytes : int
        Decoded size.
    stored_bytes : float
        Its part of the file: the whole record, or a share by size if several tensors are in it; 0 for an
        alias.
    bits_per_weight : float
        Of ``stored_bytes``; 0 for an empty tensor.
    chunks, chunk_elements, offset
        Of its record.
    options : mapping
        What the codec tells of its parameters.
    alias_of : str | None
        Name of the tensor whose memory it shares.
    """

    name: str
    codec: str
    dtype: str
    shape: tuple[int, ...]
    framework: str
    nbytes: int
    stored_bytes: float
    bits_per_weight: float
    chunks: int
    chunk_elements: int
    offset: int
    options: Mapping[str, Any]
    alias_of: str | None = None


@dataclass(frozen=True)
class _OpenRecord:
    entry: IndexEntry
    descriptor: Descriptor
    crc: int
    decoder: ChunkDecoder


class File:
    """A file (or a blob) opened for reading; tensors are decoded when they are asked for.

    Works where ``safetensors.safe_open`` does. Safe to use from many threads at once.
    """

    def __init__(
        self,
        data: memoryview,
        catalogue: Catalogue,
        *,
        framework: str | None = None,
        threads: int | None = None,
        max_bytes: int | None = None,
        mapping: mmap.mmap | None = None,
    ) -> None:
        framework_for(0, framework)
        self._data = data
        self._catalogue = catalogue
        self._names = catalogue.names()
        self._framework = framework
        self._threads = check_threads(threads)
        self._max_bytes = max_bytes
        self._mapping = mapping
        self._closed = False
        self._lock = threading.Lock()
        self._records: OrderedDict[int, _OpenRecord] = OrderedDict()
        self._chunks = KeptChunks()

    # Names

    def keys(self) -> list[str]:
        """All names, in the order of the checkpoint."""
        return list(self._names)

    def offset_keys(self) -> list[str]:
        """All names, in the order in which the tensors lie in the file; an alias follows its target's place."""
        places = self._catalogue.places
        return sorted(self._names, key=lambda name: places[self._target(name)])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._catalogue.places or name in self._catalogue.aliases

    def metadata(self) -> dict[str, str]:
        """The strings that were given as ``metadata=``."""
        return dict(self._catalogue.metadata)

    # Tensors

    def __getitem__(self, name: str) -> Any:
        return self.get_tensor(name)

    def get_tensor(self, name: str, out: Any = None) -> Any:
        """Decode one tensor, reading nothing else of the file.

        ``out`` is a contiguous, writable tensor of the same type and shape to decode into; it is returned.
        Raises KeyError for an unknown name.
        """
        self._check(name)
        if out is None:
            return self._decode([name], None)[name]
        alias = self._catalogue.aliases.get(name)
        if alias is not None and alias.shape is not None:
            dtype = self._catalogue.records[self._catalogue.places[alias.target][0]].dtype
            target = writable_bytes(name, out, dtype, alias.shape)
            view = self._decode([name], "np")[name]
            target.view(view.dtype).reshape(alias.shape)[...] = view
            return out
        stored = self._target(name)
        number, inner = self._catalogue.places[stored]
        entry = self._catalogue.entry(stored)
        target = writable_bytes(name, out, self._catalogue.records[number].dtype, entry.shape)
        self._fill({number: Output(self._descriptor(number), {inner: target})}, None, fresh=False)
        return out

    def get_slice(self, name: str) -> TensorSlice:
        """Something to index: only the chunks that the first dimension's range touches are decoded."""
        self._check(name)
        return TensorSlice(self, name)

    def lookup(self, name: str) -> TensorLookup:
        """Something to index, element by element: nothing is decoded but the elements that are asked for.

        For tensors of codec ``weightless``; ValueError for others, and for views of them.
        """
        self._check(name)
        alias = self._catalogue.aliases.get(name)
        number, inner = self._catalogue.places[self._target(name)]
        record = self._record(number)
        if not isinstance(record.decoder, WeightlessDecoder) or (
            alias is not None and alias.shape is not None
        ):
            raise ValueError(
                f"tensor {name!r} cannot be looked up: it is not stored as codec 'weightless' stores it"
            )

        def payload(chunk: int) -> memoryview:
            (found,) = stored_chunks(
                self._open_data(), record.entry, record.descriptor, record.crc, range(chunk, chunk + 1)
            )
            return checked_payload(found, record.descriptor)

        return TensorLookup(record.descriptor, inner, record.decoder, payload, self._check)

    def state_dict(self) -> Mapping[str, Any]:
        """A read-only mapping of names to tensors that decodes on access, each time anew."""
        return _LazyTensors(self)

    def load(
        self, names: Iterable[str] | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Any:
        """Decode everything at once on all threads: the checkpoint as it went in, or a dict of the given
        names.
        """
        if names is not None:
            chosen = [names] if isinstance(names, str) else list(names)
            for name in chosen:
                self._check(name)
            return self._decode(chosen, progress=progress)
        tensors = self._decode(self._names, progress=progress)
        if self._catalogue.structure is None:
            return tensors
        document, offset = self._catalogue.structure
        from nncodec.structure import rebuild  # few checkpoints are nested

        return rebuild(document, offset, tensors)

    # Facts

    @property
    def nbytes(self) -> int:
        """Decoded size of all stored tensors; tied ones count once."""
        return sum(entry.nbytes for entry in self._catalogue.records)

    def decoded_bytes(self, names: Sequence[str] | None = None) -> int:
        """Decoded size of these tensors (None: all); tied ones count once."""
        if names is None:
            return self.nbytes
        for name in names:
            self._check(name)
        total = 0
        for stored in {self._target(name) for name in names}:
            number, _ = self._catalogue.places[stored]
            total += (
                self._catalogue.entry(stored).elements * BY_CODE[self._catalogue.records[number].dtype].size
            )
        return total

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return len(self._open_data())

    def shape_and_type(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and name of the element type, without reading the record."""
        self._check(name)
        stored = self._target(name)
        alias = self._catalogue.aliases.get(name)
        shape = (
            alias.shape
            if alias is not None and alias.shape is not None
            else self._catalogue.entry(stored).shape
        )
        number, _ = self._catalogue.places[stored]
        return shape, BY_CODE[self._catalogue.records[number].dtype].name

    def info(self, name: str) -> TensorInfo:
        """Facts about one tensor."""
        self._check(name)
        stored = self._target(name)
        number, inner = self._catalogue.places[stored]
        record = self._record(number)
        descriptor = record.descriptor
        codec = codec_by_id(descriptor.codec)
        assert codec is not None  # its decoder was made
        shape, dtype = self.shape_and_type(name)
        entry = descriptor.tensors[inner]
        alias = self._catalogue.aliases.get(name)
        elements = entry.elements
        share = elements / descriptor.elements if descriptor.elements else 1 / len(descriptor.tensors)
        size = 0.0 if alias is not None else (record.entry.end - record.entry.offset) * share
        count = elements if alias is None else Descriptor.count(shape)
        origin = entry.origin if alias is None else alias.origin
        return TensorInfo(
            name=name,
            codec=codec.name,
            dtype=dtype,
            shape=shape,
            framework=("np", "pt")[origin],
            nbytes=count * BY_CODE[descriptor.dtype].size,
            stored_bytes=size,
            bits_per_weight=8 * size / elements if elements else 0.0,
            chunks=descriptor.chunks,
            chunk_elements=descriptor.chunk_elements,
            offset=record.entry.offset,
            options=MappingProxyType(codec.describe(descriptor.version, descriptor.model)),
            alias_of=None if alias is None else alias.target,
        )

    def verify(self) -> None:
        """Check the structure of the whole file and every checksum, without decoding; raises DecodeError."""
        self._verified()

    # Life

    def close(self) -> None:
        """Let go of the file. Tensors that were decoded stay."""
        self._closed = True  # before the data goes: see _open_data
        with self._lock:
            self._records.clear()
        self._chunks.close()
        self._data = memoryview(b"")
        if self._mapping is not None:
            # Another thread may still be decoding from it; the last to let go unmaps.
            with contextlib.suppress(BufferError):
                self._mapping.close()
            self._mapping = None

    def __enter__(self) -> File:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("an open file cannot be pickled; open it again by its path in the other process")

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._names)} tensors"
        return f"<nncodec.File: {state}>"

    # Inside

    def _check(self, name: str | None = None) -> None:
        if self._closed:
            raise ValueError("the file is closed")
        if name is not None and name not in self:
            raise KeyError(name)

    def _open_data(self) -> memoryview:
        """The file's bytes, which stay as long as this is held; ValueError if the file is closed."""
        data = self._data  # before the check: another thread may close the file between the two
        self._check()
        return data

    def _verified(self) -> Catalogue:
        """What the file holds, read in its order, all checksums compared: the first damage is the one that raises."""
        released = 0

        def check(chunk: Chunk, descriptor: Descriptor) -> None:
            nonlocal released
            checked_payload(chunk, descriptor)
            if chunk.offset - released >= _RELEASE_BYTES:
                released = self._release(released, chunk.offset)

        data = self._open_data()
        catalogue = scan_catalogue(data, check)
        self._release(released, len(data))
        return catalogue

    def _target(self, name: str) -> str:
        alias = self._catalogue.aliases.get(name)
        return name if alias is None else alias.target

    def _record(self, number: int) -> _OpenRecord:
        with self._lock:
            record = self._records.get(number)
            if record is not None:
                self._records.move_to_end(number)
                return record
        entry = self._catalogue.records[number]
        known = self._catalogue.descriptors.get(number)
        descriptor, crc = known if known is not None else stored_descriptor(self._open_data(), entry)
        # A decoder may hold a class for each element, however little the model takes in the file.
        check_limit(descriptor.elements, None, tensor=descriptor.label, offset=entry.offset)
        record = _OpenRecord(entry, descriptor, crc, decoder_for(descriptor, entry.offset))
        with self._lock:
            self._records[number] = record
            while len(self._records) > _DECODERS_KEPT:
                self._records.popitem(last=False)
        return record

    def _decode(
        self,
        names: Sequence[str],
        framework: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Tensors by name; those that share memory in the file share it in the result."""
        framework = framework if framework is not None else self._framework
        catalogue = self._catalogue
        aliases = {name: catalogue.aliases[name] for name in names if name in catalogue.aliases}
        stored = dict.fromkeys(aliases[name].target if name in aliases else name for name in names)
        by_record: dict[int, dict[int, str]] = {}
        for name in stored:
            number, inner = catalogue.places[name]
            by_record.setdefault(number, {})[inner] = name
        size = 0
        for number, wanted in by_record.items():
            record = catalogue.records[number]
            if len(wanted) == len(record.tensors):
                size += record.nbytes
            else:
                size += sum(record.tensors[inner].elements for inner in wanted) * BY_CODE[record.dtype].size
        check_limit(size, self._max_bytes, tensor=names[0] if len(names) == 1 else None)
        kept = {alias.target for alias in aliases.values()}  # tensors that others are views of
        made = Placed({}, {}, {})
        arena = Arena(shared=len(stored) > 1)
        for number, wanted in by_record.items():
            descriptor = self._descriptor(number)
            if len(wanted) == len(descriptor.tensors) > 1:
                made.add_whole(number, descriptor, framework, kept.intersection(wanted.values()))
            else:
                made.add(number, descriptor, wanted, framework, arena, kept)
        self._fill(made.outputs, progress, fresh=True)
        tensors = made.tensors
        if not aliases:
            return {name: tensors[name] for name in names}
        return {
            name: tensors[name]
            if (alias := aliases.get(name)) is None
            else aliased(alias, made.memory[alias.target], tensors[alias.target], framework)
            for name in names
        }

    def _descriptor(self, number: int) -> Descriptor:
        known = self._catalogue.descriptors.get(number)
        return known[0] if known is not None else self._record(number).descriptor

    def _fill(
        self, outputs: Mapping[int, Output], progress: Callable[[int], None] | None, *, fresh: bool
    ) -> None:
        """Decode records, by number; ``fresh``: into memory that nobody has touched yet."""
        released = 0

        def done(size: int, last: int) -> None:
            nonlocal released
            released = self._release(released, last)
            if progress is not None:
                progress(size)

        batch = Batch(self._threads, done, fresh=fresh)
        for number in sorted(outputs):
            record = self._record(number)
            descriptor = record.descriptor
            output = outputs[number]
            if output.buffered:  # some of the tensors that share the record
                starts = descriptor.tensor_starts
                parts = [Part(starts[inner], target) for inner, target in output.wanted.items()]
                self._add_parts(batch, number, record, parts, descriptor.label)
                continue
            batch.add_run(record.decoder, output, self._run(record, range(descriptor.chunks)))
        batch.finish()

    def _run(self, record: _OpenRecord, numbers: range) -> Run:
        data, entry, descriptor, crc = self._open_data(), record.entry, record.descriptor, record.crc

        def find(number: int) -> Chunk:
            (chunk,) = stored_chunks(data, entry, descriptor, crc, range(number, number + 1))
            return chunk

        return Run(data, entry, crc, numbers, find)

    def _add_parts(
        self, batch: Batch, number: int, record: _OpenRecord, parts: Iterable[Part], tensor: str
    ) -> None:
        partial = PartialRecord(number, record.descriptor, record.decoder, lambda run: self._run(record, run))
        partial.add_to(batch, parts, self._chunks, self._max_bytes, tensor)

    def release_pages(self) -> None:
        """Let the pages of the file that were read so far leave this process's memory (they stay cached)."""
        self._release(0, len(self._data))

    def _release(self, start: int, stop: int) -> int:
        """Let the pages in a stretch of the file leave this process's memory; returns where the next begins."""
        advise = getattr(mmap, "MADV_DONTNEED", None)
        page = mmap.PAGESIZE
        stop -= stop % page
        mapping = self._mapping
        if mapping is None or advise is None or stop - start < page:
            return start
        with contextlib.suppress(ValueError, OSError):
            mapping.madvise(advise, start, stop - start)
        return stop

    def rows(self, name: str, start: int, stop: int) -> Any | None:
        """Rows of a stored tensor, decoding only the chunks they touch; None where that is not possible."""
        self._check(name)
        alias = self._catalogue.aliases.get(name)
        if alias is not None and alias.shape is not None:
            return None
        number, inner = self._catalogue.places[self._target(name)]
        record = self._record(number)
        descriptor = record.descriptor
        entry = descriptor.tensors[inner]
        row = Descriptor.count(entry.shape[1:]) * BY_CODE[descriptor.dtype].size
        if stop <= start or not row:
            return None
        check_limit((stop - start) * row, self._max_bytes, tensor=name)
        origin = entry.origin if alias is None else alias.origin
        shape = (stop - start, *entry.shape[1:])
        memory = Destination(descriptor.dtype, shape, framework_for(origin, self._framework))
        batch = Batch(self._threads, fresh=True)
        part = Part(descriptor.tensor_starts[inner] + start * row, memory.bytes)
        self._add_parts(batch, number, record, [part], name)
        batch.finish()
        return memory.tensor()


class _LazyTensors(Mapping[str, Any]):
    """Names to tensors, decoded on access."""

    def __init__(self, file: File) -> None:
        self._file = file

    def __getitem__(self, name: str) -> Any:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file)

    def __contains__(self, name: object) -> bool:
        return name in self._file


def map_file(path: str | os.PathLike[str], *, scan: bool, **options: Any) -> File:
    """Map a file into memory. ``scan``: read all its sections now, rather than trust its index."""
    mapping, data = _mapped(path)
    try:
        catalogue = scan_catalogue(data) if scan else open_catalogue(data)
        file = File(data, catalogue, mapping=mapping, **options)
    except BaseException:
        data.release()
        with contextlib.suppress(BufferError):
            mapping.close()
        raise
    if scan:
        file.release_pages()
    return file


def verify_file(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Check the structure of a whole file and every checksum, without its index or footer being trusted.

    Returns its size and the number of its tensors. DecodeError says where the first damage is.
    """
    mapping, data = _mapped(path)
    with File(data, Catalogue(), mapping=mapping) as file:
        return file.file_bytes, len(file._verified().names())


def _mapped(path: str | os.PathLike[str]) -> tuple[mmap.mmap, memoryview]:
    with open(path, "rb") as raw:
        if os.fstat(raw.fileno()).st_size == 0:
            raise DecodeError("the file is empty", offset=0)
        mapping = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
    return mapping, memoryview(mapping)
