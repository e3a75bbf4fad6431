"""Adaptive byte coder: the engine and the twin make the same bytes, damage is refused, small arrays stay small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import DecodeError, _core
from nncodec.reference import adaptive_bytes as twin

STRIDES = st.sampled_from([1, 2, 4, 8])
VALUES = st.one_of(
    st.binary(max_size=160),
    st.lists(st.integers(118, 126), max_size=160).map(bytes),
    st.tuples(st.integers(0, 2**40), st.integers(0, 300), st.integers(0, 20)).map(
        lambda t: np.arange(t[0], t[0] + t[1] * t[2], max(t[1], 1), dtype=np.int64).tobytes()
    ),
)


def decode(stream: bytes, n: int, stride: int = 1) -> bytes:
    out = bytearray(n)
    _core.adaptive_decode_bytes(stream, out, stride)
    return bytes(out)


@settings(max_examples=60)
@given(VALUES, STRIDES)
def test_engine_and_twin_agree(values: bytes, stride: int) -> None:
    values = values[: len(values) // stride * stride]
    stream = twin.encode_bytes(values, stride)
    assert _core.adaptive_encode_bytes(values, stride) == stream
    assert decode(stream, len(values), stride) == values
    assert twin.decode_bytes(stream, len(values), stride) == values


@settings(max_examples=60)
@given(st.binary(max_size=40), st.integers(0, 60), STRIDES)
def test_hostile_streams_decode_alike_or_are_refused(stream: bytes, n: int, stride: int) -> None:
    n = n // stride * stride
    try:
        expected = twin.decode_bytes(stream, n, stride)
    except DecodeError:
        with pytest.raises(DecodeError):
            decode(stream, n, stride)
    else:
        assert decode(stream, n, stride) == expected


@given(st.integers(0, 2**32), st.integers(1, 3000), STRIDES)
def test_longer_arrays(seed: int, n: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(120, rng.uniform(0, 40), n * stride).astype(np.uint8).tobytes()
    assert decode(_core.adaptive_encode_bytes(values, stride), len(values), stride) == values


@pytest.mark.parametrize("n", [1, 2, 64, 1000])
def test_truncated_and_extended_streams_are_refused(n: int) -> None:
    values = np.random.default_rng(n).integers(0, 256, n, np.uint8)
    stream = _core.adaptive_encode_bytes(values)
    with pytest.raises(DecodeError, match="corrupt"):
        decode(stream + bytes(5), n)
    if len(stream) > 8:
        with pytest.raises(DecodeError, match="truncated"):
            decode(stream[:-8], n)


@pytest.mark.parametrize(
    ("values", "stride", "at_most"),
    [
        (b"", 1, 0),
        (bytes([7] * 1000), 1, 8),
        (np.arange(512, dtype=np.int64), 8, 40),  # position ids
        (np.arange(0, 40000, 10, dtype=np.int32), 4, 80),
        (np.random.default_rng(0).integers(118, 126, 64, np.uint8), 1, 40),  # 24 bytes of information
        (np.random.default_rng(0).integers(0, 256, 1 << 16, np.uint8), 1, (1 << 16) * 1.01),
    ],
)
def test_sizes(values: bytes, stride: int, at_most: float) -> None:
    assert len(_core.adaptive_encode_bytes(values, stride)) <= at_most


def test_one_value_takes_one_or_two_bytes() -> None:
    assert all(len(_core.adaptive_encode_bytes(bytes([v]))) <= 2 for v in range(256))


def test_bad_strides() -> None:
    for stride in (0, 3, 16):
        with pytest.raises(ValueError, match="stride must be 1, 2, 4 or 8"):
            _core.adaptive_encode_bytes(b"", stride)
    with pytest.raises(ValueError, match="no multiple of stride 4"):
        _core.adaptive_encode_bytes(b"12345", 4)
    with pytest.raises(ValueError, match="no multiple of stride 4"):
        _core.adaptive_decode_bytes(b"12345", bytearray(5), 4)
