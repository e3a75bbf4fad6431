"""Bit packing: the engine and the twin make the same bytes and refuse the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncodec import DecodeError, _core
from nncodec.reference import bits as twin

WIDTHS = st.one_of(
    st.tuples(st.just(2), st.integers(1, 16)),
    st.tuples(st.just(4), st.integers(1, 32)),
)


@given(WIDTHS, st.integers(0, 200), st.integers(0, 2**32))
def test_engine_and_twin_agree(width: tuple[int, int], n: int, seed: int) -> None:
    code_bytes, bits = width
    dtype = np.dtype(f"u{code_bytes}")
    codes = np.random.default_rng(seed).integers(0, 2**bits, n).astype(dtype)
    packed = _core.bitpack(codes, bits, code_bytes)
    assert packed == twin.bitpack(codes.tolist(), bits)
    out = np.ones(n, dtype)
    _core.bitunpack(packed, bits, out, code_bytes)
    assert np.array_equal(out, codes)
    assert twin.bitunpack(packed, n, bits) == codes.tolist()


@given(WIDTHS, st.binary(max_size=40), st.integers(0, 30), st.booleans())
def test_hostile_bytes(width: tuple[int, int], packed: bytes, n: int, right_size: bool) -> None:
    code_bytes, bits = width
    if right_size:
        packed = packed.ljust(40, b"\x55")[: twin.packed_size(n, bits)].ljust(
            twin.packed_size(n, bits), b"\1"
        )
    out = np.zeros(n, f"u{code_bytes}")
    try:
        expected = twin.bitunpack(packed, n, bits)
    except DecodeError:
        with pytest.raises(DecodeError, match=r"packed codes: (truncated|corrupt)"):
            _core.bitunpack(packed, bits, out, code_bytes)
    else:
        _core.bitunpack(packed, bits, out, code_bytes)
        assert out.tolist() == expected


def test_bad_arguments() -> None:
    codes = np.array([1, 4], np.uint16)
    with pytest.raises(ValueError, match=r"below 2\^2"):
        _core.bitpack(codes, 2)
    for bits, code_bytes in ((0, 2), (17, 2), (33, 4)):
        with pytest.raises(ValueError, match="bits must be from 1 to"):
            _core.bitpack(codes, bits, code_bytes)
    with pytest.raises(ValueError, match="code_bytes must be 2 or 4"):
        _core.bitpack(codes, 3, 3)
    with pytest.raises(ValueError, match="no multiple of 2"):
        _core.bitpack(b"123", 3)
    with pytest.raises(TypeError, match="out must be a C-contiguous writable buffer, got bytes"):
        _core.bitunpack(b"", 3, b"")


def test_codes_must_be_aligned() -> None:
    with pytest.raises(ValueError, match="aligned"):
        _core.bitpack(memoryview(bytearray(9))[1:], 3, 2)
