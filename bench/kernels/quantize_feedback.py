"""cpp/quantize: error feedback and its triangular root."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import feedback


def _triangle(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.tril(rng.standard_normal((n, n)) / n, -1).astype(np.float32)


def kernels() -> Iterator[Kernel]:
    rng = np.random.default_rng(1)
    rows, columns, few = 512, 256, 24
    weights = (3 * rng.standard_normal((rows, columns))).astype(np.float32)
    levels = np.empty(weights.shape, np.int16)
    sides = _triangle(rng, columns), _triangle(rng, rows)
    strands = list(range(64, rows + 1, 64))
    small = weights[:few, :few].tolist(), *(side[:few, :few].tolist() for side in sides)
    costs = np.zeros((1, 2, 41), np.int64)
    for states in (8, 64):
        yield Kernel(
            f"feedback {states}",
            lambda s=states: _core.feedback_levels(
                weights, levels, rows, columns, strands, *sides, s, "plain", passes=1
            ),
            weights.nbytes,
            lambda s=states: feedback.quantise(
                small[0], [few], [small[1]], small[2], costs.tolist(), 24227, 24, s
            ),
            4 * few * few,
            per_isa=True,
        )
    moment = np.cov(rng.standard_normal((200, 800)))  # one size for both: the work grows with its cube
    entries = moment.tolist()
    yield Kernel(
        "lower root",
        lambda: _core.lower_root(moment.copy(), len(entries)),
        moment.nbytes,
        lambda: feedback.lower_root(entries),
        moment.nbytes,
    )
