"""Messages between workers: whatever a message does not say stays in the residual; nothing else is believed."""

from __future__ import annotations

from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from nncodec import DecodeError, _core

DTYPES = {2: np.dtype(np.float32), 3: np.dtype(np.float16), 4: np.dtype(ml_dtypes.bfloat16)}
MODES = [(layout, entropy) for layout in ("planar", "consecutive") for entropy in ("zero_run", "rans")]


def bits_of(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array.view(np.uint32 if array.itemsize == 4 else np.uint16)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("mode", MODES)
def test_messages_and_residual_add_up(mode: tuple[str, str], dtype: int) -> None:
    rng = np.random.default_rng(1)
    residual = np.zeros(1234, np.float32)
    for _ in range(20):
        values = rng.laplace(size=1234).astype(DTYPES[dtype])
        before = residual + values.astype(np.float32)
        message = _core.ternary_compress(bits_of(values), dtype, residual, 1.5, *mode)
        assert message is not None
        said = np.full(1234, 9, np.float32)
        _core.ternary_decompress(message, said, 2)
        np.testing.assert_array_equal(said.astype(np.float64) + residual, before.astype(np.float64))
        _core.ternary_decompress(message, said, 2, -1.0, True)
        assert not said.any()


# 65,536 independent values a step, 200 steps, mean of the last 100: bits per value and share of digits that are not
# zero, as computed for the paper's algorithm with an ideal zero-run coder.
STEADY = {
    ("normal", 1.0): (1.09, 0.109), ("normal", 1.5): (0.53, 0.038), ("normal", 1.75): (0.23, 0.011),
    ("laplace", 1.0): (0.68, 0.057), ("laplace", 1.5): (0.33, 0.020), ("laplace", 1.75): (0.15, 0.003),
}  # fmt: skip


@pytest.mark.parametrize(("source", "s"), sorted(STEADY))
def test_steady_state_of_error_feedback(source: str, s: float) -> None:
    rng = np.random.default_rng(4)
    n = 65536
    residual, bits, others = np.zeros(n, np.float32), [], []
    for step in range(200):
        values = (rng.standard_normal(n) if source == "normal" else rng.laplace(size=n)).astype(np.float32)
        message = _core.ternary_compress(values, 2, residual, s, "planar", "zero_run")
        if step >= 100:
            assert message is not None
            out = np.empty(n, np.float32)
            _core.ternary_decompress(message, out, 2)
            bits.append(8 * len(message) / n)
            others.append(np.count_nonzero(out) / n)
    want_bits, want_others = STEADY[source, s]
    assert np.mean(bits) == pytest.approx(want_bits, rel=0.08)  # M follows the largest of many values
    assert np.mean(others) == pytest.approx(want_others, rel=0.15, abs=0.0005)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_refused_values_leave_the_residual_alone(dtype: int) -> None:
    residual = np.arange(100, dtype=np.float32)
    before = residual.copy()
    values = np.ones(100, DTYPES[dtype])
    values[50] = np.nan
    assert _core.ternary_compress(bits_of(values), dtype, residual, 1.0, "planar", "rans") is None
    np.testing.assert_array_equal(residual, before)
    raw = _core.ternary_compress_raw(bits_of(values), dtype)
    out = np.zeros(100, DTYPES[dtype])
    _core.ternary_decompress(raw, bits_of(out), dtype, 0.5)
    expected = values / np.asarray(2, DTYPES[dtype])
    np.testing.assert_array_equal(out.astype(np.float32), expected.astype(np.float32))
    values[50] = 3
    _core.ternary_decompress(_core.ternary_compress_raw(bits_of(values), dtype), bits_of(out), dtype)
    _core.ternary_decompress(
        _core.ternary_compress_raw(bits_of(values), dtype), bits_of(out), dtype, 1.0, True
    )
    np.testing.assert_array_equal(out.astype(np.float32), 2 * values.astype(np.float32))


def test_zeros_take_one_byte() -> None:
    for mode in MODES:
        message = _core.ternary_compress(np.zeros(999, np.float32), 2, None, 1.0, *mode)
        assert message == b"\x05"
        out = np.ones(999, np.float32)
        _core.ternary_decompress(message, out, 2, 1.0, True)
        assert out.all()
        _core.ternary_decompress(message, out, 2)
        assert not out.any()
    assert _core.ternary_compress(np.zeros(0, np.float32), 2, None, 1.0, "planar", "rans") == b"\x05"


@pytest.mark.parametrize("mode", MODES)
def test_damaged_messages_change_nothing(mode: tuple[str, str]) -> None:
    rng = np.random.default_rng(2)
    message = _core.ternary_compress(rng.laplace(size=777).astype(np.float32), 2, None, 1.0, *mode)
    assert message is not None
    for at in range(len(message)):
        out = np.ones(777, np.float32)
        with pytest.raises(DecodeError):
            _core.ternary_decompress(message[:at], out, 2, 1.0, True)
        assert (out == 1).all()
        damaged = bytearray(message)
        damaged[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            _core.ternary_decompress(bytes(damaged), out, 2)
    for n in (770, 771, 776, 800):
        if -(-n // 5) != -(-777 // 5):
            with pytest.raises(DecodeError):
                _core.ternary_decompress(message, np.ones(n, np.float32), 2)
    for bad, match in (
        (b"", "kind of message needs"),
        (b"\x06", "unknown 6"),
        (b"\x05\x00", "too many"),
        (b"\x04abc", "values needs"),
        (b"\x00" + np.float32(0).tobytes(), "scale is none"),
        (b"\x00" + np.float32(-1).tobytes(), "scale is none"),
        (b"\x00" + np.float32(np.inf).tobytes(), "scale is none"),
        (b"\x00" + np.float32(3e38).tobytes() + b"y", "scale is too large"),
    ):
        with pytest.raises(DecodeError, match=match):
            _core.ternary_decompress(bad, np.ones(5, np.float32), 2, 2.0)
