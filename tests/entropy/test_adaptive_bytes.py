"""Adaptive byte coder: what goes in comes out, damaged streams are refused, small arrays stay small."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncodec import DecodeError, _core


def decode(stream: bytes, n: int) -> bytes:
    out = bytearray(n)
    _core.adaptive_decode_bytes(stream, out)
    return bytes(out)


@given(st.binary(max_size=300))
def test_round_trip(values: bytes) -> None:
    assert decode(_core.adaptive_encode_bytes(values), len(values)) == values


@given(st.binary(max_size=64), st.integers(0, 1000))
def test_hostile_streams_end_or_are_refused(stream: bytes, n: int) -> None:
    with suppress(DecodeError):
        assert len(decode(stream, n)) == n


@pytest.mark.parametrize("n", [1, 2, 64, 1000])
def test_truncated_and_extended_streams_are_refused(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 256, n, np.uint8)
    stream = _core.adaptive_encode_bytes(values)
    with pytest.raises(DecodeError, match="corrupt"):
        decode(stream + bytes(5), n)
    if len(stream) > 8:
        with pytest.raises(DecodeError, match="truncated"):
            decode(stream[:-8], n)


def test_small_arrays_stay_small() -> None:
    assert _core.adaptive_encode_bytes(b"") == b""
    assert all(len(_core.adaptive_encode_bytes(bytes([v]))) <= 2 for v in range(256))
    assert len(_core.adaptive_encode_bytes(bytes([7] * 1000))) < 10
