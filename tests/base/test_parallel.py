"""Thread pool, seen through decode_chunks: same outcome for any number of threads, and after a fork."""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nncodec import _core

THREADS = [1, 2, 3, 8, 0]


def jobs(count: int, damaged: tuple[int, ...] = ()) -> tuple[list[_core.ChunkJob], np.ndarray, np.ndarray]:
    source = np.random.default_rng(count).integers(0, 256, (count, 1000), np.uint8)
    out = np.zeros_like(source)
    decoder = _core.stored_decoder()
    listed = []
    for i in range(count):
        crc = _core.crc32c(source[i], i) ^ (i in damaged)
        listed.append((decoder, i, source[i], i, crc, out[i]))
    return listed, source, out


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_every_job_is_done_once(threads: int, count: int) -> None:
    listed, source, out = jobs(count)
    assert _core.decode_chunks(listed, threads) is None
    assert np.array_equal(out, source)


@pytest.mark.parametrize("threads", THREADS)
def test_the_lowest_failure_is_reported_and_the_rest_is_done(threads: int) -> None:
    listed, source, out = jobs(64, damaged=(7, 8, 50))
    failure = _core.decode_chunks(listed, threads)
    assert failure is not None
    assert failure[0] == 7
    assert "checksum" in failure[1]
    good = [i for i in range(64) if i not in (7, 8, 50)]
    assert np.array_equal(out[good], source[good])


def test_many_callers_share_the_pool() -> None:
    def call(count: int) -> bool:
        listed, source, out = jobs(count)
        return _core.decode_chunks(listed, 4) is None and np.array_equal(out, source)

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(call, range(40)))


def _child(connection: multiprocessing.connection.Connection) -> None:
    listed, source, out = jobs(50)
    connection.send(_core.decode_chunks(listed, 4) is None and bool(np.array_equal(out, source)))
    connection.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork is the question")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_gets_a_pool_of_its_own() -> None:
    listed, _, _ = jobs(50)
    assert (
        _core.decode_chunks(listed, 4) is None
    )  # the parent's workers exist now, and the child has none of them
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender,))
    child.start()
    sender.close()
    assert receiver.poll(20), "the child hangs"
    assert receiver.recv() is True
    child.join(20)
    assert child.exitcode == 0
    assert _core.decode_chunks(listed, 4) is None
