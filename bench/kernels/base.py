"""cpp/base: checksum, bit packing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import bits as twin_bits
from nncodec.reference.crc32c import crc32c


def kernels() -> Iterator[Kernel]:
    data = np.random.default_rng(1).integers(0, 256, 1 << 20, np.uint8)
    head = data[:4096].tobytes()
    yield Kernel(
        "crc32c", lambda: _core.crc32c(data), data.size, lambda: crc32c(head), len(head), per_isa=True
    )

    codes = np.random.default_rng(2).integers(0, 1 << 5, 1 << 19).astype(np.uint16)
    few = codes[:4096].tolist()
    packed, few_packed = _core.bitpack(codes, 5), twin_bits.bitpack(few, 5)
    out = np.empty_like(codes)
    yield Kernel(
        "bitpack 5 bits",
        lambda: _core.bitpack(codes, 5),
        codes.nbytes,
        lambda: twin_bits.bitpack(few, 5),
        2 * len(few),
    )
    yield Kernel(
        "bitunpack 5 bits",
        lambda: _core.bitunpack(packed, 5, out),
        codes.nbytes,
        lambda: twin_bits.bitunpack(few_packed, len(few), 5),
        2 * len(few),
    )
