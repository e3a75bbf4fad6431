"""NNCodec, the reference-class implementation of ISO/IEC 15938-17 (neural network coding).

Its distribution and ours share an import name, so it lives in an environment of its own, whose interpreter
``NNCODEC_PEER_PYTHON`` names (``pip install --no-deps nncodec==2.1.3`` with torch and numpy < 2). A worker process
there does the work and times it; tensors travel as .npz files.

The options are the best that a sweep found at equal squared error: dependent quantisation (8-state trellis),
rate-distortion optimised (with lambda scale 1, ResNet-20 takes 2.66, 3.41 and 5.01 bits per weight at relative squared
error 3e-2, 1e-2 and 1e-3; with 0, its default, 2.72, 3.45 and 5.03), estimated parameters of the context models, row
skipping, and one step for all weights, not its rule per tensor (``opt_qp``), which serves function, not squared error.
``setting`` is the quantisation parameter, an integer; four steps of it double the quantiser's step.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.contenders.contender import Contender, Unavailable
from bench.datasets import Tensors

__all__ = ["NNC"]

_WORKER = Path(__file__).with_name("nnc_worker.py")
OPTIONS: dict[str, Any] = {
    "use_dq": True,
    "lambda_scale": 1.0,
    "param_opt": True,
    "row_skipping": True,
    "opt_qp": False,
    "nonweight_qp": -75,
}


class NNC(Contender):
    """Only float32: other float types are converted, integers become int32."""

    name = "nncodec (ISO)"
    lossy = True

    def __init__(self, **options: Any) -> None:
        interpreter = os.environ.get("NNCODEC_PEER_PYTHON")
        if not interpreter or not Path(interpreter).exists():
            raise Unavailable("nncodec (ISO): NNCODEC_PEER_PYTHON names no interpreter that has it")
        self._options = OPTIONS | options
        # -I: neither this folder nor the caller's environment must stand before the environment's own packages.
        self._process = subprocess.Popen(
            [interpreter, "-I", str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.version = str(self._ask({"do": "version"})["version"])
        except RuntimeError as reason:
            raise Unavailable(f"nncodec (ISO): {reason}") from reason

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; the empty answer below says so
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        self.seconds = float(answer.get("seconds", 0.0))
        return answer

    def encode(self, tensors: Tensors, setting: float | None = None) -> bytes:
        if setting is None:
            raise ValueError("setting must be a quantisation parameter such as -32")
        plain = {
            name: np.asarray(value, np.int32 if np.issubdtype(value.dtype, np.integer) else np.float32)
            for name, value in tensors.items()
        }
        with TemporaryDirectory() as folder:
            source, target = Path(folder, "in.npz"), Path(folder, "out.nnc")
            np.savez(source, **plain)  # type: ignore[arg-type]
            options = self._options | {"qp": int(setting)}
            self._ask({"do": "encode", "in": str(source), "out": str(target), "options": options})
            return target.read_bytes()

    def decode(self, data: bytes) -> Tensors:
        with TemporaryDirectory() as folder:
            source, target = Path(folder, "in.nnc"), Path(folder, "out.npz")
            source.write_bytes(data)
            self._ask({"do": "decode", "in": str(source), "out": str(target)})
            with np.load(target) as file:
                return {name: file[name] for name in file.files}

    def close(self) -> None:
        """End the worker."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> NNC:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
