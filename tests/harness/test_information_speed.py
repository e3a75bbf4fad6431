"""What the suite `information_speed` compares does the same work."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.information_speed import by_numpy

from nncodec import _core


def test_numpy_and_engine_compute_the_same() -> None:
    points = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
    sums = np.empty((600, 4))
    _core.kernel_sums(points, 5, np.array([250, 600], np.uint32), sums, 1)
    np.testing.assert_allclose(by_numpy(points.astype(np.float64), [250, 600]), sums, rtol=1e-5)
