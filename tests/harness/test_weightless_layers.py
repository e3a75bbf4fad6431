"""Files of the Weightless paper's layers are as small as its cells say."""

from __future__ import annotations

from bench.suite import Options
from bench.weightless_layers import run


def test_small_networks_layers() -> None:
    """Headers and ranges take up to a twentieth of a file of a few kilobytes; at most 130 bytes of any."""
    rows = [row for only in ("LeNet-300*", "LeNet-5*") for row in run(Options(only=only))]
    assert len(rows) == 10
    for row in rows:
        found, wanted, size = (float(str(row[key])) for key in ("times smaller", "cells alone", "bytes"))
        assert 0 < size * (1 - found / wanted) <= 130
        if size > 2500:
            assert 0.95 <= found / wanted < 1
