"""LZW: engine and twin, round trips, damage."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import DecodeError, _core
from nncodec.reference import lzw as twin


def decode(stream: bytes, n: int) -> bytes:
    out = np.empty(n, np.uint8)
    _core.lzw_decode(stream, out)
    return out.tobytes()


@settings(max_examples=60)
@given(st.binary(max_size=80) | st.lists(st.sampled_from(b"ab"), max_size=400).map(bytes))
def test_twin_and_round_trip(data: bytes) -> None:
    stream = _core.lzw_encode(data)
    assert stream == twin.encode(data)
    assert decode(stream, len(data)) == data
    assert twin.decode(stream, len(data)) == data


def test_a_full_dictionary_starts_again() -> None:
    data = np.random.default_rng(1).integers(0, 256, 150_000, np.uint8).tobytes()
    stream = _core.lzw_encode(data)
    assert decode(stream, len(data)) == data
    head = data[:70_000]
    assert _core.lzw_encode(head) == twin.encode(head)


@pytest.mark.parametrize("values", [1, 2, 19, 27, 28, 59, 60])
def test_long_data_of_few_values(values: int) -> None:
    """Up to 27 values a tree has rows of one cache line, up to 59 of two; with more, strings are searched for."""
    data = np.random.default_rng(values).integers(0, values, 260_000).astype(np.uint8) * np.uint8(3)
    stream = _core.lzw_encode(data)
    assert decode(stream, len(data)) == data.tobytes()
    assert _core.lzw_encode(data[:200_000]) == twin.encode(data[:200_000].tobytes())


def test_repetition_is_found() -> None:
    assert len(_core.lzw_encode(b"abc" * 10_000)) < 700
    assert decode(_core.lzw_encode(bytes(100_000)), 100_000) == bytes(100_000)


def test_damage() -> None:
    data = b"to be or not to be, that is the question " * 20
    stream = _core.lzw_encode(data)
    for wrong in (stream[:-1], stream + b"\0"):
        with pytest.raises(DecodeError):
            decode(wrong, len(data))
    with pytest.raises(DecodeError):
        decode(stream, len(data) - 1)
    for at in range(len(stream)):
        with suppress(DecodeError):
            decode(stream[:at] + bytes([stream[at] ^ 0x55]) + stream[at + 1 :], len(data))
    with pytest.raises(DecodeError, match="does not exist"):
        decode(b"\x00\xff\xff", 10)
