"""Uniform quantiser: kernel and plain-Python twin agree bit for bit, errors stay within a step."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import DecodeError, _core
from nncodec.reference import uniform as twin

DTYPES = {1: np.float64, 2: np.float32, 3: np.float16, 4: ml_dtypes.bfloat16}
BITS = {1: np.uint64, 2: np.uint32, 3: np.uint16, 4: np.uint16}
ROUNDING = ([0.0] + [twin.base_magnitude(t) - 0.5 for t in range(1, 63)], [0.0] * 63)

arrays = st.tuples(
    st.sampled_from(sorted(DTYPES)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 80),
    st.sampled_from([1e-6, 0.01, 0.3, 1.0, 50.0]),
)


def make(dtype: int, seed: int, n: int, scale: float) -> NDArray[np.generic]:
    rng = np.random.default_rng(seed)
    x = rng.standard_t(2, n) * scale
    x[rng.random(n) < 0.2] = 0
    return np.clip(x, -60000, 60000).astype(DTYPES[dtype])


@pytest.mark.parametrize("magnitude", [0, 1, 2, 31, 32, 33, 39, 40, 63, 64, 12345, 2**29 - 1])
def test_a_token_and_its_raw_bits_name_one_level(magnitude: int) -> None:
    for level in {magnitude, -magnitude}:
        token = twin.token_of(level)
        assert token < 255
        assert twin.is_negative(token) == (level < 0)
        assert 0 <= magnitude - twin.base_magnitude(token) < 2 ** twin.extra_bits(token)


@given(st.sampled_from(sorted(DTYPES)), st.floats(allow_nan=False))
def test_rounding_agrees_with_twin(dtype: int, value: float) -> None:
    assert _core.round_to(dtype, value) == twin.round_to(dtype, value)


@given(st.sampled_from([2, 3, 4]), st.floats(-60000, 60000, width=32))
def test_rounding_agrees_with_numpy(dtype: int, value: float) -> None:
    assert _core.round_to(dtype, value) == int(np.float32(value).astype(DTYPES[dtype]).view(BITS[dtype]))


@settings(max_examples=60)
@given(arrays, st.sampled_from([1e-4, 0.02, 0.7]), st.integers(1, 9), st.booleans(), st.data())
def test_kernel_agrees_with_twin(
    array: tuple[int, int, int, float], step: float, columns: int, weighted: bool, data: st.DataObject
) -> None:
    dtype, seed, n, _ = array
    x = make(*array)
    rng = np.random.default_rng(seed)
    row = rng.integers(0, 3, -(-n // columns), np.uint8)
    column = rng.integers(0, 2, columns, np.uint8)
    bits = rng.integers(0, 3000, (4, 256), np.uint32)
    offsets = rng.integers(-63, 64, (4, 65), np.int8)
    strength = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    rules = [_core.uniform_thresholds(b, o, strength) for b, o in zip(bits, offsets, strict=True)]
    for rule, b, o in zip(rules, bits, offsets, strict=True):
        expected = twin.rate_aware_thresholds(b.tolist(), o.tolist(), strength)
        assert (list(rule[0]), list(rule[1])) == (list(expected[0]), list(expected[1]))
    importance = rng.random(n, np.float32) if weighted else None

    def context(e: int) -> int:
        return int(row[e // columns]) + int(column[e % columns])

    tokens, extra = _core.uniform_quantise(x, dtype, step, columns, row, column, rules, importance)
    weights = None if importance is None else importance.astype(float).tolist()
    expected_tokens, expected_extra = twin.quantise(x.astype(float).tolist(), step, context, rules, weights)
    assert (list(tokens), extra) == (expected_tokens, expected_extra)

    table_of = np.array([0, 1, 1, 3], np.uint8)
    out = np.empty(n, BITS[dtype])
    _core.uniform_dequantise(tokens, extra, dtype, step, columns, row, column, offsets, table_of, out)
    assert out.tolist() == twin.dequantise(
        list(tokens), extra, dtype, step, context, offsets.tolist(), table_of.tolist()
    )


@given(arrays, st.sampled_from([1e-4, 0.02, 0.7]))
def test_rounding_errs_by_half_a_step(array: tuple[int, int, int, float], step: float) -> None:
    dtype, _, n, _ = array
    x = make(*array)
    tokens, extra = _core.uniform_quantise(x, dtype, step, max(n, 1), b"", b"", [ROUNDING])
    out = np.empty(n, DTYPES[dtype])
    plain, one = bytes(65), bytes(1)
    _core.uniform_dequantise(
        tokens, extra, dtype, step, max(n, 1), b"", b"", plain, one, out.view(BITS[dtype])
    )
    error = np.abs(x.astype(float) - out.astype(float))
    ulp = np.abs(x.astype(float)) * 2.0 ** -{1: 52, 2: 23, 3: 10, 4: 7}[dtype] + 1e-7
    assert (error <= step / 2 * (1 + 1e-9) + ulp).all()


def test_raw_bits_must_fit_the_tokens() -> None:
    out = np.empty(2, np.uint32)

    def decode(tokens: bytes, extra: bytes) -> None:
        _core.uniform_dequantise(tokens, extra, 2, 1.0, 2, b"", b"", bytes(65), bytes(1), out)

    decode(bytes([63, 0]), b"\x05")
    assert out.view(np.float32).tolist() == [37.0, 0.0]
    for tokens, extra, cause in [
        ([63, 0], b"", "truncated"),
        ([63, 0], b"\x05\x00", "corrupt"),
        ([63, 0], b"\x15", "corrupt"),
        ([0, 0], b"\x00", "corrupt"),
        ([255, 0], bytes(8), "above 254"),
    ]:
        with pytest.raises(DecodeError, match=cause):
            decode(bytes(tokens), extra)
