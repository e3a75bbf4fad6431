"""From a budget over the whole file to one setting per tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from nncodec import allocate
from nncodec._core import float_statistics
from nncodec.budget import Budget
from nncodec.codecs import CODECS, LossyCodec
from nncodec.codecs.base import CHUNK_ELEMENTS, Codec, Setting
from nncodec.container.descriptor import MAX_TENSORS_PER_RECORD, Descriptor, TensorEntry
from nncodec.encoding import Encoder, RecordWriter, part_of
from nncodec.sides import Sides
from nncodec.tensors import Leaf

__all__ = ["group", "plan", "spare_nonfinite"]

# Only these need to know what the rest of the file takes.
_SIZE_BUDGETS = frozenset(("bits_per_weight", "ratio"))


def spare_nonfinite(leaves: Mapping[int, Leaf], choices: dict[int, Codec], threads: int) -> None:
    """Give tensors with NaN or infinite elements to ``lossless`` where their codec says so."""
    for number, codec in choices.items():
        if codec.lossy and getattr(codec, "nonfinite", "error") == "lossless":
            leaf = leaves[number]
            if float_statistics(leaf.data(), leaf.dtype.code, None, threads).nonfinite:
                choices[number] = CODECS["lossless"]()


def group(leaves: Mapping[int, Leaf], choices: Mapping[int, Codec], budget: Budget | None) -> list[list[int]]:
    """Numbers of the tensors of each record-to-be of a lossy codec; small ones share one, in order.

    Those that get error feedback stay alone.
    """
    records: list[list[int]] = []
    filling: dict[tuple[Codec, int], list[int]] = {}
    sizes: dict[tuple[Codec, int], int] = {}
    for number, codec in choices.items():
        if not isinstance(codec, LossyCodec):
            continue
        leaf = leaves[number]
        key = (codec, leaf.dtype.code)
        alone = budget is not None and codec.feedback and budget.has_sides(leaf)
        if alone or leaf.elements > codec.shared_tensor_elements:
            records.append([number])
            continue
        full = sizes.get(key, 0) + leaf.elements > codec.shared_record_elements
        if key not in filling or full or len(filling[key]) == MAX_TENSORS_PER_RECORD:
            filling[key] = []
            sizes[key] = 0
            records.append(filling[key])
        filling[key].append(number)
        sizes[key] += leaf.elements
    return records


def plan(
    leaves: Mapping[int, Leaf],
    choices: Mapping[int, Codec],
    budget: Budget,
    threads: int,
    begin: Callable[[RecordWriter], None] = lambda writer: None,
    end: Callable[[RecordWriter], None] = lambda writer: writer.finish([]),
) -> dict[int, Setting]:
    """Settings of the records of codecs with a budget, by the number of their first tensor.

    ``leaves`` holds the tensors that are stored, by number, ``choices`` their codecs. ``begin`` and ``end`` write what
    comes before and after the records; they are called on a writer that only counts.
    """
    every = group(leaves, choices, budget)
    sized = {
        record[0]: Setting(1.0, _weights(budget, [leaves[number] for number in record]))
        for record in every
        if not choices[record[0]].budgeted
    }
    records = [record for record in every if record[0] not in sized]
    if not records:
        return sized
    parts = [(cast(LossyCodec, choices[r[0]]), part_of([leaves[n] for n in r])) for r in records]
    overhead = 0
    if budget.name in _SIZE_BUDGETS:
        overhead = 8 * _overhead(leaves, choices, records, budget, threads, begin, end)
    settings = allocate.settings(
        parts,
        budget=(budget.name, budget.value),
        importance=[_weights(budget, [leaves[number] for number in record]) for record in records],
        sides=_sides(budget, leaves, choices, records),
        overhead_bits=overhead,
        total_elements=sum(leaf.elements for leaf in leaves.values()),
        total_bytes=sum(leaf.nbytes for leaf in leaves.values()),
        threads=threads,
    )
    return sized | {record[0]: setting for record, setting in zip(records, settings, strict=True)}


def _sides(
    budget: Budget, leaves: Mapping[int, Leaf], choices: Mapping[int, Codec], records: Sequence[Sequence[int]]
) -> list[Sides | None] | None:
    """Of each record; None if there is no ``hessian``."""
    if not budget.hessian:
        return None
    able = [cast(LossyCodec, choices[record[0]]).feedback for record in records]
    found = [
        budget.sides(leaves[record[0]]) if can and len(record) == 1 else None
        for record, can in zip(records, able, strict=True)
    ]
    if all(sides is None for sides in found):
        why = "names none of the tensors that a lossy codec takes" if any(able) else "needs codec 'trellis'"
        raise ValueError(f"hessian {why}")
    return found


def _weights(budget: Budget, leaves: Sequence[Leaf]) -> NDArray[np.float32] | None:
    weights = [budget.weights(leaf) for leaf in leaves]
    if len(leaves) == 1 or all(w is None for w in weights):
        return weights[0]
    return np.concatenate(
        [np.ones(f.elements, np.float32) if w is None else w for f, w in zip(leaves, weights, strict=True)]
    )


def _overhead(
    leaves: Mapping[int, Leaf],
    choices: Mapping[int, Codec],
    records: Sequence[Sequence[int]],
    budget: Budget,
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
    # Lengths decide whether the file has an index: about what the budget allows.
    elements = sum(leaf.elements for leaf in leaves.values())
    given = budget.value * elements / 8
    if budget.name == "ratio":
        given = sum(leaf.nbytes for leaf in leaves.values()) / budget.value
    for record in records:
        descriptor = _descriptor(leaves, record, choices[record[0]])
        share = given * sum(leaves[n].elements for n in record) / max(1, elements * descriptor.chunks)
        writer.reserve(descriptor, max(1, round(share)))
    end(writer)
    return writer.position - writer.reserved


def _descriptor(leaves: Mapping[int, Leaf], record: Sequence[int], codec: Codec) -> Descriptor:
    entries = tuple(TensorEntry(leaves[n].name, n, leaves[n].origin, leaves[n].shape) for n in record)
    elements = sum(leaves[n].elements for n in record)
    chunk = CHUNK_ELEMENTS if len(record) == 1 else max(elements, 1)
    return Descriptor(codec.id, codec.version, leaves[record[0]].dtype.code, entries, chunk, b"")


class _Nowhere:
    """A file that forgets."""

    def write(self, data: Sequence[int]) -> int:
        return len(data)
