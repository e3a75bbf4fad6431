"""Interleaved rANS: every instruction set against the plain-Python twin, sizes, tables, and hostile streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.errors import DecodeError
from nncodec.reference import rans as twin
from nncodec.reference import rans_tables as twin_tables
from nncodec.reference.range_coder import BinaryEncoder

ISAS = _core.supported_isas()
LANES = [1, 2, 4, 8, 16, 32, 64]
Bytes = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def _keep_isa() -> Iterator[None]:
    best = _core.isa()
    yield
    _core.force_isa(best)


@dataclass
class Case:
    """Symbols, where they lie, and tables that can code them."""

    symbols: Bytes
    columns: int
    row_context: Bytes | None
    column_context: Bytes | None
    tables: list[list[int]]
    prob_bits: int = 12

    def encode(self, lanes: int) -> bytes:
        encoder = _core.RansEncoder(self.tables, self.prob_bits)
        return encoder.encode(self.symbols, lanes, self.columns, self.row_context, self.column_context)

    def decode(self, stream: bytes, lanes: int) -> Bytes:
        out = np.full(self.symbols.size, 0xAA, np.uint8)
        decoder = _core.RansDecoder(self.tables, self.prob_bits)
        decoder.decode(stream, out, lanes, self.columns, self.row_context, self.column_context)
        return out

    def twin_arguments(self, lanes: int) -> tuple[object, ...]:
        rows = None if self.row_context is None else self.row_context.tolist()
        across = None if self.column_context is None else self.column_context.tolist()
        return self.tables, lanes, self.columns, rows, across, self.prob_bits


def make_case(
    n: int, columns: int, rows: int, across: int, alphabet: int, spread: float, prob_bits: int, seed: int
) -> Case:
    """``rows`` and ``across`` contexts (0: none); a bell over ``alphabet`` symbols, wider from table to table."""
    rng = np.random.default_rng(seed)
    row_context = rng.integers(0, rows, -(-n // columns)).astype(np.uint8) if rows else None
    column_context = rng.integers(0, across, columns).astype(np.uint8) if across else None
    row_of, column_of = np.divmod(np.arange(n), columns)
    context = np.zeros(n, np.int64)
    context += 0 if row_context is None else row_context[row_of]
    context += 0 if column_context is None else column_context[column_of]
    first = rng.integers(0, 257 - alphabet)
    bell = rng.normal((alphabet - 1) / 2, spread * alphabet * (1 + context / 4))
    symbols = (first + np.clip(np.rint(bell), 0, alphabet - 1)).astype(np.uint8)
    tables = []
    for c in range(max(rows, 1) + max(across, 1) - 1):
        counts = np.bincount(symbols[context == c], minlength=256)
        if not counts.any():
            counts[first] = 1
        tables.append(_core.rans_normalise(counts.tolist(), prob_bits))
    return Case(symbols, columns, row_context, column_context, tables, prob_bits)


CASES = st.builds(
    make_case,
    n=st.integers(0, 700),
    columns=st.sampled_from([1, 9, 16, 27, 64, 100, 1000]),
    rows=st.integers(0, 4),
    across=st.integers(0, 4),
    alphabet=st.sampled_from([1, 2, 3, 20, 32, 33, 60, 64, 65, 200, 256]),
    spread=st.sampled_from([0.01, 0.1, 0.5]),
    prob_bits=st.sampled_from([12, 12, 12, 13, 16]),
    seed=st.integers(0, 2**32 - 1),
)


@settings(deadline=None, max_examples=60)
@given(case=CASES, lanes=st.sampled_from(LANES))
def test_every_isa_equals_the_twin(case: Case, lanes: int) -> None:
    wanted = twin.encode(case.symbols.tolist(), *case.twin_arguments(lanes))  # type: ignore[arg-type]
    decoded = twin.decode(wanted, case.symbols.size, *case.twin_arguments(lanes))  # type: ignore[arg-type]
    assert decoded == case.symbols.tobytes()
    for isa in ISAS:
        _core.force_isa(isa)
        assert case.encode(lanes) == wanted, isa
        np.testing.assert_array_equal(case.decode(wanted, lanes), case.symbols)


LONG = [
    pytest.param(5000, 5000, 0, 0, 20, id="one row"),
    pytest.param(20011, 1000, 3, 0, 32, id="row tables"),
    pytest.param(20011, 777, 3, 0, 64, id="row tables of 64"),
    pytest.param(20011, 384, 4, 4, 24, id="tables per symbol"),
    pytest.param(20011, 27, 4, 0, 12, id="short rows"),
    pytest.param(20011, 9, 3, 2, 12, id="short rows, tables per symbol"),
    pytest.param(20011, 4096, 2, 0, 256, id="all bytes"),
    pytest.param(5000, 64, 2, 0, 1, id="one symbol"),
]


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize(("n", "columns", "rows", "across", "alphabet"), LONG)
def test_long_streams_agree_between_isas(
    n: int, columns: int, rows: int, across: int, alphabet: int, lanes: int
) -> None:
    case = make_case(n, columns, rows, across, alphabet, 0.12, 12, n + lanes)
    _core.force_isa("scalar")
    stream = case.encode(lanes)
    for isa in ISAS:
        _core.force_isa(isa)
        assert case.encode(lanes) == stream, isa
        np.testing.assert_array_equal(case.decode(stream, lanes), case.symbols)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
def test_size_is_close_to_the_entropy(spread: float, lanes: int) -> None:
    case = make_case(100_000, 100_000, 0, 0, 32, spread, 12, 7)
    counts = np.bincount(case.symbols)
    share = counts[counts > 0] / case.symbols.size
    entropy = -case.symbols.size * float(share @ np.log2(share)) / 8
    assert len(case.encode(lanes)) <= 1.003 * entropy + 4 * lanes


@settings(deadline=None, max_examples=30)
@given(
    counts=st.lists(st.one_of(st.integers(0, 20), st.integers(0, 2**40)), min_size=1, max_size=40).filter(
        any
    ),
    prob_bits=st.integers(12, 13),
)
def test_normalise_is_optimal(counts: list[int], prob_bits: int) -> None:
    table = _core.rans_normalise(counts, prob_bits)
    best = twin.normalise(counts, prob_bits)
    assert sum(table) == 1 << prob_bits
    assert table[-1] > 0

    def cost(frequencies: list[int]) -> float:
        return sum(c * (prob_bits - log2(f)) for c, f in zip(counts, frequencies, strict=False) if c)

    assert cost(table) <= cost(best) * (1 + 1e-7) + 1e-6
    assert _core.rans_cost(counts, table, prob_bits) / 256 == pytest.approx(
        cost(table), rel=1e-6, abs=0.01 + sum(counts) * 2**-24
    )


def test_cost_of_an_impossible_symbol_is_infinite() -> None:
    assert _core.rans_cost([1, 1], [4096]) == 2**64 - 1


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(
        st.lists(st.one_of(st.just(0), st.integers(0, 5000)), min_size=1, max_size=256).filter(any),
        min_size=1,
        max_size=5,
    ),
    prob_bits=st.integers(12, 16),
)
def test_tables_come_back(counts: list[list[int]], prob_bits: int) -> None:
    for tables in (
        [_core.rans_normalise(c, prob_bits) for c in counts],
        _core.rans_fit_tables(counts, prob_bits),
    ):
        assert all(
            c == 0 or f > 0
            for cs, fs in zip(counts, tables, strict=True)
            for c, f in zip(cs, fs, strict=False)
        )
        blob = _core.rans_write_tables(tables, prob_bits)
        assert _core.rans_read_tables(blob) == (tables, prob_bits)
        body = twin_tables.write_tables(tables, prob_bits)
        assert blob == _varint(len(body)) + body
        assert twin_tables.read_tables(body) == (tables, prob_bits)


def test_fitted_tables_are_small_where_counts_are() -> None:
    rng = np.random.default_rng(3)
    counts = [np.bincount(np.clip(np.rint(rng.normal(16, 2, 2000)), 0, 31).astype(int)).tolist()]
    exact = [_core.rans_normalise(counts[0])]
    fitted = _core.rans_fit_tables(counts)

    def total(tables: list[list[int]]) -> float:
        return len(_core.rans_write_tables(tables)) + _core.rans_cost(counts[0], tables[0]) / 2048

    assert total(fitted) < total(exact) - 4
    assert len(_core.rans_write_tables(fitted)) <= 14


@settings(deadline=None, max_examples=300)
@given(body=st.binary(max_size=60))
def test_arbitrary_bytes_are_a_table_set_or_an_error(body: bytes) -> None:
    try:
        tables, prob_bits = _core.rans_read_tables(bytes([len(body)]) + body)
    except DecodeError:
        with pytest.raises(DecodeError):
            twin_tables.read_tables(body)
        return
    assert twin_tables.read_tables(body) == (tables, prob_bits)
    assert 1 <= len(tables) <= 256
    assert all(sum(table) == 1 << prob_bits and table[-1] > 0 for table in tables)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _refuses(case: Case, stream: bytes, lanes: int) -> None:
    for isa in ISAS:
        _core.force_isa(isa)
        with pytest.raises(DecodeError):
            case.decode(stream, lanes)


@pytest.mark.parametrize("lanes", [1, 16, 32, 64])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda s: s[:-1], id="odd cut"),
        pytest.param(lambda s: s[:-2], id="cut by a word"),
        pytest.param(lambda s: s[: len(s) // 2], id="half"),
        pytest.param(lambda s: s[:3], id="no lane"),
        pytest.param(lambda s: b"", id="empty"),
        pytest.param(lambda s: s + b"\0", id="a byte more"),
        pytest.param(lambda s: s + b"\0\0", id="a word more"),
        pytest.param(lambda s: b"\xff\xff\0\0" + s[4:], id="low state"),
        pytest.param(lambda s: bytes([s[0] ^ 1]) + s[1:], id="flipped state"),
    ],
)
@pytest.mark.parametrize("across", [0, 2])
def test_damaged_streams_are_refused(damage: Callable[[bytes], bytes], across: int, lanes: int) -> None:
    case = make_case(3000, 100, 2, across, 20, 0.1, 12, 5)
    _refuses(case, damage(case.encode(lanes)), lanes)


def test_a_long_stream_with_damage_ends_in_an_error_or_in_symbols_of_the_tables() -> None:
    case = make_case(3000, 100, 2, 2, 20, 0.1, 12, 5)
    stream = case.encode(32)
    rng = np.random.default_rng(9)
    for _ in range(200):
        damaged = bytearray(stream)
        damaged[int(rng.integers(128, len(stream)))] ^= 1 << int(rng.integers(8))
        outcomes = []
        for isa in ISAS:
            _core.force_isa(isa)
            try:
                outcomes.append(case.decode(bytes(damaged), 32).tobytes())
            except DecodeError:
                outcomes.append(b"")
        assert len(set(outcomes)) == 1
        assert set(outcomes[0]) <= set(case.symbols.tolist())


@pytest.mark.parametrize(
    ("symbols", "lanes", "columns", "row_context", "message"),
    [
        (b"\1\0", 3, 0, None, "lanes"),
        (b"\1\0", 128, 0, None, "lanes"),
        (b"\2", 1, 0, None, "frequency 0"),
        (b"\0", 1, 0, b"\1", "no table"),
        (b"\0\0", 1, 1, b"\0", "row_context"),
    ],
)
def test_bad_arguments_are_named(
    symbols: bytes, lanes: int, columns: int, row_context: bytes | None, message: str
) -> None:
    encoder = _core.RansEncoder([[2048, 2048]])
    with pytest.raises(ValueError, match=message):
        encoder.encode(symbols, lanes, columns, row_context)


@pytest.mark.parametrize("tables", [[], [[4095]], [[4096, 1]], [[4096]] * 257, [[1] * 257]])
def test_bad_tables_are_refused(tables: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="table"):
        _core.RansEncoder(tables)
    with pytest.raises(ValueError, match="table"):
        _core.RansDecoder(tables)


def test_more_lanes_for_longer_streams() -> None:
    lanes = [_core.rans_lanes_for(size) for size in (0, 3000, 10_000, 100_000, 1_000_000)]
    assert lanes[0] == 1
    assert lanes[-1] == 64
    assert lanes == sorted(lanes)


def test_tables_refuse_a_frequency_wider_than_their_sum() -> None:
    """After a table of one symbol of frequency 2^16, a damaged one may say that another has as much."""
    coder = BinaryEncoder()
    coder.direct(1, 8)
    coder.direct(4, 3)
    coder.direct(31, 5)
    tables = twin_tables._TableCoder(coder, 16, 31)
    whole = [0] * 5 + [1 << 16] + [0] * 250
    tables.table(twin_tables._Shape(5, 5, 5, list(whole)))
    with pytest.raises(DecodeError, match="bad sum"):
        tables.table(twin_tables._Shape(5, 6, 6, list(whole)))
    body = coder.finish()
    with pytest.raises(DecodeError, match="bad sum"):
        twin_tables.read_tables(body)
    with pytest.raises(DecodeError, match="damaged"):
        _core.rans_read_tables(bytes([len(body)]) + body)
