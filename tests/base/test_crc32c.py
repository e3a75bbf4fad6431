"""Checksum: known values, chaining, table against instruction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncodec import _core
from nncodec.reference import crc32c as twin

DATA = np.random.default_rng(5).integers(0, 256, 1 << 15, np.uint8)


@pytest.fixture
def restore_isa() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


@pytest.mark.usefixtures("restore_isa")
@pytest.mark.parametrize("isa", _core.supported_isas())
def test_known_values(isa: str) -> None:
    """The check value of the CRC catalogues and the four vectors of RFC 3720, B.4."""
    _core.force_isa(isa)
    assert _core.crc32c(b"123456789") == 0xE3069283
    assert _core.crc32c(b"") == 0
    assert _core.crc32c(bytes(32)) == 0x8A9136AA
    assert _core.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert _core.crc32c(bytes(range(32))) == 0x46DD794E
    assert _core.crc32c(bytes(range(31, -1, -1))) == 0x113FDB5C


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_chaining_and_twin(head: bytes, tail: bytes, seed: int) -> None:
    assert _core.crc32c(head + tail, seed) == _core.crc32c(tail, _core.crc32c(head, seed))
    assert _core.crc32c(head, seed) == twin.crc32c(head, seed)


@pytest.mark.usefixtures("restore_isa")
def test_levels_agree_on_all_lengths_and_alignments() -> None:
    # Lengths around the places where the fast versions change their loops (3 x 1024, 256, 64, 8 bytes), all small ones.
    lengths = [*range(70), *range(250, 390), *range(505, 580), *range(3060, 3090), *range(6130, 6160)]
    cases = [(start, length) for length in lengths for start in range(9)]
    results = {}
    for isa in _core.supported_isas():
        _core.force_isa(isa)
        results[isa] = [_core.crc32c(DATA[s : s + n], 77) for s, n in cases]
    assert all(result == results["scalar"] for result in results.values())


@given(st.integers(0, 20000), st.integers(0, 7), st.integers(0, 12000))
def test_every_flipped_bit_shows(position: int, bit: int, length: int) -> None:
    data = DATA[:20001].copy()
    before = _core.crc32c(data)
    data[position] ^= 1 << bit
    assert _core.crc32c(data) != before
    assert _core.crc32c(data[length:], _core.crc32c(data[:length])) == _core.crc32c(data)
