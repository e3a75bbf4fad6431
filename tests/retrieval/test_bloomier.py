"""Bloomier tables: exact on keys, uniform elsewhere, the same bytes as the twin, the same scan on every ISA."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import DecodeError, _core
from nncodec.reference import bloomier as twin

Codes = NDArray[np.uint16]
Keys = NDArray[np.uint32]


def pairs(n: int, positions: int, values: int, seed: int) -> tuple[Keys, Codes]:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.choice(positions, n, replace=False)).astype(np.uint32)
    return keys, rng.integers(0, values, n).astype(np.uint16)


def query(table: bytes, shape: twin.Bloomier, keys: Keys) -> Codes:
    out = np.empty(keys.size, np.uint16)
    _core.bloomier_query(table, shape.third, shape.bits, shape.seed, keys, out)
    return out


def build(keys: Keys, codes: Codes, bits: int, cells: float = 1.23) -> tuple[bytes, twin.Bloomier]:
    third = int(np.ceil(cells * keys.size / 3))
    for seed in range(100):
        table = _core.bloomier_build(keys, codes, third, bits, seed)
        if table is not None:
            return table, twin.Bloomier(third, bits, seed)
    raise AssertionError("no seed works")


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 200), bits=st.integers(1, 16), seed=st.integers(0, 2**63), third=st.integers(1, 110))
def test_agrees_with_the_twin(n: int, bits: int, seed: int, third: int) -> None:
    keys, codes = pairs(n, 3 * n + 5, 1 << bits, seed % 1000)
    shape = twin.Bloomier(third, bits, seed)
    table = _core.bloomier_build(keys, codes, third, bits, seed)
    expected = dict(zip(keys.tolist(), codes.tolist(), strict=True))
    theirs = twin.build(shape, expected)
    assert (table is None) == (theirs is None)
    if table is None or theirs is None:
        return
    assert {key: twin.query(shape, table, key) for key in expected} == expected
    np.testing.assert_array_equal(query(theirs, shape, keys), codes)
    limit = max(1, (1 << bits) // 3)
    found, low = _core.bloomier_hits(table, third, bits, seed, 2, 300, limit)
    assert list(zip(found.tolist(), low.tolist(), strict=True)) == twin.hits(shape, table, 2, 300, limit)
    shrunk = _core.bloomier_shrink(table, third, bits)
    assert shrunk == twin.shrink(shape, table)
    assert _core.bloomier_expand(shrunk, third, bits) == twin.expand(shape, shrunk) == table


@pytest.mark.parametrize("bits", [1, 5, 8, 11, 16])
def test_scans_agree_on_every_isa(bits: int) -> None:
    keys, codes = pairs(1500, 20_000, 1 << bits, bits)
    table, shape = build(keys, codes, bits)
    before = _core.isa()
    everywhere = query(table, shape, np.arange(20_003, dtype=np.uint32))
    for name in _core.supported_isas():
        _core.force_isa(name)
        for limit in {1, (1 << bits) // 2 + 1, 1 << bits}:
            found, low = _core.bloomier_hits(table, shape.third, bits, shape.seed, 1, 20_003, limit)
            expected = np.flatnonzero(everywhere[1:] < limit) + 1
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(low, everywhere[expected])
    _core.force_isa(before)


def test_keys_are_exact_for_a_thousand_seeds() -> None:
    keys, codes = pairs(300, 10_000, 9, 2)
    worked = 0
    for seed in range(1000):
        table = _core.bloomier_build(keys, codes, 130, 8, seed)
        if table is not None:
            worked += 1
            np.testing.assert_array_equal(query(table, twin.Bloomier(130, 8, seed), keys), codes)
    assert worked > 500


def test_other_positions_are_uniform() -> None:
    """False positives at V / 2^t within three standard deviations, spread evenly over the values."""
    values, bits, positions = 9, 8, 400_000
    keys, codes = pairs(2800, positions, values, 3)
    table, shape = build(keys, codes, bits)
    found, low = _core.bloomier_hits(table, shape.third, bits, shape.seed, 0, positions, values)
    wrong = low[~np.isin(found, keys)]
    n, p = positions - keys.size, values / 2**bits
    assert abs(wrong.size - n * p) < 3 * np.sqrt(n * p * (1 - p))
    counts = np.bincount(wrong, minlength=values)
    chi2 = ((counts - wrong.size / values) ** 2 / (wrong.size / values)).sum()
    assert chi2 < 26.1  # 8 degrees of freedom, one in a thousand


def test_peeling_succeeds_as_often_as_it_should() -> None:
    """With 1.23 cells a key, at 3000 keys more than every other seed; with 1.1, below the threshold, none."""
    keys, codes = pairs(3000, 90_000, 9, 4)
    assert 10 <= sum(_core.bloomier_build(keys, codes, 1230, 8, s) is not None for s in range(40)) <= 40
    assert all(_core.bloomier_build(keys, codes, 1100, 8, s) is None for s in range(20))


def test_without_zeros_a_table_takes_what_its_assigned_cells_take() -> None:
    keys, codes = pairs(20_000, 600_000, 9, 5)
    table, shape = build(keys, codes, 8)
    shrunk = _core.bloomier_shrink(table, shape.third, 8)
    p = 20_000 / (3 * shape.third)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)) * 3 * shape.third
    assert 8 * len(shrunk) < 1.005 * (8 * 20_000 + entropy)
    for cut in (0, 1, len(shrunk) // 2, len(shrunk) - 8):
        with pytest.raises(DecodeError):
            _core.bloomier_expand(shrunk[:cut], shape.third, 8)
    with pytest.raises(DecodeError):
        _core.bloomier_expand(shrunk + bytes(8), shape.third, 8)


def test_refuses_wrong_arguments() -> None:
    keys, codes = pairs(10, 100, 4, 5)
    for third, bits in [(5, 0), (5, 17), (1 << 25, 4)]:
        with pytest.raises(ValueError, match=r"bits|third"):
            _core.bloomier_build(keys, codes, third, bits, 0)
    with pytest.raises(ValueError, match="codes"):
        _core.bloomier_build(keys, codes[1:], 5, 4, 0)
    with pytest.raises(ValueError, match="size"):
        _core.bloomier_query(b"1", 16, 4, 0, keys, codes)
