"""Chunks that follow each other in a file, given to the engine as one job."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from nncodec import _core
from nncodec.container.fields import FieldWriter

RECORD_CRC = 0xC0FFEE
CHUNK = 1000
COUNT = 5


def framed(payloads: list[bytes]) -> bytes:
    """As they lie in a file (docs/format.md#tensor-record-t)."""
    out = FieldWriter()
    for number, payload in enumerate(payloads):
        out.varint(len(payload))
        out.data += payload
        seed = _core.crc32c(struct.pack("<IQQ", RECORD_CRC, number, len(payload)))
        out.u32(_core.crc32c(payload, seed))
    return bytes(out.data)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (COUNT - 1) * CHUNK + 17, np.uint8)


@pytest.fixture
def payloads(values) -> list[bytes]:
    return [values[at : at + CHUNK].tobytes() for at in range(0, len(values), CHUNK)]


def run(file: bytes, lengths: list[int], out: np.ndarray, *, at: int = 0, first: int = 0) -> _core.ChunkRun:
    return (_core.stored_decoder(), first, file, at, lengths, RECORD_CRC, out, CHUNK)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_chunk_lands_in_its_place(values, payloads, threads, fresh):
    out = np.zeros_like(values)
    job = run(b"before" + framed(payloads), list(map(len, payloads)), out, at=6)
    assert _core.ChunkBatch([job], threads, fresh).wait() is None
    assert np.array_equal(out, values)


def test_a_run_may_begin_within_the_record(values, payloads):
    file = framed(payloads)
    at = len(framed(payloads[:2]))
    out = np.zeros(2 * CHUNK, np.uint8)
    assert _core.decode_chunks([run(file, [CHUNK, CHUNK], out, at=at, first=2)]) is None
    assert np.array_equal(out, values[2 * CHUNK : 4 * CHUNK])
    # The number of a chunk is part of its checksum.
    assert _core.decode_chunks([run(file, [CHUNK, CHUNK], out, at=at, first=1)], 1) == (
        0,
        "checksum of chunk 1 is wrong: the data is damaged",
    )


def test_failures_count_chunks_over_all_jobs(values, payloads):
    damaged = bytearray(framed(payloads))
    damaged[len(framed(payloads[:3])) + 10] ^= 1
    out = np.zeros_like(values)
    job = run(bytes(damaged), list(map(len, payloads)), out)
    one = (_core.stored_decoder(), 0, b"x", 0, _core.crc32c(b"x"), np.zeros(1, np.uint8))
    assert _core.decode_chunks([one, job, one]) == (4, "checksum of chunk 3 is wrong: the data is damaged")


@pytest.mark.parametrize("bad", range(COUNT))
def test_a_chunk_of_another_length_is_not_where_it_should_be(values, payloads, bad):
    lengths = [len(payload) - (number == bad) for number, payload in enumerate(payloads)]
    failure = _core.decode_chunks([run(framed(payloads), lengths, np.zeros_like(values))])
    assert failure == (bad, f"chunk {bad} is not where it should be")


@pytest.mark.parametrize("cut", [1, 5, CHUNK])
def test_a_chunk_that_is_cut_off_is_not_where_it_should_be(values, payloads, cut):
    file = framed(payloads)[:-cut]
    failure = _core.decode_chunks([run(file, list(map(len, payloads)), np.zeros_like(values))])
    assert failure is not None
    assert failure[0] == len(framed(payloads)[:-cut]) // (CHUNK + 6)


def test_outputs_without_room_and_jobs_of_a_wrong_form_are_refused(values, payloads):
    lengths = list(map(len, payloads))
    with pytest.raises(ValueError, match="no room"):
        _core.ChunkBatch([run(framed(payloads), lengths, np.zeros(CHUNK, np.uint8))])
    with pytest.raises(ValueError, match="a job is"):
        _core.ChunkBatch([(_core.stored_decoder(), 0, b"")])
    with pytest.raises(TypeError, match="writable"):
        _core.ChunkBatch([run(framed(payloads), lengths, b"x" * len(values))])
