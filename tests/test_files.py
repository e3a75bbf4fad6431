"""Foreign checkpoint files: what goes in comes out, and nothing is unpickled."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from nncodec import files
from nncodec.dtypes import BY_CODE
from nncodec.files import Checkpoint, FileError
from nncodec.writer import atomic_file

ml_dtypes = pytest.importorskip("ml_dtypes")
safetensors_numpy = pytest.importorskip("safetensors.numpy")


def every_type(skip: set[str]) -> dict[str, np.ndarray]:
    raw = np.arange(48, dtype=np.uint8) % 2
    return {row.name: raw.view(row.numpy()) for row in BY_CODE.values() if row.name not in skip}


def rewritten(path: Path, checkpoint: Checkpoint, kind: str) -> Checkpoint:
    with atomic_file(path) as file:
        files.write(checkpoint, file, kind)
    return files.read(path, kind)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


SHAPES = {
    "scalar": np.float32(3).reshape(()),
    "empty": np.zeros((0, 3), np.int64),
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "file": np.ones(2, np.float32),
    'a/b\u00e9 \n"': np.ones(1, np.uint8),
}


def test_safetensors_types_shapes_and_metadata(tmp_path: Path) -> None:
    tensors = every_type({"complex128", "complex32", "float4_e2m1fn_x2"}) | SHAPES
    back = rewritten(
        tmp_path / "x.safetensors", Checkpoint(tensors, {"format": "pt", "k": "\u00fc"}), "safetensors"
    )
    assert back.metadata == {"format": "pt", "k": "\u00fc"}
    assert {k: v.tobytes() for k, v in back.tensors.items()} == {k: v.tobytes() for k, v in tensors.items()}
    assert {k: (v.dtype, v.shape) for k, v in back.tensors.items()} == {
        k: (v.dtype, v.shape) for k, v in tensors.items()
    }


def test_safetensors_agrees_with_the_package(tmp_path: Path) -> None:
    tensors = {
        "b": np.arange(5, dtype=np.float32),
        "a": np.arange(4, dtype=np.int8),
        "c": np.zeros((), np.float64),
    }
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    safetensors_numpy.save_file(tensors, theirs, metadata={"by": "them"})
    rewritten(ours, files.read(theirs, "safetensors"), "safetensors")
    assert ours.read_bytes() == theirs.read_bytes()
    assert all(np.array_equal(v, tensors[k]) for k, v in safetensors_numpy.load_file(ours).items())


def test_safetensors_unaligned_tensors_are_sorted(tmp_path: Path) -> None:
    tensors = {"byte": np.ones(3, np.uint8), "word": np.ones(2, np.float32)}
    assert list(rewritten(tmp_path / "x.safetensors", Checkpoint(tensors), "safetensors").tensors) == [
        "word",
        "byte",
    ]


@pytest.mark.parametrize("damage", [b"", b"\x08", struct.pack("<Q", 1 << 40), struct.pack("<Q", 2) + b"[]"])
def test_safetensors_damaged(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(damage)
    with pytest.raises(FileError, match=r"x\.safetensors"):
        files.read(tmp_path / "x.safetensors", "safetensors")


def test_npz(tmp_path: Path) -> None:
    names = {"bfloat16", "complex32", "float4_e2m1fn_x2"} | {
        row.name for row in BY_CODE.values() if "float8" in row.name
    }
    tensors = every_type(names) | SHAPES
    assert same(rewritten(tmp_path / "x.npz", Checkpoint(tensors), "npz").tensors, tensors)
    again = rewritten(tmp_path / "y.npz", Checkpoint(tensors), "npz")
    assert same(again.tensors, tensors)
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()


def test_npz_never_unpickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    with pytest.raises(FileError, match="allow_pickle"):
        files.read(tmp_path / "x.npz", "npz")


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_what_a_format_cannot_hold(tmp_path: Path, kind: str) -> None:
    wrong = np.zeros(4, np.complex128) if kind == "safetensors" else np.zeros(4, ml_dtypes.bfloat16)
    with pytest.raises(FileError, match=r"tensor 'w': .* cannot hold (complex128|bfloat16)"):
        rewritten(tmp_path / "x", Checkpoint({"w": wrong}), kind)
    with pytest.raises(FileError, match="nested"):
        rewritten(tmp_path / "x", Checkpoint({"model": {"w": np.zeros(1)}}), kind)
    assert os.listdir(tmp_path) == []


def test_torch_nested(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {"model": {"w": torch.arange(6.0).reshape(2, 3)}, "step": 7, "note": "x"}
    back = rewritten(tmp_path / "x.pt", Checkpoint(state), "pt").tensors
    assert back["step"] == 7
    assert back["note"] == "x"
    assert torch.equal(back["model"]["w"], state["model"]["w"])
    assert not files.is_flat(back)
    assert files.is_flat(back["model"])


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("evil",)


def test_torch_never_unpickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Evil()}, "zip.pt")
    Path("old.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    Path("cut.pt").write_bytes(Path("zip.pt").read_bytes()[:100])
    for name in ("zip.pt", "old.pt", "cut.pt"):
        with pytest.raises(FileError, match=name):
            files.read(Path(name), "pt")
    assert not Path("evil").exists()


def test_a_pickled_module_is_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "module.pt"
    torch.save({"net": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(
        FileError, match=r"module\.pt: .*\(torch\.nn\.modules\.linear\.Linear\).*state_dict\(\)$"
    ):
        files.read(path, "pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_refused_pickle_without_a_class_says_why(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "old.pt"
    path.write_bytes(pickle.dumps([bytearray(3)], protocol=5))  # an operand that torch does not know
    with pytest.raises(FileError, match=r"old\.pt: .*\(Unsupported operand \d+\)"):
        files.read(path, "pt")


def test_formats_by_ending_and_content(tmp_path: Path) -> None:
    assert files.format_of("a/B.PTH") == "pt"
    assert files.format_of("a.bin") is None
    for kind in ("safetensors", "npz"):
        rewritten(tmp_path / kind, Checkpoint({"w": np.ones(2, np.float32)}), kind)
        assert files.sniff(tmp_path / kind) == kind
    (tmp_path / "nncz").write_bytes(b"\x89NNC\r\n\x1a\n")
    assert files.sniff(tmp_path / "nncz") == "nncz"
    (tmp_path / "text").write_bytes(b"hello, world; this is text")
    assert files.sniff(tmp_path / "text") is None
