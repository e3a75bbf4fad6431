"""Karhunen-Loeve transform: bases are orthogonal, decorrelate, and equal those of the twin on every ISA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import DecodeError, _core
from nncodec.reference import klt as twin
from nncodec.reference.adaptive_bytes import encode_bytes
from nncodec.reference.range_coder import BinaryEncoder, ExpGolomb


@pytest.fixture(params=_core.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.force_isa(request.param)
    yield request.param
    _core.force_isa(before)


def moments(n: int, seed: int, spread: float = 1.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    scale = np.exp2(rng.normal(0, spread, n))
    return np.ascontiguousarray((q * scale) @ q.T)


def inverse(stream: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.empty_like(x)
    _core.klt_inverse(stream, x.shape[1], x, out)
    return out


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 20),
    st.integers(0, 2**32 - 1),
    st.sampled_from([10.0, 1e3, 1e6]),
    st.sampled_from([0, 1, 6]),
)
def test_agrees_with_the_twin(n: int, seed: int, rows: float, spread: float) -> None:
    stream = _core.klt_encode_basis(moments(n, seed, spread), n, rows, 1e-3)
    basis = twin.decode_basis(stream, n)
    np.testing.assert_array_equal(inverse(stream, np.eye(n, dtype=np.float32)), np.float32(basis))
    x = np.random.default_rng(seed).normal(size=(37, n)).astype(np.float32)  # more than a block of rows
    few = [0, 31, 32, 36]
    expected = np.float32([twin.inverse(basis, [float(v) for v in x[r]]) for r in few])
    np.testing.assert_array_equal(inverse(stream, x)[few], expected)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 70),
    st.integers(1, 20) | st.sampled_from([128, 137]),
    st.sampled_from([50, 8000, 32767]),
    st.integers(0, 2**32 - 1),
)
def test_integers_agree_with_the_twin_on_every_isa(n: int, rows: int, most: int, seed: int) -> None:
    """Even where sums run over: they are modulo 2^32."""
    rng = np.random.default_rng(seed)
    stream = _core.klt_encode_basis(moments(n, seed), n, 1e3, 1e-3)
    x = rng.integers(-most, most + 1, (rows, n)).astype(np.int16)
    basis = twin.decode_basis(stream, n)
    few = min(rows, 2)
    want = [twin.inverse_integers(basis, [int(v) for v in row], float(np.float32(0.37))) for row in x[-few:]]
    before = _core.isa()
    seen = set()
    for isa in _core.supported_isas():
        _core.force_isa(isa)
        out = np.empty((rows, n), np.float32)
        _core.klt_inverse_integers(stream, n, x, np.float32(0.37), out)
        seen.add(out.tobytes())
        np.testing.assert_array_equal(out[-few:], np.float32(want), err_msg=isa)
    _core.force_isa(before)
    assert len(seen) == 1
    if most < 100:
        floats = inverse(stream, x.astype(np.float32)) * np.float32(0.37 * 2**14)
        np.testing.assert_allclose(out, floats, rtol=1e-5, atol=0.37 * most * n)


@pytest.mark.parametrize("n", [2, 16, 63, 64, 130])
def test_orthogonal_and_decorrelating(n: int, isa: str) -> None:
    matrix = moments(n, n)
    fine = _core.klt_encode_basis(matrix, n, 1e7, 1e-9)
    for stream in (fine, _core.klt_encode_basis(matrix, n, 100.0, 1e-9)):
        basis = inverse(stream, np.eye(n, dtype=np.float32)).astype(np.float64)
        np.testing.assert_allclose(basis @ basis.T, np.eye(n), atol=1e-6)
    basis = inverse(fine, np.eye(n, dtype=np.float32)).astype(np.float64)
    diagonal = basis @ matrix @ basis.T
    variances = np.diag(diagonal)
    np.testing.assert_allclose(np.sort(variances), np.linalg.eigvalsh(matrix), rtol=0.01)
    if n > 2:
        assert (np.diff(variances) < 0.01 * variances[:-1]).all()


def test_more_rows_buy_a_finer_basis() -> None:
    sizes = [len(_core.klt_encode_basis(moments(48, 1), 48, rows, 1e-3)) for rows in (1e2, 1e3, 1e4, 1e5)]
    assert sizes == sorted(set(sizes))
    angles = 48 * 47 / 2
    assert sizes[2] * 8 < 5 * angles


def test_same_numbers_on_every_isa(isa: str) -> None:
    n = 100
    x = np.random.default_rng(2).normal(size=(37, n)).astype(np.float32)
    now = _core.klt_encode_basis(moments(n, 5), n, 5e3, 1e-3)
    y = inverse(now, x)
    _core.force_isa("scalar")
    assert _core.klt_encode_basis(moments(n, 5), n, 5e3, 1e-3) == now
    np.testing.assert_array_equal(inverse(now, x), y)


def test_equal_eigenvalues_need_no_basis() -> None:
    assert len(_core.klt_encode_basis(np.eye(64), 64, 1e5, 1e-3)) < 80
    assert len(_core.klt_encode_basis(np.zeros((64, 64)), 64, 1e5, 1e-3)) < 80


@pytest.mark.parametrize("n", [2, 9, 40])
def test_damaged_bases_never_crash(n: int) -> None:
    rng = np.random.default_rng(n)
    stream = _core.klt_encode_basis(moments(n, n), n, 1e4, 1e-3)
    x = np.ones((2, n), np.float32)
    for at in range(len(stream)):
        with pytest.raises(DecodeError):
            inverse(stream[:at], x)
        damaged = bytearray(stream)
        damaged[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            y = inverse(bytes(damaged), x)
            np.testing.assert_allclose(np.linalg.norm(y, axis=1), n**0.5, rtol=1e-5)
    with pytest.raises(DecodeError):
        inverse(stream + b"\0", x)


def test_zero_rows_are_refused() -> None:
    for row, fine in (([0, 0], False), ([1, 0], True)):
        coder, model = BinaryEncoder(), ExpGolomb()
        for magnitude in row:
            model.code(coder, magnitude)
        classes, entries = encode_bytes(b"\0"), coder.finish()
        stream = bytes([len(classes)]) + classes + bytes([len(entries)]) + entries
        if fine:
            np.testing.assert_array_equal(np.abs(inverse(stream, np.eye(2, dtype=np.float32))), np.eye(2))
        else:
            with pytest.raises(DecodeError, match="a row of the basis is zero"):
                inverse(stream, np.eye(2, dtype=np.float32))


@pytest.mark.parametrize("n", [0, 1, 1025])
def test_columns_out_of_range(n: int) -> None:
    with pytest.raises(ValueError, match="columns must be 2 to 1024"):
        _core.klt_inverse(b"", n, b"", bytearray())
