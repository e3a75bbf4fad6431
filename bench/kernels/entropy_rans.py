"""cpp/entropy: rANS at three bits per symbol, 2**20 symbols in one row or in rows with tables of their own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import rans, rans_tables

N = 1 << 20
N_TWIN = 4096
LANES = 64


def kernels() -> Iterator[Kernel]:
    rng = np.random.default_rng(1)
    symbols = np.clip(np.rint(rng.normal(16, 1.93, N)), 0, 31).astype(np.uint8)
    yield from _pair("rans", symbols, 1, N, None, None)

    columns = 1024
    row_context = rng.integers(0, 8, N // columns).astype(np.uint8)
    scale = 1.1 ** np.arange(-8, 8)
    rows = rng.normal(16, 1.93 * scale[row_context + 4][:, None], (N // columns, columns))
    symbols = np.clip(np.rint(rows), 0, 31).astype(np.uint8).ravel()
    yield from _pair("rans, 8 row tables", symbols, 8, columns, row_context, None)

    column_context = rng.integers(0, 9, columns).astype(np.uint8)
    context = row_context[:, None] + column_context[None, :]
    symbols = np.clip(np.rint(rng.normal(16, 1.93 * scale[context])), 0, 31).astype(np.uint8).ravel()
    yield from _pair("rans, 16 tables per symbol", symbols, 16, columns, row_context, column_context)

    # Bytes here are the streams': tables have no other size.
    spread = np.arange(-16, 16)
    counts = [np.exp(-0.5 * (spread / (1.93 * s)) ** 2) * 1e5 + 1 for s in scale]
    tables = _core.rans_fit_tables([c.astype(np.int64).tolist() for c in counts])
    coded = _core.rans_write_tables(tables)
    body = rans_tables.write_tables(tables)
    yield Kernel(
        "rans tables write", lambda: _core.rans_write_tables(tables), len(coded),
        lambda: rans_tables.write_tables(tables), len(coded),
    )  # fmt: skip
    yield Kernel(
        "rans tables read", lambda: _core.rans_read_tables(coded), len(coded),
        lambda: rans_tables.read_tables(body), len(coded),
    )  # fmt: skip


def _pair(
    name: str,
    symbols: np.ndarray,
    n_tables: int,
    columns: int,
    row_context: np.ndarray | None,
    column_context: np.ndarray | None,
) -> Iterator[Kernel]:
    context = np.zeros((symbols.size // columns, columns), np.intp)
    context += 0 if row_context is None else row_context[:, None]
    context += 0 if column_context is None else column_context[None, :]
    flat = context.ravel()
    tables = [
        _core.rans_normalise(np.bincount(symbols[flat == c], minlength=32).tolist()) for c in range(n_tables)
    ]
    encoder = _core.RansEncoder(tables)
    decoder = _core.RansDecoder(tables)
    stream = encoder.encode(symbols, LANES, columns, row_context, column_context)
    out = np.empty_like(symbols)

    head = symbols[:N_TWIN].tolist()
    rows = None if row_context is None else row_context.tolist()
    across = None if column_context is None else column_context.tolist()
    twin_stream = rans.encode(head, tables, LANES, columns, rows, across)
    yield Kernel(
        f"{name}: encode",
        lambda: encoder.encode(symbols, LANES, columns, row_context, column_context),
        symbols.size,
        lambda: rans.encode(head, tables, LANES, columns, rows, across),
        N_TWIN,
        per_isa=True,
    )
    yield Kernel(
        f"{name}: decode",
        lambda: decoder.decode(stream, out, LANES, columns, row_context, column_context),
        symbols.size,
        lambda: rans.decode(twin_stream, N_TWIN, tables, LANES, columns, rows, across),
        N_TWIN,
        per_isa=True,
    )
