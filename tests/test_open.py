"""Random access: only what is asked for is read and decoded, from any thread."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import nncodec


def tensors() -> dict:
    rng = np.random.default_rng(3)
    weight = torch.from_numpy(rng.normal(size=(700, 1000)).astype(np.float32))
    return {
        "weight": weight,
        "tied": weight,
        "rows": weight[10:20],
        "bias": torch.from_numpy(rng.normal(size=30).astype(np.float32)),
        "steps": np.arange(10, dtype=np.int64),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": np.empty((0, 4), np.float32),
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    place = tmp_path_factory.mktemp("open") / "model.nncz"
    nncodec.save_file(tensors(), place, "stored", metadata={"format": "pt"})
    return place


def test_it_stands_in_for_safe_open(path):
    want = tensors()
    with nncodec.open(path, framework="pt") as file:
        assert file.keys() == list(want)
        assert sorted(file.offset_keys()) == sorted(want)
        assert file.metadata() == {"format": "pt"}
        assert len(file) == len(want)
        assert list(file) == list(want)
        assert "bias" in file
        assert "nothing" not in file
        for name, tensor in want.items():
            assert isinstance(file[name], torch.Tensor)
            assert torch.equal(file[name], torch.as_tensor(tensor))
        with pytest.raises(KeyError):
            file["nothing"]
        with pytest.raises(KeyError):
            file.get_slice("nothing")


def test_out_is_decoded_into(path):
    want = tensors()
    with nncodec.open(path) as file:
        for name, tensor in want.items():
            out = torch.empty_like(tensor) if isinstance(tensor, torch.Tensor) else np.empty_like(tensor)
            assert file.get_tensor(name, out=out) is out
            assert np.array_equal(np.asarray(out), np.asarray(tensor))
        other = np.empty((700, 1000), np.float32)
        file.get_tensor("weight", out=other)
        assert np.array_equal(other, want["weight"].numpy())


@pytest.mark.parametrize(
    ("out", "error", "why"),
    [
        (lambda: np.empty((700, 1000), np.float64), TypeError, "type"),
        (lambda: np.empty((1000, 700), np.float32), ValueError, "shape"),
        (lambda: np.empty((1000, 700), np.float32).T, ValueError, "contiguous"),
        (lambda: np.empty((700, 1000), ">f4"), ValueError, "little-endian"),
        (lambda: np.broadcast_to(np.float32(1), (700, 1000)), ValueError, "contiguous"),
        (lambda: read_only(), ValueError, "writable"),
        (lambda: [1.0], TypeError, "expected a torch.Tensor"),
    ],
)
def test_out_must_fit(path, out, error, why):
    with nncodec.open(path) as file, pytest.raises(error, match=why):
        file.get_tensor("weight", out=out())


def read_only() -> np.ndarray:
    array = np.empty((700, 1000), np.float32)
    array.flags.writeable = False
    return array


INDICES = [
    np.s_[:],
    np.s_[3:5],
    np.s_[-5:],
    np.s_[600:400],
    np.s_[260:270, 5:9],
    np.s_[7],
    np.s_[-1],
    np.s_[7, 3],
    np.s_[5:9, ..., None],
    np.s_[::100],
    np.s_[...],
    np.s_[..., 2],
    np.s_[None, 3],
    np.s_[()],
    np.s_[100:10_000],
]


@pytest.mark.parametrize("name", ["weight", "tied", "rows"])
@pytest.mark.parametrize("index", INDICES, ids=str)
def test_slices(path, name, index):
    want = tensors()[name][index]
    with nncodec.open(path) as file:
        part = file.get_slice(name)
        assert part.get_shape() == list(tensors()[name].shape)
        assert part.get_dtype() == "F32"
        if name == "rows" and index == np.s_[100:10_000]:
            assert part[index].shape == (0, 1000)
            return
        assert torch.equal(part[index], want)


def test_slices_of_numpy_and_out_of_range(path):
    with nncodec.open(path, framework="np") as file:
        part = file.get_slice("steps")
        assert part[2:4].tolist() == [2, 3]
        assert part[::-1].tolist() == list(range(9, -1, -1))
        assert part.get_dtype() == "I64"
        with pytest.raises(IndexError):
            part[10]
        with pytest.raises(IndexError):
            file.get_slice("weight")[0, 5000]
        assert file.get_slice("scalar")[()] == 2.5
        assert file.get_slice("empty")[:].shape == (0, 4)


def test_state_dict_is_a_mapping(path):
    with nncodec.open(path) as file:
        state = file.state_dict()
        assert isinstance(state, Mapping)
        assert list(state) == list(tensors())
        assert torch.equal(state["bias"], tensors()["bias"])
        assert "x" not in state
        layer = torch.nn.Linear(1000, 700, bias=False)
        layer.load_state_dict({"weight": state["weight"]})
        again = nncodec.encode(state, "stored")
    assert list(nncodec.decode(again)) == list(tensors())


def test_info(path):
    with nncodec.open(path) as file:
        facts = file.info("weight")
        assert (facts.codec, facts.dtype, facts.shape, facts.framework) == (
            "stored",
            "float32",
            (700, 1000),
            "pt",
        )
        assert facts.nbytes == 2_800_000
        assert facts.chunks == 3
        assert 32 < facts.bits_per_weight < 32.01
        assert facts.alias_of is None
        assert file.info("rows").alias_of == "weight"
        assert file.info("rows").stored_bytes == 0
        assert file.info("rows").shape == (10, 1000)
        total = sum(file.info(name).stored_bytes for name in file)
        assert 0 < file.file_bytes - total < 1000
        assert file.nbytes == sum(
            tensor.nbytes for name, tensor in tensors().items() if name not in ("tied", "rows")
        )
        with pytest.raises(AttributeError):
            facts.codec = "other"


def test_names_filter(path):
    for read in (nncodec.load_file, lambda p, **o: nncodec.decode(p.read_bytes(), **o)):
        out = read(path, names=["steps", "rows"])
        assert list(out) == ["steps", "rows"]
        assert torch.equal(out["rows"], tensors()["rows"])
        with pytest.raises(KeyError, match="nothing"):
            read(path, names=["nothing"])


def test_many_threads_at_once(path):
    want = tensors()
    with nncodec.open(path, framework="np") as file, ThreadPoolExecutor(8) as pool:
        names = list(want) * 10
        for name, got in zip(names, pool.map(file.get_tensor, names), strict=True):
            assert np.array_equal(got, np.asarray(want[name]))


def test_closed_and_not_pickled(path):
    file = nncodec.open(path)
    kept = file["bias"]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(file)
    assert "7 tensors" in repr(file)
    file.close()
    file.close()
    assert torch.equal(kept, tensors()["bias"])
    for use in (
        lambda: file["bias"],
        lambda: file.verify(),
        lambda: file.info("bias"),
        lambda: file.file_bytes,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_missing_files(tmp_path):
    for read in (nncodec.open, nncodec.load_file):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.nncz")
    with pytest.raises(ValueError, match="framework"):
        nncodec.decode(nncodec.encode({}, "stored"), framework="tf")


def resident_pages(path, name: str) -> tuple[int, int]:
    """Bytes of the file that a fresh process has touched through its map after decoding one tensor, and file size."""
    script = f"""
        import re, nncodec
        nncodec.File._release = lambda self, start, stop: start  # keep what was read, to count it
        with nncodec.open({str(path)!r}) as file:
            file[{name!r}]
            text = open("/proc/self/smaps").read()
        block = text.split({path.name!r})[1]
        print(1024 * int(re.search(r"Rss:\\s+(\\d+)", block).group(1)))
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    return int(out.stdout), os.path.getsize(path)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="counts pages with Linux's smaps")
def test_one_tensor_reads_only_its_bytes(tmp_path):
    big = {f"layer{i}": np.full((1024, 1024), i, np.float32) for i in range(25)}
    path = tmp_path / "hundred_megabytes.nncz"
    nncodec.save_file(big, path, "stored")
    touched, size = resident_pages(path, "layer12")
    assert size > 100_000_000
    # The system maps neighbouring pages of what is touched (64 KiB at a time) at either end, index and header.
    assert big["layer12"].nbytes <= touched <= big["layer12"].nbytes + (1 << 20)


def test_a_decoder_is_made_only_for_what_memory_could_hold(path, monkeypatch):
    monkeypatch.setattr("nncodec.limits.default_max_bytes", lambda: 1000)
    with nncodec.open(path) as file:
        assert file.info("bias").nbytes == 120
        with pytest.raises(nncodec.LimitError, match="700000 bytes"):
            file.info("weight")


def test_small_tensors_of_one_record_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch-norm vectors share a record; reading them one by one must not decode it again for each."""
    vectors = {f"bn{i}": np.full(16, i, np.float32) for i in range(40)}
    nncodec.save_file(vectors, tmp_path / "model.nncz")
    from nncodec import decoding

    calls = []
    start = decoding.ChunkBatch
    monkeypatch.setattr(decoding, "ChunkBatch", lambda *args: calls.append(1) or start(*args))
    with nncodec.open(tmp_path / "model.nncz") as file:
        for name, vector in vectors.items():
            assert np.array_equal(file[name], vector)
        file["bn0"][:] = 7  # the caller's own copy
        assert np.array_equal(file["bn0"], vectors["bn0"])
    assert len(calls) == 1


def test_tensors_and_slices_of_a_long_shared_record_decode_its_chunks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    layers = {f"layer{i}": rng.normal(size=(64, 16)).astype(np.float32) for i in range(300)}
    nncodec.save_file(layers, tmp_path / "model.nncz", "trellis", bits_per_weight=3)
    want = nncodec.load_file(tmp_path / "model.nncz")
    from nncodec import decoding

    calls = []
    start = decoding.ChunkBatch
    monkeypatch.setattr(decoding, "ChunkBatch", lambda *args: calls.append(1) or start(*args))
    with nncodec.open(tmp_path / "model.nncz") as file:
        records = {file.info(name).offset: file.info(name).chunks for name in file}
        assert len(records) < 5
        for name in file:
            assert np.array_equal(file[name], want[name])
            assert np.array_equal(file.get_slice(name)[3:5, 2:], want[name][3:5, 2:])
        assert len(calls) <= sum(records.values())


@pytest.mark.parametrize("step", ["stored_descriptor", "decoder_for", "check_limit", "stored_chunks"])
def test_a_file_closed_while_it_is_read_is_not_called_damaged(
    path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may close the file between any two steps."""
    from nncodec import reader

    for read in (
        lambda file: file["weight"],
        lambda file: file.load(),
        lambda file: file.get_slice("weight")[3:5],
        lambda file: file.verify(),
        lambda file: file.info("weight"),
    ):
        file = nncodec.open(path)
        do = getattr(reader, step)

        def closing(*args, file=file, do=do, **options):
            file.close()
            return do(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(reader, step, closing)
            why = ""
            try:
                read(file)
            except ValueError as error:
                why = str(error)
            assert why in ("", "the file is closed")


def test_verify_lets_go_of_what_it_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stretches = []
    release = nncodec.File._release

    def noting(file: nncodec.File, start: int, stop: int) -> int:
        stretches.append((start, stop))
        return release(file, start, stop)

    monkeypatch.setattr("nncodec.reader._RELEASE_BYTES", 1 << 16)
    with nncodec.open(path) as file:
        monkeypatch.setattr(nncodec.File, "_release", noting)
        file.verify()
        assert stretches[0][0] == 0
        assert stretches[-1][1] == file.file_bytes
        assert len(stretches) >= 3  # chunks of a megabyte, two of which follow others
