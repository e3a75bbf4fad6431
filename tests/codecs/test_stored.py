"""Codec `stored`: every bit comes back, nothing is added but the frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nncodec
from nncodec.codecs import CODECS
from nncodec.dtypes import BY_CODE


@given(st.sampled_from(sorted(BY_CODE)), st.binary(max_size=160), st.integers(1, 3))
def test_round_trip(code: int, raw: bytes, threads: int) -> None:
    row = BY_CODE[code]
    data = np.frombuffer(raw[: len(raw) // row.size * row.size], np.uint8)
    if row.name == "bool":
        data = data & 1
    tensor = data.view(row.numpy())
    out = nncodec.decode(nncodec.encode({"w": tensor}, "stored", threads=threads), framework="np")["w"]
    assert out.dtype == tensor.dtype
    assert out.tobytes() == tensor.tobytes()


def test_many_chunks_are_stored_as_they_are() -> None:
    tensor = np.random.default_rng(0).integers(0, 256, (3, 1 << 18), dtype=np.uint8)
    blob = nncodec.encode({"w": tensor}, "stored")
    assert tensor.nbytes < len(blob) < tensor.nbytes + 200
    assert tensor[2].tobytes() in blob
    assert np.array_equal(nncodec.decode(blob)["w"], tensor)


def test_a_model_is_refused() -> None:
    with pytest.raises(nncodec.DecodeError, match="no model"):
        CODECS["stored"].decoder(1, 2, ((1,),), 1 << 18, b"x")
