"""cpp/base: checksum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference.crc32c import crc32c


def kernels() -> Iterator[Kernel]:
    data = np.random.default_rng(1).integers(0, 256, 1 << 20, np.uint8)
    head = data[:4096].tobytes()
    yield Kernel(
        "crc32c", lambda: _core.crc32c(data), data.size, lambda: crc32c(head), len(head), per_isa=True
    )
