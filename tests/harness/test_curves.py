"""Curves of several outcomes are put together and drawn."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
curves = pytest.importorskip("bench.curves", reason="bench/ is not part of the wheel")


def outcome(path: Path, network: str) -> Path:
    rows = [
        {"network": f"{network}, trellis 8", "rel_mse": error, "bits": bits}
        for error, bits in ((1e-2, 3.0), (1e-1, 1.5))
    ]
    path.write_text(json.dumps({"suite": "rate_distortion", "rows": rows}))
    return path


def test_outcomes_are_put_together(tmp_path: Path) -> None:
    found = curves.read(outcome(tmp_path / "a.json", "one"), outcome(tmp_path / "b.json", "two"))
    assert list(found) == ["one", "two"]
    assert found["two"]["trellis 8"] == [(3.0, pytest.approx(20)), (1.5, pytest.approx(10))]


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / "curves.png"
    curves.draw(curves.read(outcome(tmp_path / "a.json", "one")), target)
    assert target.read_bytes().startswith(b"\x89PNG")
