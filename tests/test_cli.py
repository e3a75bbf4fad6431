"""The command line: what it writes, what it refuses, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("click")
pytest.importorskip("safetensors")

from click.testing import CliRunner, Result

import nncodec
from nncodec import files
from nncodec.cli import cli
from nncodec.files import Checkpoint
from nncodec.writer import atomic_file

RNG = np.random.default_rng(0)
WEIGHTS = {
    "embed.weight": RNG.normal(0, 0.05, (256, 64)).astype(np.float32),
    "layer.weight": RNG.normal(0, 0.02, (128, 64)).astype(np.float32),
    "layer.bias": np.zeros(128, np.float32),
    "steps": np.array(7),
}
RAW_BYTES = sum(value.nbytes for value in WEIGHTS.values())


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """model.safetensors in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    with atomic_file(Path("model.safetensors")) as file:
        files.write(Checkpoint(WEIGHTS, {"format": "pt"}), file, "safetensors")
    return Path("model.safetensors")


@pytest.fixture
def coded(model: Path) -> Path:
    """model.nncz beside model.safetensors."""
    nncodec.save_file(WEIGHTS, "model.nncz", metadata={"format": "pt"})
    return Path("model.nncz")


def run(*arguments: str | Path, status: int = 0, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == status, result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def spawn(*arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nncodec", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def same(a: Any, b: Any) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


# --- there and back


def test_there_and_back_byte_for_byte(model: Path) -> None:
    before = model.read_bytes()
    run("encode", model)
    assert model.read_bytes() == before
    run("decode", "model.nncz", "-o", "back.safetensors")
    assert Path("back.safetensors").read_bytes() == before


def test_npz(model: Path) -> None:
    np.savez("in.npz", **WEIGHTS)
    run("encode", "in.npz", "-o", "x.nncz")
    run("decode", "x.nncz", "-o", "out.npz")
    assert same(dict(np.load("out.npz")), WEIGHTS)


def test_nested_torch_checkpoint(model: Path) -> None:
    torch = pytest.importorskip("torch")
    shared = torch.arange(12.0).reshape(3, 4)
    state = {"model": {"a": shared, "tied": shared}, "optimizer": {"lr": 0.1, "steps": [1, 2]}, "name": "x"}
    torch.save(state, "checkpoint.pt")
    run("encode", "checkpoint.pt")
    Path("checkpoint.pt").rename("original.pt")
    run("decode", "checkpoint.nncz")
    back = torch.load("checkpoint.pt", weights_only=True)
    assert torch.equal(back["model"]["a"], shared)
    assert back["model"]["tied"].data_ptr() == back["model"]["a"].data_ptr()
    assert back["optimizer"] == state["optimizer"]
    assert "nested" in run("decode", "checkpoint.nncz", "-o", "x.safetensors", status=1).stderr


def test_pt_from_safetensors(coded: Path) -> None:
    torch = pytest.importorskip("torch")
    run("decode", coded, "-o", "model.pt")
    back = torch.load("model.pt", weights_only=True)
    assert same({name: value.numpy() for name, value in back.items()}, WEIGHTS)


def test_encode_again_from_nncz(coded: Path) -> None:
    run("encode", coded, "-o", "small.nncz", "--ratio", "8")
    assert Path("small.nncz").stat().st_size == pytest.approx(RAW_BYTES / 8, rel=0.02)
    with nncodec.open("small.nncz") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("kind", ["safetensors", "npz", "nncz"])
def test_streams(model: Path, kind: str) -> None:
    if kind == "npz":
        np.savez("in.npz", **WEIGHTS)
        data = Path("in.npz").read_bytes()
    else:
        data = (
            model.read_bytes()
            if kind == "safetensors"
            else nncodec.encode(WEIGHTS, metadata={"format": "pt"})
        )
    blob = run("encode", "-", stdin=data).stdout_bytes
    assert same(nncodec.decode(blob, framework="np"), WEIGHTS)
    back = run("decode", "-", stdin=blob).stdout_bytes
    if kind != "npz":
        assert back == model.read_bytes()
    assert "checksum" in run("verify", "-", stdin=blob).output


# --- options


def test_budget_takes_a_lossy_codec(model: Path) -> None:
    result = run("encode", model, "--snr-db", "20", "--json", "-f")
    out = nncodec.load_file("model.nncz", framework="np")
    error = sum(
        float(((WEIGHTS[k].astype(float) - out[k]) ** 2).sum()) for k in WEIGHTS if k.endswith("weight")
    )
    power = sum(float((WEIGHTS[k].astype(float) ** 2).sum()) for k in WEIGHTS if k.endswith("weight"))
    assert 10 * np.log10(power / error) == pytest.approx(20, abs=0.3)
    told = json.loads(result.stdout)
    assert told["codec"] == "uniform"
    assert told["bytes"] == Path("model.nncz").stat().st_size
    assert told["raw_bytes"] == RAW_BYTES


def test_codec_patterns(model: Path) -> None:
    run("encode", model, "--codec", "embed.*=uniform", "--codec", "lossless", "--bits", "12")
    out = nncodec.load_file("model.nncz", framework="np")
    assert not np.array_equal(out["embed.weight"], WEIGHTS["embed.weight"])
    assert np.array_equal(out["layer.weight"], WEIGHTS["layer.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codec", "zip"], "unknown codec 'zip'"),
        (["--ratio", "8", "--bits", "3"], "one budget"),
        (["--ratio", "-1"], "ratio"),
        (["--codec", "lossless", "--ratio", "8"], "ratio"),
        (["--codec", "uniform"], "--step, --snr-db, --rel-mse, --bits, --ratio"),
        (["--codec", "absent.*=uniform", "--codec", "lossless", "--bits", "4"], "absent"),
        (["--threads", "0"], "--threads"),
        (["-o", "model.safetensors"], "is the input"),
        (["-o", "."], "directory"),
        (["--colour"], "--colour"),
    ],
)
def test_wrong_usage_of_encode(model: Path, arguments: list[str], message: str) -> None:
    assert message in run("encode", model, *arguments, status=2).stderr
    assert os.listdir() == ["model.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "absent.pt"], "absent.pt"),
        (["decode", "model.nncz", "-o", "x.onnx"], ".safetensors, .pt"),
        (["decode", "model.nncz", "-o", "x.nncz"], ".safetensors, .pt"),
        (["info", "model.nncz", "absent"], "absent"),
        (["verify"], "IN"),
        (["compress"], "compress"),
    ],
)
def test_wrong_usage(coded: Path, arguments: list[str], message: str) -> None:
    assert message in run(*arguments, status=2).stderr


def test_refuses_to_overwrite_unless_forced(coded: Path) -> None:
    for command, target in (("encode", "model.nncz"), ("decode", "model.safetensors")):
        source = "model.safetensors" if command == "encode" else "model.nncz"
        Path(target).rename("kept")
        Path(target).write_bytes(b"precious")
        if command == "decode":
            Path(source).write_bytes(nncodec.encode(WEIGHTS))
        assert "-f" in run(command, source, status=2).stderr
        assert Path(target).read_bytes() == b"precious"
        run(command, source, "-f")
        assert Path(target).read_bytes() != b"precious"
        Path("kept").rename(target)


def test_quiet_and_no_terminal_codes(model: Path) -> None:
    result = run("encode", model, "-q")
    assert result.output == ""
    assert "\r" not in run("encode", model, "-f").output


# --- info, verify


def test_info(coded: Path) -> None:
    text = run("info", coded).stdout
    for word in ("embed.weight", "lossless", "float32", "256x64", "bits/weight", "format"):
        assert word in text
    told = json.loads(run("info", coded, "--json").stdout)
    assert [tensor["name"] for tensor in told["tensors"]] == list(WEIGHTS)
    assert told["file_bytes"] == coded.stat().st_size
    assert told["metadata"] == {"format": "pt"}
    for tensor in told["tensors"]:
        value = WEIGHTS[tensor["name"]]
        assert tensor["shape"] == list(value.shape)
        assert tensor["dtype"] == value.dtype.name
    assert sum(tensor["bytes"] for tensor in told["tensors"]) <= told["file_bytes"]
    assert sum(tensor["bytes"] for tensor in told["tensors"]) > 0.9 * told["file_bytes"]


def test_info_of_one_tensor(coded: Path) -> None:
    text = run("info", coded, "layer.bias").stdout
    assert "layer.bias" in text
    assert "embed.weight" not in text
    assert json.loads(run("info", coded, "layer.bias", "--json").stdout)["shape"] == [128]


def test_verify(coded: Path) -> None:
    assert "right" in run("verify", coded).output
    assert json.loads(run("verify", coded, "--json").stdout)["ok"] is True
    damaged = bytearray(coded.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    Path("bad.nncz").write_bytes(damaged)
    result = run("verify", "bad.nncz", status=1)
    assert "checksum" in result.stderr
    assert "byte" in result.stderr
    assert json.loads(run("verify", "bad.nncz", "--json", status=1).stdout)["ok"] is False


def test_verify_names_the_first_damage_of_a_cut_file(coded: Path) -> None:
    """The footer is gone then, but it is not where the damage begins."""
    blob = bytearray(coded.read_bytes())
    with nncodec.open(coded) as file:
        first, second = sorted(map(file.info, ("embed.weight", "layer.weight")), key=lambda info: info.offset)
    cut = Path("cut.nncz")
    cut.write_bytes(blob[: second.offset + int(second.stored_bytes) // 2])
    found = json.loads(run("verify", cut, "--json", status=1).stdout)
    assert found["tensor"] == second.name
    assert "the file ends" in found["cause"] or "are left" in found["cause"]
    blob[first.offset + int(first.stored_bytes) // 2] ^= 1
    cut.write_bytes(blob[: second.offset + int(second.stored_bytes) // 2])
    found = json.loads(run("verify", cut, "--json", status=1).stdout)
    assert found["tensor"] == first.name
    assert "checksum" in found["cause"]


# --- bad input


def test_damaged_input(coded: Path) -> None:
    Path("cut.nncz").write_bytes(coded.read_bytes()[:-40])
    outputs = {"decode": ["-o", "x.npz"], "encode": ["-o", "x.nncz"]}
    for command in ("decode", "info", "verify", "encode"):
        result = run(command, "cut.nncz", *outputs.get(command, []), status=1)
        assert result.stderr.startswith("Error: ")
        assert len(result.stderr) < 500
    assert sorted(os.listdir()) == ["cut.nncz", "model.nncz", "model.safetensors"]
    Path("text.nncz").write_bytes(b"no bitstream at all")
    run("decode", "text.nncz", status=1)
    Path("text.bin").write_bytes(b"no checkpoint at all")
    assert "text.bin" in run("encode", "text.bin", "-f", status=1).stderr


@pytest.mark.parametrize("verb", ["decode", "info", "verify", "decode --recover"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.nncz").write_text("hello" * 20)
    result = run(*verb.split(), "text.nncz", status=1)
    assert "text.nncz: " in result.stderr
    assert "this is not an nncodec bitstream" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text.nncz"]


def test_npz_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (b"", b"hi there", b"\x93NUMPY\x01\x00"):
        Path("x.npz").write_bytes(content)
        assert "x.npz: no zip archive" in run("encode", "x.npz", status=1).stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named(model: Path) -> None:
    assert "/dev/full: No space left" in run("encode", str(model), "-o", "/dev/full", "-f", status=1).stderr


def test_recover(model: Path) -> None:
    big = {f"t{i}": RNG.normal(size=(200, 300)).astype(np.float32) for i in range(4)}
    blob = nncodec.encode(big)
    Path("cut.nncz").write_bytes(blob[: int(len(blob) * 0.6)])
    run("decode", "cut.nncz", "-o", "x.npz", status=1)
    result = run("decode", "cut.nncz", "-o", "x.npz", "--recover", status=1)
    whole = dict(np.load("x.npz"))
    assert 1 <= len(whole) < 4
    assert all(np.array_equal(whole[name], big[name]) for name in whole)
    assert f"{len(whole)} " in result.stderr
    Path("good.nncz").write_bytes(blob)
    run("decode", "good.nncz", "-o", "y.npz", "--recover")
    assert same(dict(np.load("y.npz")), big)


def test_unsupported_object_in_a_torch_file(model: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.eye(3).to_sparse()}, "sparse.pt")
    result = run("encode", "sparse.pt", status=1)
    assert "sparse" in result.stderr
    assert not Path("sparse.nncz").exists()


# --- processes


def test_closed_pipe_is_quiet(coded: Path) -> None:
    many = {
        f"{i}." + 400 * "layer": np.ones((2, 2), np.float32) for i in range(500)
    }  # more than a pipe holds
    nncodec.save_file(many, "many.nncz")
    process = spawn("info", "many.nncz")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_interrupt_is_quiet(model: Path) -> None:
    reading, writing = os.pipe()
    process = spawn("encode", "-", "-o", "x.nncz", stdin=reading)
    os.close(reading)
    os.write(writing, b"x")
    time.sleep(1.5)  # it has started, and waits for the rest of its input
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    os.close(writing)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert os.listdir() == ["model.safetensors"]


def test_full_disk(coded: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nncodec", "decode", str(coded), "-o", "-"],
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_demo_command() -> None:
    assert "bit for bit" in run("demo").stdout
    assert json.loads(run("demo", "--json").stdout)["bit_exact"] is True
    assert run("demo", "-q").output == ""


def test_bench_runs_the_repository_or_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__main__.py").write_text(
        "import sys; sys.exit(sys.argv[1:] != ['kernels', '--json'])"
    )
    (tmp_path / "cpp" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    run("bench", "kernels", "--json")
    run("bench", "other", status=1)


def test_version_and_help() -> None:
    assert nncodec.__version__ in run("--version").stdout
    for command in ("encode", "decode", "info", "verify", "demo"):
        text = run(command, "--help").stdout
        for option in ("--threads", "--json", "-q", "-f"):
            assert option in text
