"""From a budget over the whole file to one setting per tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import IO, cast

from nncodec import allocate
from nncodec.budget import Budget
from nncodec.codecs import LossyCodec
from nncodec.codecs.base import CHUNK_ELEMENTS, Codec, Part, Setting
from nncodec.container.descriptor import Descriptor, TensorEntry
from nncodec.encoding import Encoder, RecordWriter
from nncodec.tensors import Leaf

__all__ = ["plan"]

# Only these need to know what the rest of the file takes.
_SIZE_BUDGETS = frozenset(("bits_per_weight", "ratio"))


def plan(
    leaves: Mapping[int, Leaf],
    choices: Mapping[int, Codec],
    budget: Budget,
    threads: int,
    begin: Callable[[RecordWriter], None] = lambda writer: None,
    end: Callable[[RecordWriter], None] = lambda writer: writer.finish([]),
) -> dict[int, Setting]:
    """Settings of the tensors that codecs with a budget take, by number.

    ``leaves`` holds the tensors that are stored, by number, ``choices`` their codecs. ``begin`` and ``end`` write what
    comes before and after the records; they are called on a writer that only counts.
    """
    lossy = [number for number, codec in choices.items() if codec.budgeted]
    if not lossy:
        return {}
    parts = [(cast(LossyCodec, choices[n]), _part(leaves[n])) for n in lossy]
    overhead = 0
    if budget.name in _SIZE_BUDGETS:
        overhead = 8 * _overhead(leaves, choices, threads, begin, end)
    settings = allocate.settings(
        parts,
        budget=(budget.name, budget.value),
        importance=[budget.weights(leaves[number]) for number in lossy],
        overhead_bits=overhead,
        total_elements=sum(leaf.elements for leaf in leaves.values()),
        total_bytes=sum(leaf.nbytes for leaf in leaves.values()),
        threads=threads,
    )
    return dict(zip(lossy, settings, strict=True))


def _part(leaf: Leaf) -> Part:
    return Part(leaf.dtype.code, (leaf.shape,), leaf.data(), (leaf.name,))


def _overhead(
    leaves: Mapping[int, Leaf],
    choices: Mapping[int, Codec],
    threads: int,
    begin: Callable[[RecordWriter], None],
    end: Callable[[RecordWriter], None],
) -> int:
    """Bytes of the file but for models and payloads of records with a budget: everything is written, to nowhere."""
    writer = RecordWriter(cast(IO[bytes], _Nowhere()))
    begin(writer)
    encoder = Encoder(writer, threads)
    for number, codec in choices.items():
        if not codec.budgeted:
            encoder.add(leaves[number], number, codec)
    encoder.flush()
    for number, codec in choices.items():
        if codec.budgeted:
            writer.reserve(_descriptor(leaves[number], number, codec))
    end(writer)
    return writer.position - writer.reserved


def _descriptor(leaf: Leaf, ordinal: int, codec: Codec) -> Descriptor:
    entry = TensorEntry(leaf.name, ordinal, leaf.origin, leaf.shape)
    return Descriptor(codec.id, codec.version, leaf.dtype.code, (entry,), CHUNK_ELEMENTS, b"")


class _Nowhere:
    """A file that forgets."""

    def write(self, data: Sequence[int]) -> int:
        return len(data)
