"""``nncodec report``: what it reads, what it refuses to overwrite, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("click")

from click.testing import CliRunner, Result

import nncodec
from nncodec.cli import cli

WEIGHT = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """a.nncz and its original w.npz in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    nncodec.save_file({"w": WEIGHT}, "a.nncz", "uniform", rel_mse=1e-2)
    np.savez("w.npz", w=WEIGHT)


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["report", "a.nncz", "--no-curve", *arguments])
    assert result.exit_code == status, result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_summary_and_page() -> None:
    found = json.loads(run("--against", "w.npz", "--json").stdout)
    assert found["output"] == "a.html"
    assert found["rel_mse"] == pytest.approx(1e-2, rel=0.01)
    assert Path("a.html").read_text().startswith("<!doctype html>")


def test_stream() -> None:
    result = run("-o", "-", "--json")
    assert result.stdout.startswith("<!doctype html>")
    assert json.loads(result.stderr)["output"] == "-"


def test_nothing_is_overwritten_unasked() -> None:
    run()
    assert "use -f" in run(status=2).output
    run("-f")
    before = Path("w.npz").read_bytes()
    assert "is the original" in run("--against", "w.npz", "-o", "w.npz", "-f", status=2).output
    assert "is the input" in run("-o", "a.nncz", "-f", status=2).output
    assert Path("w.npz").read_bytes() == before


def test_pictures_are_not_overwritten_unasked() -> None:
    pytest.importorskip("matplotlib")
    Path("pictures").mkdir()
    Path("pictures/curve.png").write_bytes(b"mine")
    assert "curve.png exists" in run("--images", "pictures", status=2).output
    assert not Path("a.html").exists()
    run("--images", "pictures", "-f")
    assert Path("pictures/bytes.png").exists()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nncodec.cli.find_spec", lambda name: None)
    assert "--images needs matplotlib" in run("--images", "pictures", status=2).output
    assert not Path("a.html").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.nncz", b"junk"),
        ("bad.npz", b"PKjunk"),
        ("bad.safetensors", b"\x08" + bytes(7) + b"{junk}  "),
        ("bad.bin", b"junk"),
    ],
)
def test_damaged_original_is_named(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    result = run("--against", name, status=1)
    assert result.output.startswith(f"Error: {name}: ")
    assert not Path("a.html").exists()


@pytest.mark.parametrize("content", [b"junk", b"", b"\x80", b"PK\x03\x04junk", b"\x80\x02cos\nsystem\n."])
def test_damaged_torch_original(content: bytes) -> None:
    pytest.importorskip("torch")
    Path("bad.pt").write_bytes(content)
    assert run("--against", "bad.pt", status=1).output.startswith("Error: bad.pt: ")


def test_torch_originals() -> None:
    torch = pytest.importorskip("torch")
    nested = {"model": {"w": torch.from_numpy(WEIGHT)}, "epoch": 3}
    nncodec.save_file(nested, "a.nncz", "uniform", rel_mse=1e-2)
    torch.save(nested | {"lr": [1.0, None]}, "nested.pt")
    found = json.loads(run("--against", "nested.pt", "--json").stdout)
    assert found["rel_mse"] == pytest.approx(1e-2, rel=0.01)
    torch.save(3, "number.pt")
    assert run("--against", "number.pt", "-f", status=1).output.startswith("Error: number.pt: ")


def test_error_that_is_not_finite_is_json() -> None:
    np.savez("nan.npz", w=np.full((32, 32), np.nan, np.float32))
    assert '"rel_mse": null' in run("--against", "nan.npz", "--json").stdout
