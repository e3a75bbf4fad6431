"""Ctrl-C inside the engine: what has not begun is left out, threads stay in order, files are untouched."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import nncodec
from nncodec import _core

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX's timers")

LONG = 1 << 20


class Alarm(Exception):
    """What the handler raises."""


@pytest.fixture
def alarm():
    """Raises Alarm in a tenth of a second."""

    def ring(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_signal_ends_a_call_that_has_much_left(alarm, threads: int) -> None:
    """Some 500 chunks of a mebibyte, each a byte behind the one before: the last byte is the last one's alone."""
    decoder = _core.lossless_decoder(1, 23, LONG, LONG, b"")
    payload = b"\x01\x07"  # constant
    crc = _core.crc32c(payload)
    places = [
        np.zeros(LONG + 500 // threads, np.uint8) for _ in range(threads)
    ]  # a thread has a stretch of jobs
    jobs = [
        (decoder, 0, payload, 0, crc, place[i : i + LONG])
        for place in places
        for i in range(len(place) - LONG)
    ]
    alarm()
    with pytest.raises(Alarm):
        _core.decode_chunks(jobs, threads)
    assert not any(place[-2] for place in places)
    # The pool works as before.
    assert _core.decode_chunks(jobs[: 3 * threads], threads) is None
    assert np.array_equal(places[0][: LONG + 2], np.full(LONG + 2, 7))


def test_a_batch_that_was_interrupted_is_not_done(alarm) -> None:
    decoder = _core.lossless_decoder(1, 23, LONG, LONG, b"")
    payload = b"\x01\x07"  # constant
    crc = _core.crc32c(payload)
    out = np.zeros(LONG, np.uint8)
    batch = _core.ChunkBatch([(decoder, 0, payload, 0, crc, out)] * 5000, 1)
    alarm()
    with pytest.raises(Alarm):
        batch.wait()
    assert batch.wait() == (0, "decoding was interrupted")


def test_an_interrupted_encode_starts_again_from_nothing(alarm) -> None:
    tensors = {f"w{i}": np.random.default_rng(i).standard_normal((512, 512)) for i in range(40)}
    want = nncodec.encode(tensors, "lossless")
    alarm()
    with pytest.raises(Alarm):
        _for_ever(tensors)
    assert nncodec.encode(tensors, "lossless") == want


def _for_ever(tensors: dict[str, np.ndarray]) -> None:
    while True:
        nncodec.encode(tensors, "lossless")


SAVE = """
import sys, numpy as np, nncodec
tensors = {f"w{i}": np.random.default_rng(i).standard_normal((512, 512)).astype(np.float32) for i in range(60)}
try:
    print("ready", flush=True)
    while True:
        nncodec.save_file(tensors, sys.argv[1], "uniform", bits_per_weight=3)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.nncz"
    nncodec.save_file({"w": np.arange(9)}, path)
    old = path.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", SAVE, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.2)  # into the first save
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "interrupted\n"
        assert child.wait(60) == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.nncz"]
    assert path.read_bytes() == old


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("coder", ["mixing", "lzw"])
def test_a_signal_ends_a_task_that_takes_long(alarm, coder: str, threads: int) -> None:
    """Chunks of a quarter of a million weights, and the only one of a tensor is no exception."""
    weights = {"w": np.random.default_rng(0).standard_normal((512, 512))}
    codec = nncodec.codecs.Universal(coder=coder)
    want = nncodec.encode(weights, codec, step=0.05, threads=threads)

    def encode_for_ever() -> None:
        while True:
            nncodec.encode(weights, codec, step=0.05, threads=threads)

    alarm()
    with pytest.raises(Alarm):
        encode_for_ever()
    assert nncodec.encode(weights, codec, step=0.05, threads=threads) == want


def test_a_signal_ends_the_one_task_there_is(alarm) -> None:
    """Nobody would look between tasks: the last integers are not there yet."""
    integers = np.ones(1 << 21, np.int32)
    stream = _core.mixing_encode(integers)
    out = np.zeros_like(integers)
    alarm()
    with pytest.raises(Alarm):
        _core.mixing_decode(stream, out)
    assert out[0] == 1
    assert out[-1] == 0
    _core.mixing_decode(stream, out)
    assert np.array_equal(out, integers)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("coder", ["mixing", "lzw"])
def test_a_handler_may_use_the_same_codec_within_a_task(coder: str, threads: int) -> None:
    """What the thread was at goes on where it was, to the same bytes."""
    random = np.random.default_rng(1)
    weights = {"w": random.standard_normal((512, 512))}
    small = {"w": random.standard_normal((40, 50)), "v": random.standard_normal(300)}
    codec = nncodec.codecs.Universal(coder=coder)

    def encoded(tensors: dict[str, np.ndarray]) -> bytes:
        return nncodec.encode(tensors, codec, step=0.05, threads=threads)

    want, want_small = encoded(weights), encoded(small)
    found: list[bool] = []

    def ring(number: int, frame: object) -> None:
        same = encoded(small) == want_small
        back = nncodec.decode(want_small)
        found.append(same and bool(np.abs(back["w"] - small["w"]).max() < 0.1))

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.06, 0.06)
        while not found:
            assert encoded(weights) == want
            assert np.abs(nncodec.decode(want)["w"] - weights["w"]).max() < 0.1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(found)
