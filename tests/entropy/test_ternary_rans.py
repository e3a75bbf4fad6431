"""rANS of base-3^5 bytes: kernel and twin agree, the rate is near the entropy, damage is refused."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import DecodeError, _core
from nncodec.reference import ternary_rans as twin


def trits(n: int, density: float, seed: int, clustered: bool = False) -> bytes:
    """``n`` digits packed; ``clustered``: density varies over stretches of 400."""
    rng = np.random.default_rng(seed)
    share = np.full(n, density)
    if clustered:
        share *= np.repeat(rng.choice([0.02, 0.5, 2.5], -(-n // 400)), 400)[:n]
    other = rng.random(n) < share
    packed = np.empty(-(-n // 5), np.uint8)
    values = (other * rng.choice([-1, 1], n)).astype(np.float32)
    _core.ternary_quantise(values, 2, None, 1.0, "consecutive", packed)
    return packed.tobytes()


def entropy_of(packed: bytes) -> float:
    """Bits of the digits' zero-order entropy, for a number of digits that is a multiple of five."""
    digits = np.frombuffer(packed, np.uint8)[:, None] // np.array([81, 27, 9, 3, 1], np.uint8) % 3
    counts = np.bincount(digits.reshape(-1))
    return float(sum(c * np.log2(digits.size / c) for c in counts if c))


def decode(stream: bytes, n: int) -> bytes:
    out = np.empty(n, np.uint8)
    _core.ternary_rans_decode(stream, out)
    return out.tobytes()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0, 1, 4, 5, 37, 1000, 4001]),
    st.sampled_from([0.0, 0.002, 0.05, 0.4, 0.67, 1.0]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_kernel_agrees_with_twin(n: int, density: float, seed: int, clustered: bool) -> None:
    packed = trits(n, density, seed, clustered)
    stream = _core.ternary_rans_encode(packed)
    assert stream == twin.encode(packed)
    assert decode(stream, len(packed)) == twin.decode(stream, len(packed)) == packed


@pytest.mark.parametrize(("n", "density", "lanes_log2"), [(9000, 0.3, 2), (14000, 0.9, 3)])
def test_many_digits_take_several_lanes(n: int, density: float, lanes_log2: int) -> None:
    packed = trits(n, density, 3)
    stream = _core.ternary_rans_encode(packed)
    assert stream[0] == 8 + lanes_log2
    assert stream == twin.encode(packed)
    assert decode(stream, len(packed)) == packed


@pytest.mark.parametrize("byte", range(243))
def test_every_byte(byte: int) -> None:
    packed = bytes([byte, 121, byte, byte])
    assert decode(_core.ternary_rans_encode(packed), 4) == packed


@pytest.mark.parametrize("density", range(twin.DENSITIES))
def test_tables_are_whole(density: int) -> None:
    start, frequency = twin.table(density)
    assert min(frequency) >= 1
    assert sum(frequency) == 1 << 16
    assert start == [sum(frequency[:k]) for k in range(32)]


@pytest.mark.parametrize("share", [0.0003, 0.003, 0.02, 0.07, 0.2, 0.5, 0.67, 0.95])
def test_rate_is_near_the_entropy(share: float) -> None:
    packed = trits(1_000_000, share, 5)
    entropy = entropy_of(packed)
    assert entropy < 8 * len(_core.ternary_rans_encode(packed)) < 1.015 * entropy + 200


def test_contexts_go_below_the_entropy_where_digits_cluster() -> None:
    packed = trits(500_000, 0.05, 5, clustered=True)
    assert 8 * len(_core.ternary_rans_encode(packed)) < 0.95 * entropy_of(packed)


@pytest.mark.parametrize(("n", "density"), [(2000, 0.02), (3000, 0.3), (9000, 0.3)])
def test_damaged_streams_never_crash(n: int, density: float) -> None:
    packed = trits(n, density, 2)
    stream = _core.ternary_rans_encode(packed)
    rng = np.random.default_rng(1)
    for at in range(0, len(stream), max(1, len(stream) // 200)):
        damaged = bytearray(stream)
        damaged[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            assert max(decode(bytes(damaged), len(packed))) <= 242
        with pytest.raises(DecodeError):
            decode(stream[:at], len(packed))
    with pytest.raises(DecodeError):
        decode(stream + b"\0", len(packed))
    with pytest.raises(DecodeError):
        decode(stream, len(packed) + 5)


def test_headers_are_checked() -> None:
    for stream, match in (
        (b"", "header needs"),
        (b"\x10", "header is 16"),
        (b"\x04", "header is 4"),
        (b"\x00\x48", "density is 72"),
        (b"\x00\x03\0\0\0\0", "state is below"),
    ):
        with pytest.raises(DecodeError, match=match):
            decode(stream, 1)
    with pytest.raises(ValueError, match="above 242"):
        _core.ternary_rans_encode(b"\xf3")
