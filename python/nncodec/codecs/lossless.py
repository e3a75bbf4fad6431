"""Codec 1: any element type, bit for bit. Payload: docs/format.md#lossless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from nncodec._core import ChunkDecoder, LosslessEncoding, lossless_decoder, lossless_encode
from nncodec.codecs.base import Codec, Encoded, Part, Setting, in_windows
from nncodec.dtypes import item_size

__all__ = ["Lossless"]

_LEAST_COLUMNS = 64
_MOST_COLUMNS = 1 << 14
_SMALL_PIECE = 16
_KINDS = ("raw", "floats", "bytes", "palette", "integers")


@dataclass(frozen=True)
class Lossless(Codec):
    """Floats as entropy-coded exponents and raw sign and mantissa bits; other types by what is smallest."""

    name: ClassVar[str] = "lossless"
    id: ClassVar[int] = 1
    version: ClassVar[int] = 2

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """One call for the whole batch; the chunks of long parts follow window by window."""
        plans = lossless_encode([(part.dtype, columns_of(part.shapes), part.data) for part in parts], threads)
        return [_encoded(part, plan, threads) for part, plan in zip(parts, plans, strict=True)]

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record."""
        return lossless_decoder(version, dtype, sum(prod(shape) for shape in shapes), chunk_elements, model)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """How the record's numbers are taken apart."""
        return {"kind": _KINDS[model[0]] if model else "raw"}


def columns_of(shapes: Sequence[tuple[int, ...]]) -> int:
    """Elements per row of the codec's view: rows are what is likely to have a scale of its own.

    A row is an output channel or a word (all but the first dimension); short ones are joined, long ones cut at an
    inner dimension. Vectors are cut into pieces, shorter ones where several tensors follow each other.
    """
    if len(shapes) != 1:
        return _SMALL_PIECE
    inner = list(shapes[0][1:])
    if prod(inner) <= 1 and len(shapes[0]) < 2:
        return _LEAST_COLUMNS
    while len(inner) > 1 and prod(inner) > _MOST_COLUMNS:
        inner.pop(0)
    columns = max(1, prod(inner))
    if columns > _MOST_COLUMNS:
        return _MOST_COLUMNS
    return columns * -(-_LEAST_COLUMNS // columns)


def _encoded(part: Part, plan: LosslessEncoding, threads: int) -> Encoded:
    chunks = in_windows(
        plan.n_chunks,
        plan.chunk_elements * item_size(part.dtype),
        threads,
        lambda first, end: plan.encode(first, end, threads),
    )
    return Encoded(plan.chunk_elements, plan.model, chunks, plan.version)
