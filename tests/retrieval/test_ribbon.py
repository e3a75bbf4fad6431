"""Ribbon tables: exact on keys, uniform elsewhere, the same as the twin says on every ISA, and small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.reference import retrieval_hash
from nncodec.reference import ribbon as twin

Codes = NDArray[np.uint16]
Keys = NDArray[np.uint32]


@pytest.fixture(params=_core.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _core.isa()
    _core.force_isa(request.param)
    yield request.param
    _core.force_isa(before)


def pairs(n: int, positions: int, values: int, seed: int) -> tuple[Keys, Codes]:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.choice(positions, n, replace=False)).astype(np.uint32)
    return keys, rng.integers(0, values, n).astype(np.uint16)


def query(table: bytes, shape: twin.Ribbon, keys: Keys) -> Codes:
    out = np.empty(keys.size, np.uint16)
    _core.ribbon_query(table, shape.slots, shape.bits, shape.words, shape.seed, keys, out)
    return out


def build(keys: Keys, codes: Codes, bits: int, words: int, slack: int = 12) -> tuple[bytes, twin.Ribbon]:
    slots = -(-(keys.size + slack) // 8) * 8
    for seed in range(100):
        table = _core.ribbon_build(keys, codes, slots, bits, words, seed)
        if table is not None:
            return table, twin.Ribbon(slots, bits, words, seed)
    raise AssertionError("no seed works")


def crowded(shape: twin.Ribbon, keys: Keys) -> bool:
    """Whether more keys begin within a window of blocks than it has slots: then the engine does not try to solve."""
    begin = np.zeros(shape.slots // 64 + 1, int)
    for key in keys.tolist():
        row, _ = shape.equation(key)
        begin[((row & -row).bit_length() - 1) // 64 if row else -1] += 1
    return bool(np.convolve(begin, np.ones(shape.words, int)).max() > 64 * shape.words)


@settings(max_examples=40, deadline=None)
@example(n=183, bits=1, words=1, seed=705115, slack=18)
@given(
    n=st.integers(1, 400), bits=st.integers(1, 16), words=st.integers(1, 7), seed=st.integers(0, 2**63),
    slack=st.integers(0, 80),
)  # fmt: skip
def test_agrees_with_the_twin(n: int, bits: int, words: int, seed: int, slack: int) -> None:
    keys, codes = pairs(n, 3 * n + 5, 1 << bits, seed % 1000)
    shape = twin.Ribbon(-(-(n + slack) // 8) * 8, bits, words, seed)
    table = _core.ribbon_build(keys, codes, shape.slots, bits, words, seed)
    expected = dict(zip(keys.tolist(), codes.tolist(), strict=True))
    if (
        table is None
    ):  # few slots, or a narrow window: the equations contradict each other whoever solves them
        assert twin.build(shape, expected) is None or crowded(shape, keys)
        return
    assert {key: twin.query(shape, table, key) for key in expected} == expected
    theirs = twin.build(shape, expected)
    assert theirs is not None
    np.testing.assert_array_equal(query(theirs, shape, keys), codes)
    positions = np.arange(min(3 * n + 5, 80), dtype=np.uint32)
    values = [twin.query(shape, table, int(key)) for key in positions]
    np.testing.assert_array_equal(query(table, shape, positions), values)
    limit = max(1, (1 << bits) // 3)
    found, low = _core.ribbon_hits(table, shape.slots, bits, words, seed, 3, 80, limit)
    assert list(zip(found.tolist(), low.tolist(), strict=True)) == twin.hits(shape, table, 3, 80, limit)


@pytest.mark.parametrize("bits", [1, 4, 5, 8, 9, 16])
@pytest.mark.parametrize("words", [1, 3, 4, 7])
def test_scans_agree_on_every_isa(bits: int, words: int, isa: str) -> None:
    keys, codes = pairs(700, 20_000, 1 << bits, bits)
    table, shape = build(keys, codes, bits, words, 12 if words > 1 else 400)
    everywhere = query(table, shape, np.arange(20_003, dtype=np.uint32))
    for limit in {1, 2, (1 << bits) // 2 + 1, 1 << bits}:
        found, low = _core.ribbon_hits(table, shape.slots, bits, words, shape.seed, 1, 20_003, limit)
        expected = np.flatnonzero(everywhere[1:] < limit) + 1
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(low, everywhere[expected])


def test_tables_are_the_same_on_every_isa() -> None:
    keys, codes = pairs(3000, 90_000, 9, 1)
    before, tables = _core.isa(), set()
    for name in _core.supported_isas():
        _core.force_isa(name)
        tables.add(_core.ribbon_build(keys, codes, 3016, 8, 4, 0))
    _core.force_isa(before)
    assert len(tables) == 1
    assert None not in tables


def test_keys_are_exact_for_a_thousand_seeds() -> None:
    keys, codes = pairs(300, 10_000, 9, 2)
    worked = 0
    for seed in range(1000):
        table = _core.ribbon_build(keys, codes, 320, 8, 3, seed)
        if table is not None:
            worked += 1
            np.testing.assert_array_equal(query(table, twin.Ribbon(320, 8, 3, seed), keys), codes)
    assert worked > 990


def test_other_positions_are_uniform() -> None:
    """False positives at V / 2^t within three standard deviations, spread evenly over the values."""
    values, bits, positions = 9, 8, 400_000
    keys, codes = pairs(2800, positions, values, 3)
    table, shape = build(keys, codes, bits, 4)
    found, low = _core.ribbon_hits(table, shape.slots, bits, 4, shape.seed, 0, positions, values)
    wrong = low[~np.isin(found, keys)]
    n, p = positions - keys.size, values / 2**bits
    assert abs(wrong.size - n * p) < 3 * np.sqrt(n * p * (1 - p))
    counts = np.bincount(wrong, minlength=values)
    chi2 = ((counts - wrong.size / values) ** 2 / (wrong.size / values)).sum()
    assert chi2 < 26.1  # 8 degrees of freedom, one in a thousand


@pytest.mark.parametrize(("n", "words"), [(1, 4), (40, 4), (3000, 4), (8000, 5)])
def test_a_few_slots_above_the_keys_are_enough(n: int, words: int) -> None:
    keys, codes = pairs(n, 30 * n, 256, 4)
    first = [_core.ribbon_build(keys, codes, -(-(n + 8) // 8) * 8, 8, words, seed) for seed in range(20)]
    assert sum(table is not None for table in first) >= 16


def test_refuses_wrong_arguments() -> None:
    keys, codes = pairs(10, 100, 4, 5)
    for slots, bits, words in [(17, 4, 4), (16, 0, 4), (16, 17, 4), (16, 4, 0), (16, 4, 8)]:
        with pytest.raises(ValueError, match=r"slots|bits|words"):
            _core.ribbon_build(keys, codes, slots, bits, words, 0)
    with pytest.raises(ValueError, match="codes"):
        _core.ribbon_build(keys, codes[1:], 16, 4, 4, 0)
    with pytest.raises(ValueError, match="size"):
        _core.ribbon_query(b"1", 16, 4, 4, 0, keys, codes)


def test_the_hash_is_splitmix() -> None:
    """The state of seed 0 is the first number of the well-known generator; products wrap as they should."""
    assert retrieval_hash.state_of(0) == 0xE220A8397B1DCDAF
    assert retrieval_hash.word_of((1 << 64) - 1, 0) == (0x9E3779B0_61C8864F ^ 0x7A143595_85EBCA6A)
