"""rANS with a trellis per lane: every instruction set against the twin, sizes, hostile streams, bad arguments."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import _core
from nncodec.errors import DecodeError
from nncodec.reference import rans_trellis as twin
from nncodec.reference.trellis import CODES

STATES = sorted(CODES)
LANES = [1, 2, 4, 8, 16, 32, 64]


@pytest.fixture(autouse=True)
def _keep_isa() -> Iterator[None]:
    best = _core.isa()
    yield
    _core.force_isa(best)


def make_tables(
    n_contexts: int, alphabet: int, rng: np.random.Generator, fewer: float = 0
) -> list[list[int]]:
    """A pair of bells per context; so many of the contexts have the first symbols alone."""
    symbols = np.arange(alphabet)
    spreads = rng.uniform(0.3, 1 + alphabet / 4, 2 * n_contexts)
    counts = [1 + 5000 * np.exp(-(((symbols - alphabet / 2) / s) ** 2)) for s in spreads]
    for table, few in zip(counts, np.repeat(rng.random(n_contexts) < fewer, 2), strict=True):
        table[min(alphabet, 20) if few else alphabet :] = 0  # another number of buckets
    return [_core.rans_normalise(c.astype(np.int64).tolist()) for c in counts]


def make_values(n_tables: int, rng: np.random.Generator) -> NDArray[np.int16]:
    return rng.integers(-32768, 32768, (n_tables, 256)).astype(np.int16)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 700),
    lanes=st.sampled_from(LANES),
    states=st.sampled_from(STATES),
    n_contexts=st.integers(1, 4),
    alphabet=st.sampled_from([2, 5, 33, 256]),
    unit=st.sampled_from([0, 0, 1, 3]),
    by_context=st.booleans(),
    fewer=st.sampled_from([0, 0, 0.5]),
    seed=st.integers(0, 2**32),
)
def test_every_isa_is_the_twin(
    n: int,
    lanes: int,
    states: int,
    n_contexts: int,
    alphabet: int,
    unit: int,
    by_context: bool,
    fewer: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    tables = make_tables(n_contexts, alphabet, rng, fewer)
    symbols = np.clip(rng.normal(alphabet / 2, alphabet / 6, n), 0, alphabet - 1).astype(np.uint8)
    if fewer:
        symbols %= 20
    contexts = rng.integers(0, n_contexts, n + 1).astype(np.uint8)[1:]  # not aligned
    if by_context:
        contexts.sort()
    stream = _core.RansTrellisEncoder(tables, states).encode(symbols, lanes, contexts, unit)
    assert stream == twin.encode(symbols.tolist(), tables, states, lanes, contexts.tolist(), unit)
    decoded, table_of = twin.decode(stream, n, tables, states, lanes, contexts.tolist(), unit)
    assert decoded == symbols.tolist()
    values = make_values(len(tables), rng)
    decoder = _core.RansTrellisDecoder(tables, values, states)
    for isa in _core.supported_isas():
        _core.force_isa(isa)
        out = np.empty(n, np.int16)
        decoder.decode(stream, out, lanes, contexts, unit)
        np.testing.assert_array_equal(out, values[table_of, decoded], err_msg=isa)


def _stream(n: int, lanes: int) -> tuple[_core.RansTrellisDecoder, bytes, NDArray[np.int16]]:
    rng = np.random.default_rng(n)
    tables = make_tables(1, 20, rng)
    symbols = rng.integers(0, 20, n).astype(np.uint8)
    values = np.tile(np.arange(256, dtype=np.int16), (2, 1))
    decoder = _core.RansTrellisDecoder(tables, values)
    return decoder, _core.RansTrellisEncoder(tables).encode(symbols, lanes), symbols.astype(np.int16)


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("lanes", [1, 16, 64])
def test_every_cut_and_extension_is_an_error(isa: str, lanes: int) -> None:
    _core.force_isa(isa)
    decoder, stream, symbols = _stream(400, lanes)
    out = np.empty_like(symbols)
    for end in range(len(stream)):
        with pytest.raises(DecodeError):
            decoder.decode(stream[:end], out, lanes)
    with pytest.raises(DecodeError, match="goes on"):
        decoder.decode(stream + b"\0\0", out, lanes)
    decoder.decode(stream, out, lanes)
    np.testing.assert_array_equal(out, symbols)


def test_every_isa_says_the_same_of_damaged_streams() -> None:
    decoder, stream, symbols = _stream(3000, 32)
    rng = np.random.default_rng(5)
    for _ in range(60):
        damaged = bytearray(stream)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        outcomes = set()
        for isa in _core.supported_isas():
            _core.force_isa(isa)
            out = np.empty_like(symbols)
            try:
                decoder.decode(bytes(damaged), out, 32)
                outcomes.add(out.tobytes())
            except DecodeError as error:
                outcomes.add(str(error))
        assert len(outcomes) == 1


def test_size_is_that_of_the_tables() -> None:
    rng = np.random.default_rng(7)
    symbols = np.clip(rng.normal(8, 1.5, 1 << 17), 0, 15).astype(np.uint8)
    tables = [_core.rans_normalise(np.bincount(symbols, minlength=16).tolist())] * 2
    probabilities = np.array(tables[0]) / 4096
    ideal = -np.log2(probabilities[symbols]).sum() / 8
    stream = _core.RansTrellisEncoder(tables).encode(symbols, 32)
    assert ideal < len(stream) < 1.0005 * ideal + 4 * 32


def test_bad_arguments_are_named() -> None:
    table = _core.rans_normalise([1, 1])
    values = np.zeros((2, 256), np.int16)
    with pytest.raises(ValueError, match="pairs"):
        _core.RansTrellisEncoder([table])
    with pytest.raises(ValueError, match="not 9"):
        _core.RansTrellisEncoder([table, table], 9)
    with pytest.raises(ValueError, match="values has 256"):
        _core.RansTrellisDecoder([table, table], values[:1])
    encoder = _core.RansTrellisEncoder([table, table])
    symbols = np.zeros(5, np.uint8)
    with pytest.raises(ValueError, match="lanes"):
        encoder.encode(symbols, 3)
    with pytest.raises(ValueError, match="context 1 has no tables"):
        encoder.encode(symbols, 1, np.ones(5, np.uint8))
    with pytest.raises(ValueError, match="contexts has 4"):
        encoder.encode(symbols, 1, np.zeros(4, np.uint8))
    with pytest.raises(ValueError, match="symbol 7"):
        encoder.encode(symbols + 7, 1)
