"""Parts of records: only the chunks that they touch are decoded, and those that are shared only once."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nncodec import partial
from nncodec.container.descriptor import Descriptor
from nncodec.dtypes import BY_NAME
from nncodec.errors import LimitError
from nncodec.partial import KeptChunks, Part, PartialRecord

ELEMENTS, CHUNK = 29, 8  # of two bytes; the last chunk is short
RAW = np.arange(2 * ELEMENTS, dtype=np.uint8)


class FakeBatch:
    """Copies what decoders would give, and notes which chunks it was asked for."""

    def __init__(self) -> None:
        self.decoded: list[int] = []

    def add_run(self, decoder: Any, output: Any, numbers: range) -> None:
        self.decoded += numbers
        begin, end = numbers.start, numbers.stop
        output.chunks(begin, end)[...] = RAW[2 * CHUNK * begin : 2 * CHUNK * end]
        if output.buffered:
            output.finish()


def record() -> PartialRecord:
    names = SimpleNamespace(name="first", shape=(9,)), SimpleNamespace(name="second", shape=(20,))
    tensors: Any = tuple(names)
    descriptor = Descriptor(1, 1, BY_NAME["float16"].code, tensors, CHUNK, b"")
    decoder: Any = None
    run: Any = lambda numbers: numbers  # noqa: E731
    return PartialRecord(3, descriptor, decoder, run)


def read(kept: KeptChunks, ranges: Sequence[tuple[int, int]], max_bytes: int | None = None) -> list[int]:
    """Read stretches of elements; the chunks that were decoded."""
    parts = [Part(2 * start, np.zeros(2 * (stop - start), np.uint8)) for start, stop in ranges]
    batch: Any = FakeBatch()
    record().add_to(batch, parts, kept, max_bytes, "second")
    for part in parts:
        assert np.array_equal(part.target, RAW[part.start : part.stop])
    return sorted(batch.decoded)


def test_every_stretch_decodes_what_it_touches() -> None:
    for start in range(ELEMENTS + 1):
        for stop in range(start, ELEMENTS + 1):
            touched = sorted({element // CHUNK for element in range(start, stop)})
            assert read(KeptChunks(), [(start, stop)]) == touched


def test_neighbours_decode_their_chunk_once() -> None:
    assert read(KeptChunks(), [(0, 3), (3, 9), (9, 29), (5, 5)]) == [0, 1, 2, 3]
    kept = KeptChunks()
    decoded = [chunk for start in range(ELEMENTS) for chunk in read(kept, [(start, start + 1)])]
    assert decoded == [0, 1, 2, 3]


def test_few_bytes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "KEPT_BYTES", 4 * CHUNK)  # two chunks
    kept = KeptChunks()
    for start, decoded in [(0, [0]), (8, [1]), (0, []), (16, [2]), (0, []), (8, [1])]:
        assert read(kept, [(start, start + 1)]) == decoded
    monkeypatch.setattr(partial, "KEPT_BYTES", CHUNK)  # less than one
    kept = KeptChunks()
    assert read(kept, [(0, 1)]) == read(kept, [(0, 1)]) == [0]


def test_none_are_kept_once_closed() -> None:
    kept = KeptChunks()
    read(kept, [(0, 1)])
    kept.close()
    assert read(kept, [(0, 1)]) == read(kept, [(0, 1)]) == [0]


def test_the_limit_counts_whole_chunks() -> None:
    assert read(KeptChunks(), [(7, 9)], 4 * CHUNK) == [0, 1]
    with pytest.raises(LimitError, match="second"):
        read(KeptChunks(), [(7, 9)], 4 * CHUNK - 1)
