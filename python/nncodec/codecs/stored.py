"""Codec 0: raw elements. No compression, only what the container gives: checksums, random access, ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nncodec._core import ChunkDecoder, stored_decoder
from nncodec.codecs.base import Codec, Encoded, Part, Setting
from nncodec.dtypes import item_size
from nncodec.errors import DecodeError

__all__ = ["Stored"]

_CHUNK_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Stored(Codec):
    """Stores every tensor as it is."""

    name: ClassVar[str] = "stored"
    id: ClassVar[int] = 0

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """The elements, cut into chunks; views of the parts' memory, nothing is copied."""
        return [_cut(part) for part in parts]

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record; the model must be empty."""
        if model:
            raise DecodeError(f"codec 'stored' has no model, this one takes {len(model)} bytes")
        return stored_decoder()


def _cut(part: Part) -> Encoded:
    step = _CHUNK_ELEMENTS * item_size(part.dtype)
    raw = part.data.data  # a memoryview
    return Encoded(_CHUNK_ELEMENTS, b"", (raw[at : at + step] for at in range(0, len(raw), step)))
