"""bzip2 streams of Python's own encoder decode as by the twin; damage is noticed."""

from __future__ import annotations

import bz2
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import DecodeError, _core
from nncodec.reference import bzip2 as twin


def decode(stream: bytes, size: int) -> bytes:
    out = np.zeros(size, np.uint8)
    _core.bzip2_decode(stream, out)
    return out.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1500),
    st.sampled_from([1, 2, 5, 40, 256]),
    st.sampled_from([0.0, 0.9, 0.999]),
    st.integers(0, 99),
)
def test_agrees_with_the_twin(n: int, symbols: int, stay: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, symbols, n).astype(np.uint8)
    for i in range(1, n):  # runs
        if rng.random() < stay:
            data[i] = data[i - 1]
    stream = bz2.compress(data.tobytes())
    assert decode(stream, n) == twin.decode(stream) == data.tobytes()


@pytest.mark.parametrize("level", [1, 9])
def test_several_blocks(level: int) -> None:
    rng = np.random.default_rng(level)
    data = np.clip(rng.normal(128, 9, 250_000), 0, 255).astype(np.uint8).tobytes() + bytes(5000)
    assert decode(bz2.compress(data, level), len(data)) == data


def test_every_flip_and_cut_is_noticed() -> None:
    data = bytes(range(60)) * 3 + b"weights" * 20
    stream = bz2.compress(data)
    for end in range(len(stream)):
        with pytest.raises(DecodeError, match="bzip2"):
            decode(stream[:end], len(data))
    for bit in range(8 * len(stream) - 7):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        with suppress(DecodeError):
            assert (
                decode(bytes(damaged), len(data)) == data
            )  # only a code length that nothing uses may change
    for size in (len(data) - 1, len(data) + 1, 0):
        with pytest.raises(DecodeError, match="bytes than wanted"):
            decode(stream, size)
    with pytest.raises(DecodeError, match="left over"):
        decode(stream + b"\0\0", len(data))
