"""Size against error and accuracy of lossy codecs, for each network of the data folder and MiniLM.

Weights of two or more dimensions are quantised, the rest is lossless (the ISO peer quantises that, finely). `bits` are
those of the whole file per element of the checkpoint; `rel_mse` is measured on what decode gives back, over tensors of
two or more dimensions. `metric` is the network's task, where torch is installed: `original` before, `decoded` after.
Speeds are of float bytes of the whole checkpoint; ours include the search for the budget.

The peer has no budget: its quantisation parameter is searched for, and `bits` are interpolated between the two
parameters around the error asked for, linearly over its logarithm. `of peer` is our `bits` over its.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nncodec
from bench import tasks
from bench.contenders.contender import Unavailable
from bench.contenders.nnc import NNC
from bench.datasets import data_dir, minilm, networks, read_safetensors
from bench.suite import Options, Row
from bench.timing import take_turns
from nncodec.codecs import LossyCodec, Trellis, Uniform

REL_MSE = (3e-2, 1e-2, 3e-3, 1e-3)
CODECS: tuple[tuple[str, LossyCodec], ...] = (
    ("trellis 256", Trellis()),
    ("trellis 8", Trellis(8)),
    ("uniform", Uniform()),
)
_TASK_SAMPLES = 2000
_QP_OF_STEP = 4  # quantisation parameters to a doubling of the peer's step

Tensors = dict[str, NDArray[Any]]


def run(options: Options) -> Iterator[Row]:
    files, why = networks(options.data)
    if why is not None:
        options.note(why)
    path, why = minilm()
    if path is not None:
        files["minilm"] = path
    elif why is not None:
        options.note(why)
    if find_spec("torch") is None:
        options.note("torch is not installed: no accuracies")
    for name, file in files.items():
        if options.wants(name):
            yield from _network(name, read_safetensors(file), options)


def _network(name: str, tensors: Tensors, options: Options) -> Iterator[Row]:
    folder = data_dir(options.data)
    lossy = [key for key, x in tensors.items() if x.ndim >= 2 and _is_float(x)]
    if not lossy:
        options.note(f"{name} has no float tensors of two or more dimensions")
        return
    scored = _score(name, tensors, folder)
    peer = _Peer(tensors, lossy, options)
    for target in REL_MSE:
        theirs = peer.row(target)
        for codec_name, codec in CODECS:
            row: Row = {"network": f"{name}, {codec_name}", "asked": target}
            row |= _ours(tensors, lossy, codec, target, options)
            out = row.pop("out")
            row["of peer"] = None if theirs is None else float(row["bits"]) / float(theirs["bits"])  # type: ignore[arg-type]
            if scored[0] is not None:
                row["metric"], row["original"] = scored
                row["decoded"] = _score(name, out, folder)[1]  # type: ignore[arg-type]
            yield row
        if theirs is not None:
            yield {"network": f"{name}, nncodec (ISO)", **theirs}


def _ours(
    tensors: Tensors, lossy: list[str], codec: LossyCodec, target: float, options: Options
) -> dict[str, Any]:
    n_bytes = sum(x.nbytes for x in tensors.values())
    made: dict[str, Any] = {}

    def encode() -> None:
        made["blob"] = nncodec.encode(tensors, codec, rel_mse=target, threads=options.threads)

    def decode() -> None:
        made["out"] = nncodec.decode(made["blob"], framework="np", threads=options.threads)

    encode()
    timings = take_turns([encode, decode], options.rounds)
    return {
        "rel_mse": _rel_mse(tensors, made["out"], lossy),
        "bits": 8 * len(made["blob"]) / sum(x.size for x in tensors.values()),
        "ratio": n_bytes / len(made["blob"]),
        "encode MB/s": timings[0].mb_per_s(n_bytes),
        "decode MB/s": timings[1].mb_per_s(n_bytes),
        "out": made["out"],
    }


class _Peer:
    """The ISO codec at any error: remembers what each quantisation parameter gave."""

    def __init__(self, tensors: Tensors, lossy: list[str], options: Options) -> None:
        self._tensors, self._lossy, self._found = (
            tensors,
            lossy,
            dict[int, tuple[float, float, float, float]](),
        )
        try:
            self._codec: NNC | None = NNC()
        except Unavailable as reason:
            self._codec = None
            options.note(str(reason))

    def _at(self, qp: int) -> tuple[float, float, float, float]:
        """log2 of the relative error, bits per element, seconds to encode and decode."""
        if qp not in self._found:
            assert self._codec is not None
            blob = self._codec.encode(self._tensors, qp)
            encode = self._codec.seconds
            out = self._codec.decode(blob)
            elements = sum(x.size for x in self._tensors.values())
            error = _rel_mse(self._tensors, out, self._lossy)
            self._found[qp] = (math.log2(error), 8 * len(blob) / elements, encode, self._codec.seconds)
        return self._found[qp]

    def row(self, target: float) -> Row | None:
        if self._codec is None:
            return None
        wanted = math.log2(target)
        energy = sum(_square(self._tensors[k].astype(np.float64)) for k in self._lossy)
        elements = sum(self._tensors[k].size for k in self._lossy)
        step = math.sqrt(4 * target * energy / elements)
        qp = round(_QP_OF_STEP * math.log2(step))
        for _ in range(20):  # until qp is at or below the error, qp + 1 above
            if self._at(qp)[0] > wanted:
                qp -= 1
            elif self._at(qp + 1)[0] <= wanted:
                qp += 1
            else:
                break
        (x0, bits0, encode, decode), (x1, bits1, _, _) = self._at(qp), self._at(qp + 1)
        n_bytes = sum(x.nbytes for x in self._tensors.values())
        return {
            "asked": target,
            "rel_mse": target,
            "bits": bits0 + (bits1 - bits0) * (wanted - x0) / (x1 - x0),
            "encode MB/s": n_bytes / encode / 1e6,
            "decode MB/s": n_bytes / decode / 1e6,
        }


def _rel_mse(tensors: Tensors, out: Tensors, lossy: list[str]) -> float:
    error = sum(_square(tensors[k].astype(np.float64) - out[k].astype(np.float64)) for k in lossy)
    return error / sum(_square(tensors[k].astype(np.float64)) for k in lossy)


def _score(name: str, tensors: Tensors, folder: Path | None) -> tuple[str | None, float | None]:
    if name not in tasks.NAMES or folder is None or find_spec("torch") is None:
        return None, None
    with suppress(FileNotFoundError):
        metric, value = next(iter(tasks.score(name, tensors, folder, _TASK_SAMPLES).items()))
        return metric, value
    return None, None


def _is_float(x: NDArray[Any]) -> bool:
    return x.dtype.kind == "f" or x.dtype.name == "bfloat16"


def _square(x: NDArray[np.float64]) -> float:
    return float((x * x).sum())
