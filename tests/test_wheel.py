"""What every wheel must do on numpy alone: import without torch, go there and back, and say no to damage."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import nncodec
from nncodec import _core

CHECKPOINT = {
    "weight": np.random.default_rng(0).normal(size=(300, 1000)).astype(np.float32),
    "half": np.linspace(-1, 1, 999).astype(np.float16),
    "ids": np.arange(-5, 5),
    "mask": np.array([True, False, True]),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 4), np.int8),
}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


def test_version() -> None:
    assert nncodec.__version__ == _core.__version__ == importlib.metadata.version("nncodec-native")


def test_round_trip() -> None:
    blob = nncodec.encode(CHECKPOINT)
    assert len(blob) < sum(v.nbytes for v in CHECKPOINT.values())
    assert same(nncodec.decode(blob), CHECKPOINT)


def test_threads_give_the_same_bytes() -> None:
    assert nncodec.encode(CHECKPOINT, threads=1) == nncodec.encode(CHECKPOINT, threads=4)


def test_every_instruction_set_gives_the_same_bytes() -> None:
    script = (
        "import sys, numpy as np, nncodec;"
        "x = {'w': np.random.default_rng(1).normal(size=(64, 500)).astype(np.float32)};"
        "sys.stdout.buffer.write(nncodec.encode(x))"
    )

    def blob(isa: str) -> bytes:
        environment = os.environ | {"NNCODEC_FORCE_ISA": isa}
        return subprocess.run(
            [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=True
        ).stdout

    blobs = {isa: blob(isa) for isa in _core.supported_isas()}
    assert "scalar" in blobs
    assert set(blobs.values()) == {blobs["scalar"]}


def test_damage_is_found() -> None:
    blob = bytearray(nncodec.encode(CHECKPOINT))
    blob[len(blob) // 2] ^= 1
    with pytest.raises(nncodec.DecodeError) as caught:
        nncodec.decode(blob)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_import_takes_no_torch() -> None:
    """Neither importing nor decoding numpy arrays imports torch or any other optional package."""
    script = (
        "import sys, numpy as np, nncodec;"
        "nncodec.decode(nncodec.encode({'w': np.ones((4, 4), np.float32)}));"
        "print([m for m in ('torch', 'safetensors', 'click', 'tqdm', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_command_line_says_what_to_install() -> None:
    script = "import sys; sys.modules['click'] = None; from nncodec.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert "nncodec-native[cli]" in done.stderr


def test_demo_is_inside() -> None:
    from nncodec import demo

    report = demo.run()
    assert report.bit_exact
    assert report.rows[0].accuracy > 0.97
    assert report.rows[1].accuracy == report.rows[0].accuracy
    assert all(row.accuracy > 0.9 for row in report.rows)


def test_many_threads_of_the_caller() -> None:
    """Concurrent encodes and decodes do not disturb each other; free-threaded builds run them at once."""
    expected = nncodec.encode(CHECKPOINT)
    results: list[bool] = []

    def work() -> None:
        blob = nncodec.encode(CHECKPOINT, threads=2)
        results.append(blob == expected and same(nncodec.decode(blob, threads=2), CHECKPOINT))

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 6
