"""What a file holds: every name with its place, from the index or from walking the records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nncodec.container.descriptor import Descriptor, TensorEntry
from nncodec.container.fields import MAX_NAMES_BYTES
from nncodec.container.sections import (
    FOOTER_BYTES,
    HEADER_BYTES,
    Alias,
    Footer,
    IndexEntry,
    check_header,
    read_aliases,
    read_index,
    read_metadata,
    write_index,
)
from nncodec.container.walk import Chunk, Memory, Record, Section, framed, skip_chunks, walk
from nncodec.errors import DecodeError, LimitError

__all__ = ["Catalogue", "add_walked", "open_catalogue", "scan_catalogue"]


@dataclass
class Catalogue:
    """Names, places, order, metadata and structure of one file.

    Attributes
    ----------
    records : list of IndexEntry
        In file order.
    places : dict
        Name of a stored tensor to (number of its record, number within the record).
    aliases : dict
        Name to alias.
    descriptors : dict
        Number of a record to (descriptor, its checksum), where it has been read.
    """

    metadata: dict[str, str] = field(default_factory=dict)
    structure: tuple[bytes, int] | None = None
    records: list[IndexEntry] = field(default_factory=list)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    aliases: dict[str, Alias] = field(default_factory=dict)
    descriptors: dict[int, tuple[Descriptor, int]] = field(default_factory=dict)
    _ordinals: dict[int, str] = field(default_factory=dict)
    _names_bytes: int = 0

    def names(self) -> list[str]:
        """All names in the order of the checkpoint."""
        return [self._ordinals[ordinal] for ordinal in sorted(self._ordinals)]

    def entry(self, name: str) -> TensorEntry:
        """What is known of a stored tensor."""
        record, number = self.places[name]
        return self.records[record].tensors[number]

    def add_record(self, entry: IndexEntry) -> None:
        """Take up a record; its names and ordinals must be new."""
        record = len(self.records)
        places = {tensor.name: (record, number) for number, tensor in enumerate(entry.tensors)}
        ordinals = {tensor.ordinal: tensor.name for tensor in entry.tensors}
        size = sum(map(len, places))
        if (
            len(places) == len(ordinals) == len(entry.tensors)
            # Of two views the shorter one is walked; of a dict, all of it.
            and places.keys().isdisjoint(self.places.keys())
            and places.keys().isdisjoint(self.aliases.keys())
            and ordinals.keys().isdisjoint(self._ordinals.keys())
            and self._names_bytes + size <= MAX_NAMES_BYTES
        ):  # nearly all of them, and all at once
            self.places.update(places)
            self._ordinals.update(ordinals)
            self._names_bytes += size
        else:
            for number, tensor in enumerate(entry.tensors):
                self._claim(tensor.name, tensor.ordinal, entry.offset)  # fails where it must
                self.places[tensor.name] = (record, number)
        self.records.append(entry)

    def add_section(self, section: Section) -> None:
        """Take up metadata, structure or aliases; compare an index with the records."""
        if section.kind == "M":
            self.metadata = read_metadata(section.body, section.body_offset)
        elif section.kind == "S":
            self.structure = (bytes(section.body), section.offset)
        elif section.kind == "A":
            for alias in read_aliases(section.body, section.body_offset):
                self._claim(alias.name, alias.ordinal, section.offset)
                self._check_alias(alias, section.offset)
                self.aliases[alias.name] = alias
        elif section.kind == "I":
            self._compare_index(section)

    def finish(self, footer: Footer, offset: int) -> None:
        """Compare with what the footer says."""
        if footer.tensors != len(self._ordinals):
            raise DecodeError(
                f"the footer says {footer.tensors} tensors, the file has {len(self._ordinals)}", offset=offset
            )

    def _compare_index(self, section: Section) -> None:
        if section.body == write_index(self.records):  # written as we would
            return
        index = read_index(section.body, section.body_offset, section.offset)
        if len(index) != len(self.records):
            raise DecodeError(
                f"the index has {len(index)} records, the file {len(self.records)}", offset=section.offset
            )
        for number, (said, found) in enumerate(zip(index, self.records, strict=True)):
            descriptor, _ = self.descriptors[number]
            place = (found.offset, found.descriptor_length, found.payload_lengths)
            if (said.offset, said.descriptor_length, said.payload_lengths) != place or not said.agrees(
                descriptor
            ):
                raise DecodeError(
                    f"the index does not agree with the record at byte {found.offset}",
                    offset=section.offset,
                    tensor=descriptor.label,
                )

    def _claim(self, name: str, ordinal: int, offset: int) -> None:
        if name in self.places or name in self.aliases:
            raise DecodeError("the name is there twice", offset=offset, tensor=name)
        if ordinal in self._ordinals:
            raise DecodeError(
                f"ordinal {ordinal} is also that of {self._ordinals[ordinal]!r}", offset=offset, tensor=name
            )
        self._names_bytes += len(name)
        if self._names_bytes > MAX_NAMES_BYTES:
            raise LimitError(f"the names take more than {MAX_NAMES_BYTES} bytes", offset=offset)
        self._ordinals[ordinal] = name

    def _check_alias(self, alias: Alias, offset: int) -> None:
        if alias.target not in self.places:
            raise DecodeError(f"its target {alias.target!r} is not stored", offset=offset, tensor=alias.name)
        elements = self.entry(alias.target).elements
        if alias.reach > elements:
            raise DecodeError(
                f"the view reaches element {alias.reach - 1} of {alias.target!r}, which has {elements}",
                offset=offset,
                tensor=alias.name,
            )


def scan_catalogue(data: memoryview, each: Callable[[Chunk, Descriptor], None] | None = None) -> Catalogue:
    """Read every section but the chunks' payloads; all rules of the format are checked but their checksums.

    ``each`` is called with each chunk and the descriptor of its record when the walk comes there.
    """
    catalogue = Catalogue()
    source = Memory(data)
    for item in walk(source):
        if isinstance(item, Record):
            lengths = skip_chunks(source, item) if each is None else _show_chunks(item, each)
            add_walked(catalogue, item, lengths)
        elif isinstance(item, Footer):
            catalogue.finish(item, source.position - FOOTER_BYTES)
        else:
            catalogue.add_section(item)
    return catalogue


def _show_chunks(record: Record, each: Callable[[Chunk, Descriptor], None]) -> list[int]:
    """Call ``each`` for a record's chunks, of which none has been read; the lengths of their payloads."""
    lengths = []
    for chunk in record.chunks:
        each(chunk, record.descriptor)
        lengths.append(len(chunk.payload))
    return lengths


def add_walked(catalogue: Catalogue, record: Record, lengths: list[int]) -> None:
    """Take up a record whose descriptor and chunks were read; ``lengths`` are those of its payloads."""
    descriptor = record.descriptor
    entry = IndexEntry(
        record.offset,
        record.descriptor_length,
        tuple(lengths),
        descriptor.dtype,
        descriptor.codec,
        descriptor.tensors,
    )
    catalogue.add_record(entry)
    catalogue.descriptors[len(catalogue.records) - 1] = (descriptor, record.crc)


def open_catalogue(data: memoryview) -> Catalogue:
    """Read only what names and places need: header, footer, index, and what lies outside the records.

    Without an index, the records are walked.
    """
    check_header(data[:HEADER_BYTES])
    place = len(data) - FOOTER_BYTES
    if place < HEADER_BYTES:
        raise DecodeError("the file ends before its footer", offset=len(data))
    footer = Footer.read(data[place:], place)
    if not footer.index_offset:
        return scan_catalogue(data)
    source = Memory(data[:place], footer.index_offset)
    kind = bytes(source.take(1, "the index"))
    if kind != b"I":
        raise DecodeError("there is no index where the footer says", offset=footer.index_offset)
    body, body_offset, _ = framed(source, kind, "the index")
    if source.position != footer.index_offset + footer.index_length or not source.at_end():
        raise DecodeError("the index does not end where the footer says", offset=footer.index_offset)
    catalogue = Catalogue()
    end = HEADER_BYTES
    sections: list[Section] = []
    for entry in read_index(body, body_offset, footer.index_offset):
        sections += _between(data, end, entry.offset, "MS" if not catalogue.records else "")
        catalogue.add_record(entry)
        end = entry.end
    sections += _between(data, end, footer.index_offset, "A" if catalogue.records else "MSA")
    for section in sections:
        catalogue.add_section(section)
    catalogue.finish(footer, place)
    return catalogue


def _between(data: memoryview, start: int, stop: int, allowed: str) -> list[Section]:
    """The sections between two records."""
    sections: list[Section] = []
    if start == stop:
        return sections
    for item in walk(Memory(data[:stop], start), start, stop):
        if not isinstance(item, Section) or item.kind not in allowed:
            raise DecodeError("the index leaves out a section", offset=start)
        sections.append(item)
    return sections
