"""Range coder and models: the engine and the twin make the same bytes and read each other's."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import DecodeError, _core
from nncodec.reference import range_coder as twin

PROBABILITIES = st.one_of(st.integers(1, 65535), st.sampled_from([1, 2, 32768, 65534, 65535]))
BITS = st.lists(st.tuples(st.integers(0, 1), PROBABILITIES), max_size=400)
SYMBOLS = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from([0, 1, 255]), max_size=200).map(bytes))
INTEGERS = st.lists(
    st.one_of(st.integers(0, 2**32 - 2), st.integers(0, 9), st.integers(0, 31).map(lambda k: 2**k - 1)),
    max_size=100,
)


def decode_bits(stream: bytes, probabilities: NDArray[np.uint16]) -> list[int]:
    out = np.zeros(len(probabilities), np.uint8)
    _core.range_decode_bits(stream, probabilities, out)
    return out.tolist()


@given(BITS)
def test_bits(pairs: list[tuple[int, int]]) -> None:
    bits = [bit for bit, _ in pairs]
    probabilities = np.array([p for _, p in pairs], np.uint16)
    encoder = twin.BinaryEncoder()
    for bit, p in pairs:
        encoder.code(bit, p)
    stream = encoder.finish()
    assert _core.range_encode_bits(bytes(bits), probabilities) == stream

    assert decode_bits(stream, probabilities) == bits
    decoder = twin.BinaryDecoder(stream)
    assert [decoder.code(0, p) for _, p in pairs] == bits
    decoder.finish()


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.sampled_from([1, 65535]))
def test_carries_run_through_many_bytes(bits: list[bool], p: int) -> None:
    """Improbable bits put low just below a power of 256 and then over it."""
    probabilities = np.full(len(bits), p, np.uint16)
    stream = _core.range_encode_bits(bytes(bits), probabilities)
    assert decode_bits(stream, probabilities) == bits


@given(SYMBOLS, st.booleans())
def test_symbols(symbols: bytes, two_rates: bool) -> None:
    model = twin.TwoRateModel if two_rates else twin.BitModel
    encoder, tree = twin.BinaryEncoder(), twin.BitTree(8, model)
    for symbol in symbols:
        tree.code(encoder, symbol)
    stream = encoder.finish()
    assert _core.range_encode_symbols(symbols, two_rates) == stream

    out = bytearray(len(symbols))
    _core.range_decode_symbols(stream, out, two_rates)
    assert bytes(out) == symbols
    decoder, tree = twin.BinaryDecoder(stream), twin.BitTree(8, model)
    assert bytes(tree.code(decoder, 0) for _ in symbols) == symbols
    decoder.finish()


@given(INTEGERS)
def test_integers(values: list[int]) -> None:
    encoder, model = twin.BinaryEncoder(), twin.ExpGolomb()
    for value in values:
        model.code(encoder, value)
    stream = encoder.finish()
    assert _core.range_encode_integers(np.array(values, np.uint32)) == stream

    out = np.zeros(len(values), np.uint32)
    _core.range_decode_integers(stream, out)
    assert out.tolist() == values
    decoder, model = twin.BinaryDecoder(stream), twin.ExpGolomb()
    assert [model.code(decoder, 0) for _ in values] == values
    decoder.finish()


def outcome(decode: object, *arguments: object) -> object:
    try:
        return decode(*arguments)  # type: ignore[operator]
    except DecodeError:
        return DecodeError


@given(st.binary(max_size=60), st.lists(PROBABILITIES, max_size=200))
def test_hostile_bits_decode_alike(stream: bytes, probabilities: list[int]) -> None:
    def by_twin() -> list[int]:
        decoder = twin.BinaryDecoder(stream)
        bits = [decoder.code(0, p) for p in probabilities]
        decoder.finish()
        return bits

    assert outcome(decode_bits, stream, np.array(probabilities, np.uint16)) == outcome(by_twin)


@given(st.binary(max_size=60), st.integers(0, 100))
def test_hostile_integers_decode_alike(stream: bytes, n: int) -> None:
    def by_engine() -> list[int]:
        out = np.zeros(n, np.uint32)
        _core.range_decode_integers(stream, out)
        return out.tolist()

    def by_twin() -> list[int]:
        decoder, model = twin.BinaryDecoder(stream), twin.ExpGolomb()
        values = [model.code(decoder, 0) for _ in range(n)]
        decoder.finish()
        return values

    assert outcome(by_engine) == outcome(by_twin)


@given(st.binary(max_size=60), st.integers(0, 300), st.booleans())
def test_hostile_symbols_end_or_are_refused(stream: bytes, n: int, two_rates: bool) -> None:
    with suppress(DecodeError):
        _core.range_decode_symbols(stream, bytearray(n), two_rates)


def test_length_is_the_information_and_at_most_a_byte_more() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.integers(1, 65536, 20000).astype(np.uint16)
    bits = (rng.integers(0, 65536, 20000) < probabilities).astype(np.uint8)
    chance = probabilities / 65536
    information = -np.log2(np.where(bits == 1, chance, 1 - chance)).sum() / 8
    assert information <= len(_core.range_encode_bits(bits, probabilities)) <= information * 1.0001 + 1


def test_nothing_takes_no_bytes() -> None:
    assert _core.range_encode_bits(b"", np.zeros(0, np.uint16)) == b""
    assert _core.range_encode_integers(np.zeros(0, np.uint32)) == b""
    with pytest.raises(DecodeError, match="corrupt"):
        _core.range_decode_integers(b"\0\0\0\0\0", np.zeros(0, np.uint32))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        _core.range_encode_bits(b"\0", np.zeros(1, np.uint16))
    with pytest.raises(ValueError, match="as many as bits"):
        _core.range_encode_bits(b"\0", np.ones(2, np.uint16))
    with pytest.raises(ValueError, match=r"below 2\^32 - 1"):
        _core.range_encode_integers(np.array([2**32 - 1], np.uint32))


def test_squash_and_stretch_are_inverse_and_monotone() -> None:
    xs = range(-twin.MAX_STRETCH, twin.MAX_STRETCH + 1)
    squashed = [twin.squash(x) for x in xs]
    assert squashed == sorted(squashed)
    exact = 65536 / (1 + np.exp(-np.array(xs) / 256))
    assert np.abs(np.clip(exact, 1, 65535) - squashed).max() <= 0.6
    for p in range(8, 65536, 16):
        assert abs(twin.stretch(p) - 256 * np.log(p / (65536 - p))) < max(
            1, 0.52 * 256 * 65536 / (p * (65536 - p)) + 1
        )
