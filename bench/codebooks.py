"""k-means against scikit-learn's best of ten starts, and codec codebook on whole checkpoints.

Rows "k-means": `objective` is ours over theirs (at most 1), `x faster` their time over ours, sorting included, for 16
clusters of real tensors (the 20 largest of small networks) and of a million values of a normal distribution. Rows
"codec": bits per weight of the whole file and relative squared error of clustered tensors at 4 bits, nearest entries
and entropy-constrained, and of codec uniform at the same error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nncodec
from bench.datasets import networks, read_safetensors
from bench.suite import Options, Row
from nncodec import _core
from nncodec.codecs import Codebook

_CLUSTERS = 16
_TENSORS = 20
_STARTS = 10
_LARGEST = 100_000  # values of a tensor that ten starts are run on


def run(options: Options) -> Iterator[Row]:
    files, why = networks(options.data)
    if why is not None:
        options.note(why)
    if find_spec("sklearn") is None:
        options.note("scikit-learn is not installed: no k-means of its own")
    else:
        yield from _kmeans(files, options)
    for name, file in files.items():
        if options.wants(name):
            yield from _codec(name, dict(read_safetensors(file)), options)


def _kmeans(files: dict[str, Any], options: Options) -> Iterator[Row]:
    if options.wants("million"):
        values = np.random.default_rng(0).standard_normal(1_000_000).astype(np.float32)
        yield _against("a million normal values", values)
    if options.wants("tensors"):
        tensors = [
            (f"{name} {key}", np.asarray(x))
            for name, file in files.items()
            for key, x in read_safetensors(file).items()
            if x.ndim > 1 and x.dtype == np.float32 and 5000 <= x.size <= _LARGEST
        ]
        tensors.sort(key=lambda pair: -pair[1].size)
        for label, x in tensors[:_TENSORS]:
            yield _against(label, x.ravel())


def _against(label: str, values: NDArray[np.float32]) -> Row:
    from sklearn.cluster import KMeans

    start = time.perf_counter()
    x = np.sort(values).astype(np.float64)
    _, ours = _core.kmeans_optimal(x, None, _CLUSTERS)
    mine = time.perf_counter() - start
    start = time.perf_counter()
    theirs = (
        KMeans(_CLUSTERS, n_init=_STARTS, random_state=0).fit(values.astype(np.float64)[:, None]).inertia_
    )
    yours = time.perf_counter() - start
    return {
        "entry": label,
        "kind": "k-means",
        "values": len(x),
        "objective": ours / theirs,
        "x faster": yours / mine,
    }


def _codec(name: str, tensors: dict[str, Any], options: Options) -> Iterator[Row]:
    taken = [key for key, x in tensors.items() if x.ndim > 1 and x.dtype in (np.float32, np.float16)]
    count = sum(np.asarray(x).size for x in tensors.values())
    for label, codec in (
        ("codebook", Codebook(bits=4)),
        ("codebook, entropy 0.02", Codebook(bits=5, entropy=0.02)),
    ):
        blob = nncodec.encode(tensors, codec, threads=options.threads)
        error = _error(tensors, nncodec.decode(blob), taken)
        peer = nncodec.encode(tensors, "uniform", rel_mse=error, threads=options.threads)
        yield {
            "entry": name,
            "kind": label,
            "values": count,
            "bits": 8 * len(blob) / count,
            "snr": -10 * math.log10(error),
            "uniform bits": 8 * len(peer) / count,
        }


def _error(tensors: dict[str, Any], back: Any, taken: list[str]) -> float:
    noise = sum(
        float(((back[k].astype(np.float64) - tensors[k].astype(np.float64)) ** 2).sum()) for k in taken
    )
    return noise / sum(float((tensors[k].astype(np.float64) ** 2).sum()) for k in taken)
