"""The benchmark runner, and its readers, work; figures are not asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
datasets = pytest.importorskip("bench.datasets", reason="bench/ is not part of the wheel")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_kernels_suite_as_json_and_as_table() -> None:
    outcome = bench("kernels", "--json", "--only", "crc32c", "--rounds", "1")
    assert outcome.returncode == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert document["suite"] == "kernels"
    assert {"cpu", "compiler", "isa", "versions"} <= document["environment"].keys()
    assert all(row["kernel"] == "crc32c" and row["x twin"] > 1 for row in document["rows"])

    table = bench("kernels", "--only", "crc32c", "--rounds", "1").stdout.splitlines()
    assert table[0].split()[:3] == ["kernel", "isa", "MB/s"]
    assert bench("no-such-suite").returncode == 2


def test_safetensors_reader(tmp_path: Path) -> None:
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    tensors = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(7, np.int64),
        "c": np.zeros((0, 4), np.float16),
        "d": np.array([True, False]),
    }
    safetensors_numpy.save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "np"})
    read = datasets.read_safetensors(tmp_path / "x.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read[name], tensor)


def test_missing_data_is_said(tmp_path: Path) -> None:
    found, reason = datasets.networks(tmp_path)
    assert found == {}
    assert "no weights" in reason
    with pytest.raises(FileNotFoundError, match="does not exist"):
        datasets.data_dir(tmp_path / "nowhere")
