"""Size against error and accuracy of lossy codecs, for each network of the data folder and MiniLM.

Weights of two or more dimensions are quantised, the rest is lossless. `bits` are those of the whole file per element
of the checkpoint, `matrix bits` those of the records of quantised tensors per quantised weight, `rel_mse` and `snr`
are measured on what decode gives back. Speeds are of float bytes of the whole checkpoint and include the search for
the budget; `copy` is the rate of memcpy in the same run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nncodec
from bench import tasks
from bench.datasets import data_dir, minilm, networks, read_safetensors
from bench.suite import Options, Row
from bench.timing import memcpy_of, take_turns

REL_MSE = (3e-2, 1e-2, 3e-3, 1e-3)
_TASK_SAMPLES = 2000

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
    codec = {key: "uniform" if key in set(lossy) else "lossless" for key in tensors}
    if not lossy:
        options.note(f"{name} has no float tensors of two or more dimensions")
        return
    metric, original = _score(name, tensors, folder)
    for target in REL_MSE:
        yield _row(name, tensors, lossy, codec, target, (metric, original), folder, options)


def _row(
    name: str,
    tensors: Tensors,
    lossy: list[str],
    codec: dict[str, str],
    target: float,
    scored: tuple[str | None, float | None],
    folder: Path | None,
    options: Options,
) -> Row:
    threads = options.threads
    blob = nncodec.encode(tensors, codec=codec, rel_mse=target, threads=threads)
    decoded = nncodec.decode(blob, framework="np", threads=threads)
    matrix_bytes = _stored_bytes(blob, lossy)
    n_bytes = sum(x.nbytes for x in tensors.values())
    timings = take_turns(
        [
            lambda: nncodec.encode(tensors, codec=codec, rel_mse=target, threads=threads),
            lambda: nncodec.decode(blob, framework="np", threads=threads),
            memcpy_of(n_bytes),
        ],
        options.rounds,
    )
    error = sum(_square(tensors[k].astype(np.float64) - decoded[k].astype(np.float64)) for k in lossy)
    rel_mse = error / sum(_square(tensors[k].astype(np.float64)) for k in lossy)
    row: Row = {
        "network": name,
        "asked": target,
        "rel_mse": rel_mse,
        "snr": -10 * math.log10(rel_mse),
        "bits": 8 * len(blob) / sum(x.size for x in tensors.values()),
        "matrix bits": 8 * matrix_bytes / sum(tensors[k].size for k in lossy),
        "ratio": n_bytes / len(blob),
    }
    for what, timing in zip(("encode", "decode", "copy"), timings, strict=True):
        row[f"{what} MB/s"] = timing.mb_per_s(n_bytes)
    metric, original = scored
    if metric is not None and original is not None:
        row["metric"], row["original"] = metric, original
        row["decoded"] = _score(name, decoded, folder)[1]
    return row


def _stored_bytes(blob: bytes, names: list[str]) -> float:
    """Bytes of these tensors' records, headers and checksums included."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "blob.nncz"
        path.write_bytes(blob)
        with nncodec.open(path) as file:
            return sum(file.info(name).stored_bytes for name in names)


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
