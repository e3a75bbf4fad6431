"""Files written once decode for ever, bit for bit."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import nncodec
from equality import equal

FOLDER = Path(__file__).parent / "golden"
_spec = importlib.util.spec_from_file_location("golden_make", FOLDER / "make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.nncz")), ids=lambda path: path.stem)
def test_golden_files_decode_bit_for_bit(path):
    build = make.goldens()[path.stem][0]
    out = nncodec.load_file(path, framework="np")
    with nncodec.open(path) as file:
        assert file.metadata() == {"golden": path.stem}
        file.verify()
    values = path.with_suffix(".f32")
    if values.exists():  # what a lossy codec gave
        want = np.fromfile(values, "<f4")
        got = np.concatenate([tensor.reshape(-1) for tensor in out.values()])
        assert got.tobytes() == want.tobytes()
    else:
        assert equal(out, build())


def test_the_formats_that_are_final_have_golden_files():
    """Every codec whose payload is declared final; no golden file is missing or unknown."""
    present = {path.stem for path in FOLDER.glob("*.nncz")}
    known = set(make.goldens())
    assert present <= known
    for name in known:
        if name.split("_")[1] in FINAL:
            assert name in present


# Codec and payload version. Add a codec here with its golden files, when its payload will not change any more.
FINAL = {
    "stored1",
    "lossless1",
    "lossless2",
    "uniform1",
    "universal1",
    "codebook1",
    "transform1",
    "weightless1",
    "ternary1",
    "lowrank1",
    "trellis1",
    "trellis2",
}
