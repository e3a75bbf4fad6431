"""What theory says of dithered lattices, measured: gaps to the rate-distortion function, ratios at equal entropy."""

from __future__ import annotations

import numpy as np
import pytest

universal = pytest.importorskip("bench.universal", reason="bench/ is not part of the wheel")


def test_entropy() -> None:
    symbols = np.random.default_rng(1).integers(-3, 5, 100_000)
    assert universal.entropy(symbols) == pytest.approx(3, abs=1e-3)
    assert universal.entropy(symbols, symbols + 3) == pytest.approx(0, abs=1e-3)
    assert universal.entropy(symbols, (symbols + 3) // 4) == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("lattice", ["z", "a2", "d4", "e8", "leech"])
def test_gap_at_high_rate(lattice: str) -> None:
    gap = universal.high_rate_gap(lattice, samples=1 << 18)
    assert gap == pytest.approx(universal._GAPS[lattice], abs=0.01)


def test_gap_of_the_levels_themselves() -> None:
    assert universal.measured_gap(4.5, 1 << 19) == pytest.approx(0.2546, abs=0.01)


@pytest.mark.parametrize("entry", [("laplacian", 1.0), ("gaussian", 2.0)])
def test_ratios_at_equal_entropy(entry: tuple[str, float]) -> None:
    found = universal.snr_table(*entry, samples=1 << 16)
    for value, wanted in zip(found, universal._PUBLISHED[entry], strict=True):
        assert wanted is None or value == pytest.approx(wanted, abs=0.1)
