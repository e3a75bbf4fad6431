"""cpp/information: sums of Gaussian kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import kernel_sums as twin


def kernels() -> Iterator[Kernel]:
    points = np.random.default_rng(1).normal(size=(1024, 16)).astype(np.float32)
    ends, sums = np.array([500, 1024], np.uint32), np.empty((1024, 4))
    few, few_ends = points[:64].tolist(), [30, 64]
    # Every pair costs: bytes are counted as if each pair were read.
    yield Kernel(
        "kernel sums, 16 dimensions", lambda: _core.kernel_sums(points, 16, ends, sums, 1), 1024 * points.nbytes,
        lambda: twin.kernel_sums(few, few_ends), 64 * 64 * 16 * 4, per_isa=True,
    )  # fmt: skip
