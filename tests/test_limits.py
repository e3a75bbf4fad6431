"""What a decoder refuses, no encoder writes: the table of docs/format.md#limits from the writer's side."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import nncodec
from nncodec import encoding, structure
from nncodec.container import catalogue, fields, table

FORMAT = Path(__file__).parent.parent / "docs" / "format.md"


def names(total: int):
    """Two tensors, an alias of one of them, and names of so many bytes together."""
    one = np.ones(2, np.float32)
    return {"a" * 9: one, "ß" * 5: np.zeros(2, np.float32), "b" * (total - 19): one}


def nested(levels: int):
    value: list = []
    for _ in range(levels - 1):
        value = [value]
    return value


def lower_names(patch: pytest.MonkeyPatch) -> None:
    for module in (encoding, fields, table, catalogue):
        patch.setattr(module, "MAX_NAMES_BYTES", 40)


def lower_structure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(structure, "MAX_JSON_BYTES", len('{"dict":[["b",{"bytes":"AAAA"}]]}'))


def view_of_one(elements: int):
    one = torch.ones(1)
    return {"one": one, "view": one.expand(elements)}


# By the first cell of a row: what lowers the limit where it is huge, what just passes, what does not, the error.
REFUSED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None] | None, Callable, Callable, str]] = {
    "name of a tensor": (
        None,
        lambda: {"n" * 65535: np.ones(1)},
        lambda: {"n" * 65536: np.ones(1)},
        "'nnn.* takes 65536 bytes",
    ),
    "all names of a file together, prefixes written out": (
        lower_names,
        lambda: names(40),
        lambda: names(41),
        "names of the tensors up to 'bbb.* take 41 bytes",
    ),
    "dimensions": (
        None,
        lambda: {"deep": torch.zeros([1] * (64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32))},
        lambda: {"deep": torch.zeros([1] * 65)},
        "'deep' has 65 dimensions, above 64",
    ),
    "bytes of a tensor (sizes of 0 left out of the product), of a record": (
        None,
        lambda: {"none": torch.empty((0, (1 << 61) - 1))},
        lambda: {"none": torch.empty((0, 1 << 61))},
        r"'none' has shape \(0, 2305843009213693952\)",
    ),
    "elements of a view (sizes of 0 left out)": (
        None,
        lambda: view_of_one((1 << 59) - 1),
        lambda: view_of_one(1 << 59),
        "'view' is a view of 576460752303423488 elements of 'one'",
    ),
    "structure document": (
        lower_structure,
        lambda: {"b": bytes(3)},
        lambda: {"b": bytes(4)},
        "besides tensors takes .* bytes as JSON",
    ),
}
# Encoders cut what they are given into pieces of at most this size; the last row is the caller's choice.
CUT = {"tensors of a record", "elements of a chunk"}
CHOSEN = {"decoded bytes in one call"}


def test_every_row_of_the_table_is_here():
    text = FORMAT.read_text(encoding="utf-8").split("\n## Limits\n")[1].split("\n## ")[0]
    rows = set(re.findall(r"^\| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)) - {"what"}
    assert rows == REFUSED.keys() | CUT | CHOSEN


@pytest.mark.parametrize("row", REFUSED)
def test_what_no_decoder_takes_is_refused_before_anything_is_written(row, monkeypatch):
    lower, fits, exceeds, why = REFUSED[row]
    if lower is not None:
        lower(monkeypatch)
    whole = fits()
    assert list(nncodec.decode(nncodec.encode(whole, "stored"))) == list(whole)
    file = io.BytesIO()
    with pytest.raises(ValueError, match=why):
        nncodec.save_file(exceeds(), file, "stored")
    assert file.getvalue() == b""


def test_levels_of_a_structure():
    assert nncodec.decode(nncodec.encode({"a": nested(100)}, "stored")) == {"a": nested(100)}
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        nncodec.encode({"a": nested(101)}, "stored")


def test_a_writer_counts_the_names_of_all_calls(tmp_path, monkeypatch):
    lower_names(monkeypatch)
    path = tmp_path / "x.nncz"
    with nncodec.Writer(path, "stored") as writer:
        writer.add("a" * 20, np.ones(1))
        with pytest.raises(ValueError, match="take 41 bytes"):
            writer.add("b" * 21, np.ones(1))
        with pytest.raises(ValueError, match="65 dimensions"):
            writer.add("deep", torch.zeros([1] * 65))
        writer.add("b" * 20, np.ones(1))  # what was refused does not count
    assert list(nncodec.load_file(path)) == ["a" * 20, "b" * 20]


def test_records_and_chunks_are_cut():
    many = {str(number): np.zeros(0, np.float32) for number in range(65_537)}
    assert list(nncodec.decode(nncodec.encode(many, "stored"))) == list(many)
    large = np.arange((1 << 20) + 1, dtype=np.uint8)
    np.testing.assert_array_equal(nncodec.decode(nncodec.encode({"l": large}, "stored"))["l"], large)
