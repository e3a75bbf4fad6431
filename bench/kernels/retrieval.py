"""cpp/retrieval: ribbon and Bloomier tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import bloomier, ribbon

_POSITIONS, _KEYS, _BITS, _VALUES = 130_000, 4000, 8, 9


def kernels() -> Iterator[Kernel]:
    rng = np.random.default_rng(1)
    keys = np.sort(rng.choice(_POSITIONS, _KEYS, replace=False)).astype(np.uint32)
    codes = rng.integers(0, _VALUES, _KEYS).astype(np.uint16)
    few = dict(zip(keys[:200].tolist(), codes[:200].tolist(), strict=True))
    slots, third = _KEYS + 16, _KEYS * 125 // 300
    table = _core.ribbon_build(keys, codes, slots, _BITS, 4, 0)
    if table is None:
        raise RuntimeError("seed 0 does not work")
    cells, seed = _bloomier(keys, codes, third)
    small, small_bloomier = ribbon.Ribbon(216, _BITS, 4, 0), bloomier.Bloomier(100, _BITS, 0)
    small_table = ribbon.build(small, few) or b""
    small_cells = bloomier.build(small_bloomier, few) or b""
    yield Kernel(
        "ribbon build, bytes of codes", lambda: _core.ribbon_build(keys, codes, slots, _BITS, 4, 0), 2 * _KEYS,
        lambda: ribbon.build(small, few), 2 * len(few), per_isa=True,
    )  # fmt: skip
    yield Kernel(
        "ribbon scan, a byte a position",
        lambda: _core.ribbon_hits(table, slots, _BITS, 4, 0, 0, _POSITIONS, _VALUES), _POSITIONS,
        lambda: ribbon.hits(small, small_table, 0, 20, _VALUES), 20, per_isa=True,
    )  # fmt: skip
    yield Kernel(
        "bloomier build, bytes of codes", lambda: _core.bloomier_build(keys, codes, third, _BITS, seed), 2 * _KEYS,
        lambda: bloomier.build(small_bloomier, few), 2 * len(few),
    )  # fmt: skip
    yield Kernel(
        "bloomier scan, a byte a position",
        lambda: _core.bloomier_hits(cells, third, _BITS, seed, 0, _POSITIONS, _VALUES), _POSITIONS,
        lambda: bloomier.hits(small_bloomier, small_cells, 0, 500, _VALUES), 500, per_isa=True,
    )  # fmt: skip


def _bloomier(keys: np.ndarray, codes: np.ndarray, third: int) -> tuple[bytes, int]:
    """The first seed that works, and its table."""
    for seed in range(100):
        cells = _core.bloomier_build(keys, codes, third, _BITS, seed)
        if cells is not None:
            return cells, seed
    raise RuntimeError("no seed works")
