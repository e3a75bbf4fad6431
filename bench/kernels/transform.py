"""cpp/transform: float planes, Karhunen-Loeve transform, cosine transform."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import dct, hadamard, klt, low_rank
from nncodec.reference import float_planes as twin

_FLOAT32 = 2


def kernels() -> Iterator[Kernel]:
    weights = (np.random.default_rng(1).standard_normal(1 << 18) / 30).astype(np.float32)
    codes, low, planes = _core.float_planes_split(weights, _FLOAT32)
    out = np.empty_like(weights)
    patterns = [int(x) for x in weights[:2000].view(np.uint32)]
    raw, symbols = twin.RawBits(), twin.SymbolMap()
    parts = twin.split(patterns, _FLOAT32, raw, symbols)
    yield Kernel(
        "float planes split",
        lambda: _core.float_planes_split(weights, _FLOAT32),
        weights.nbytes,
        lambda: twin.split(patterns, _FLOAT32, raw, symbols),
        4 * len(patterns),
        per_isa=True,
    )
    yield Kernel(
        "float planes join",
        lambda: _core.float_planes_join(codes, low, planes, out, _FLOAT32),
        weights.nbytes,
        lambda: twin.join(*parts, _FLOAT32, raw, symbols),
        4 * len(patterns),
        per_isa=True,
    )
    bits = np.random.default_rng(2).integers(0, 8, 1 << 18).astype(np.uint8)
    packed = _core.pack_bits(bits, 3)
    unpacked = np.empty_like(bits)
    head = [int(x) for x in bits[:4000]]
    head_packed = twin.pack_bits(head, 3)
    yield Kernel(
        "bit planes pack", lambda: _core.pack_bits(bits, 3), bits.size,
        lambda: twin.pack_bits(head, 3), len(head), per_isa=True,
    )  # fmt: skip
    yield Kernel(
        "bit planes unpack", lambda: _core.unpack_bits(packed, unpacked, 3), bits.size,
        lambda: twin.unpack_bits(head_packed, len(head), 3), len(head), per_isa=True,
    )  # fmt: skip

    columns = 192
    mixed = np.random.default_rng(3).standard_normal((columns, columns))
    basis = _core.klt_encode_basis(mixed @ mixed.T, columns, 1e4, 1e-2)
    rows = np.random.default_rng(4).standard_normal((4096, columns)).astype(np.float32)
    numbers = np.empty_like(rows)
    small = klt.decode_basis(_core.klt_encode_basis(np.eye(16), 16, 1e4, 1e-2), 16)
    yield Kernel(
        "karhunen-loeve transform back, 192 columns",
        lambda: _core.klt_inverse(basis, columns, rows, numbers), rows.nbytes,
        lambda: klt.inverse(small, [0.5] * 16), 64, per_isa=True,
    )  # fmt: skip

    blocks = np.random.default_rng(5).standard_normal((1 << 15, 3, 3)).astype(np.float32)
    coefficients = np.empty_like(blocks)
    yield Kernel(
        "cosine transform, 3x3",
        lambda: _core.dct_forward(blocks, 3, 3, coefficients), blocks.nbytes,
        lambda: dct.forward([0.5] * 9, 3, 3), 36, per_isa=True,
    )  # fmt: skip
    yield Kernel(
        "cosine transform back, 3x3",
        lambda: _core.dct_inverse(blocks, 3, 3, coefficients), blocks.nbytes,
        lambda: dct.inverse([0.5] * 9, 3, 3), 36, per_isa=True,
    )  # fmt: skip

    runs = np.random.default_rng(6).standard_normal((1 << 15, 8)).astype(np.float32)
    yield Kernel(
        "hadamard transform, 8",
        lambda: _core.hadamard(runs, 8), runs.nbytes,
        lambda: hadamard.transform([0.5] * 8), 32,
    )  # fmt: skip

    thin, across = weights[: 512 * 32].reshape(512, 32), weights[: 32 * 512].reshape(32, 512)
    scales, whole = np.ones(32, np.float32), np.empty((512, 512))
    row, column = [0.5] * 32, [0.25] * 32 * 8
    yield Kernel(
        "low-rank product, rank 32",
        lambda: _core.low_rank_product(thin, scales, across, 512, whole), whole.nbytes // 2,
        lambda: low_rank.product(row, [1.0] * 32, column, 8), 32,
    )  # fmt: skip
