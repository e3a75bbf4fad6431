"""Ternary quantiser: kernels and plain-Python twin agree bit for bit; nothing is lost between message and residual."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference import ternary as twin

DTYPES = {2: np.dtype(np.float32), 3: np.dtype(np.float16), 4: np.dtype(ml_dtypes.bfloat16)}
LAYOUTS = ("planar", "consecutive")


@pytest.fixture(params=_core.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.force_isa(request.param)
    yield request.param
    _core.force_isa(before)


def bits_of(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array.view(np.uint32 if array.itemsize == 4 else np.uint16)


def make(dtype: int, n: int, seed: int, scale: float) -> NDArray[np.generic]:
    rng = np.random.default_rng(seed)
    x = np.clip(rng.standard_t(3, n) * scale, -3e4, 3e4)
    x[rng.random(n) < 0.1] = 0
    return x.astype(DTYPES[dtype])


def packed_of(
    values: NDArray[np.generic], dtype: int, residual: NDArray[np.float32] | None, scale: float, layout: str
) -> bytes:
    packed = np.zeros(-(-values.size // 5), np.uint8)
    _core.ternary_quantise(bits_of(values), dtype, residual, scale, layout, packed)
    return packed.tobytes()


# A few around each multiple of what vector kernels take at a time (64, 320), and of what plain loops do (512, 2560).
SIZES = st.one_of(st.integers(0, 400), st.sampled_from([639, 640, 641, 1605, 2559, 2560, 2561, 3001]))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(DTYPES)),
    SIZES,
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-6, 1.0, 300.0]),
    st.sampled_from(LAYOUTS),
    st.booleans(),
    st.sampled_from([1.0, 1.25, 1.75, 1.99]),
)
def test_kernels_agree_with_twin(
    dtype: int, n: int, seed: int, scale: float, layout: str, fed_back: bool, s: float
) -> None:
    values = make(dtype, n, seed, scale)
    floats = values.astype(np.float32)
    residual = make(2, n, seed + 1, scale / 2) if fed_back else None
    before = None if residual is None else residual.tolist()
    largest = twin.absmax(floats.tolist(), before)
    m = twin.scale_of(largest, s)
    digits, left = twin.quantise(floats.tolist(), before, m)
    packed = twin.pack(digits, layout)
    out = make(dtype, n, seed + 2, scale)
    added = out.astype(np.float32) + np.float32(m) * (np.array(digits, np.float32) - 1)
    added = np.where(np.array(digits) == 1, out, added.astype(DTYPES[dtype]))

    active = _core.isa()
    try:
        for isa in _core.supported_isas():
            _core.force_isa(isa)
            assert _core.ternary_absmax(bits_of(values), dtype, residual) == largest
            assert _core.ternary_scale(largest, s) == m
            kept = None if residual is None else residual.copy()
            assert packed_of(values, dtype, kept, m, layout) == packed
            if kept is not None:
                assert kept.tolist() == left
            result = out.copy()
            _core.ternary_expand(packed, bits_of(result), dtype, m, layout, True)
            np.testing.assert_array_equal(bits_of(result), bits_of(added))
            _core.ternary_expand(packed, bits_of(result), dtype, m, layout, False)
            expected = np.array(twin.expand(packed, [0.0] * n, m, layout, False), np.float32)
            np.testing.assert_array_equal(bits_of(result), bits_of(expected.astype(DTYPES[dtype])))
            if dtype == 2:
                result = out.copy()
                _core.ternary_expand(packed, result, dtype, m, layout, True)
                assert result.tolist() == twin.expand(packed, out.tolist(), m, layout, True)
    finally:
        _core.force_isa(active)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_byte_vectors_of_the_paper(layout: str, isa: str) -> None:
    for digits, byte in (
        ([0] * 5, 121),
        ([-1] * 5, 0),
        ([1] * 5, 242),
        ([1, 0, 0, 0, 0], 202),
        ([0, 0, 0, 0, 1], 122),
    ):
        values = np.array(digits, np.float32)
        assert packed_of(values, 2, None, 1.0, layout) == bytes([byte])
        out = np.full(5, 7, np.float32)
        _core.ternary_expand(bytes([byte]), out, 2, 1.0, layout)
        assert out.tolist() == digits


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_byte_has_the_digits_of_division(layout: str, isa: str) -> None:
    packed = bytes(range(243)) * 3  # vectors, and what vectors leave over
    out = np.empty(5 * len(packed), np.float32)
    _core.ternary_expand(packed, out, 2, 1.0, layout)
    assert (out + 1).tolist() == twin.unpack(packed, out.size, layout)


@pytest.mark.parametrize("s", [1.0, 1.5, 1.75, 1.9])
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_nothing_is_lost_and_the_residual_is_bounded(dtype: int, s: float, isa: str) -> None:
    """E_before = L + E_after exactly, and |E_after| <= M / 2, at each of fifty steps."""
    n = 3333
    residual = np.zeros(n, np.float32)
    for step in range(50):
        values = make(dtype, n, step, 1.0)
        before = residual + values.astype(np.float32)
        largest = _core.ternary_absmax(bits_of(values), dtype, residual)
        assert largest == np.abs(before).max()
        m = _core.ternary_scale(largest, s)
        packed = packed_of(values, dtype, residual, m, "consecutive")
        sent = np.zeros(n, np.float32)
        _core.ternary_expand(packed, sent, 2, m, "consecutive")
        np.testing.assert_array_equal(before.astype(np.float64), sent.astype(np.float64) + residual)
        assert np.abs(residual).max() <= m / 2
        assert np.count_nonzero(sent) >= 1  # s < 2: the largest always survives


@pytest.mark.parametrize("place", [0, 17, 320, 999, 1000])
@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_not_finite_is_seen_wherever_it_is(dtype: int, place: int, isa: str) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        values = make(dtype, 1001, 1, 1.0)
        residual = np.zeros(1001, np.float32)
        values[place] = bad
        assert _core.ternary_absmax(bits_of(values), dtype) == np.inf
        assert _core.ternary_absmax(bits_of(values), dtype, residual) == np.inf
        values[place] = 1
        residual[place] = bad
        assert _core.ternary_absmax(bits_of(values), dtype, residual) == np.inf
    overflowing = np.full(2, 3e38, np.float32)
    assert _core.ternary_absmax(overflowing, 2, overflowing) == np.inf


def test_scales_at_the_ends_of_the_range(isa: str) -> None:
    largest = float(np.finfo(np.float32).max)
    assert _core.ternary_scale(largest, 1.5) == largest
    assert _core.ternary_scale(0.0, 1.5) == 0.0
    assert _core.ternary_scale(2.0**-120, 1.0) == 2.0**-120
    assert _core.ternary_scale(2.0**-121, 1.5) == 0.0
    # Scale 0: all digits are zero and the residual keeps everything.
    values = np.array([2.0**-130, -(2.0**-149), 0.0] * 200, np.float32)
    residual = np.zeros_like(values)
    assert set(packed_of(values, 2, residual, 0.0, "planar")) == {121}
    assert residual.tobytes() == values.tobytes()


def test_a_tie_is_zero(isa: str) -> None:
    values = np.array([0.5, -0.5, np.nextafter(np.float32(0.5), np.float32(1)), 1.0], np.float32)
    packed = packed_of(values, 2, None, 1.0, "consecutive")
    assert twin.unpack(packed, 4, "consecutive") == [1, 1, 2, 2]


def test_arguments_are_checked() -> None:
    values, packed = np.zeros(6, np.float32), np.zeros(2, np.uint8)
    for call, match in (
        (lambda: _core.ternary_quantise(values, 1, None, 1.0, "planar", packed), "dtype"),
        (
            lambda: _core.ternary_quantise(values, 2, values[:3].copy(), 1.0, "planar", packed),
            "residual has 3",
        ),
        (lambda: _core.ternary_quantise(values, 2, None, 1.0, "x", packed), "layout"),
        (lambda: _core.ternary_quantise(values, 2, None, np.nan, "planar", packed), "scale"),
        (lambda: _core.ternary_quantise(values, 2, None, 1.0, "planar", packed[:1]), "packed has 1"),
        (lambda: _core.ternary_expand(b"\xf3y", values, 2, 1.0, "planar"), "above 242"),
        (lambda: _core.ternary_expand(packed, values, 2, np.inf, "planar"), "scale"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(TypeError, match="residual"):
        _core.ternary_quantise(values, 2, bytes(24), 1.0, "planar", packed)
