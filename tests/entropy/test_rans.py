"""Interleaved rANS: every instruction set against the plain-Python twin, sizes, and hostile streams."""

from __future__ import annotations

import numpy as np
import pytest

from nncodec import _core


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("lanes", [1, 2, 8, 32, 64])
def test_round_trip_with_row_and_column_tables(isa: str, lanes: int) -> None:
    _core.force_isa(isa)
    rng = np.random.default_rng(lanes)
    n, columns = 5000, 27
    rows = -(-n // columns)
    row_context = rng.integers(0, 3, rows).astype(np.uint8)
    column_context = rng.integers(0, 2, columns).astype(np.uint8)
    context = (row_context[:, None] + column_context[None, :]).ravel()[:n]
    symbols = np.clip(np.rint(rng.normal(16, 1 + context)), 0, 31).astype(np.uint8)
    tables = [
        _core.rans_normalise(np.bincount(symbols[context == c], minlength=32).tolist()) for c in range(4)
    ]
    stream = _core.RansEncoder(tables).encode(symbols, lanes, columns, row_context, column_context)
    out = np.empty_like(symbols)
    _core.RansDecoder(tables).decode(stream, out, lanes, columns, row_context, column_context)
    np.testing.assert_array_equal(out, symbols)
