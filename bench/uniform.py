"""Codec `uniform` at a signal-to-noise ratio: bits per quantised weight, all included, and the ratio that comes out.

For each network of the data folder and MiniLM. `bits` are those of the quantised tensors' records (payloads, scales,
tables, names, checksums) per weight in them; `bits of the file` are per element of the checkpoint, biases and norms
included, which are lossless. `snr_db` is measured on what decode gives back, over quantised tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

import nncodec
from bench.datasets import Tensors, minilm, networks, read_safetensors
from bench.suite import Options, Row

__all__ = ["run"]

SNR_DB = (10, 16, 22)


def _row(name: str, tensors: Tensors, snr_db: float, path: Path, threads: int | None) -> Row:
    start = perf_counter()
    nncodec.save_file(tensors, path, "uniform", snr_db=snr_db, threads=threads)
    seconds = perf_counter() - start
    stored, weights, energy, error = 0.0, 0, 0.0, 0.0
    with nncodec.open(path, framework="np", threads=threads) as file:
        for key, x in tensors.items():
            info = file.info(key)
            if info.codec != "uniform":
                continue
            stored += info.stored_bytes
            weights += x.size
            exact = x.astype(np.float64)
            energy += float(np.sum(exact**2))
            error += float(np.sum((exact - file[key].astype(np.float64)) ** 2))
    raw = sum(x.nbytes for x in tensors.values())
    return {
        "network": name,
        "asked dB": snr_db,
        "snr_db": 10 * math.log10(energy / error) if error else math.inf,
        "bits": 8 * stored / weights,
        "bits of the file": 8 * path.stat().st_size / sum(x.size for x in tensors.values()),
        "encode MB/s": raw / seconds / 1e6,
    }


def run(options: Options) -> Iterator[Row]:
    """One row per network and ratio."""
    files, reason = networks(options.data)
    if reason:
        options.note(reason)
    path, reason = minilm()
    if reason:
        options.note(reason)
    with TemporaryDirectory() as folder:
        for name, source in {**files, **({"minilm": path} if path else {})}.items():
            if not options.wants(name):
                continue
            tensors = read_safetensors(source)
            for snr_db in SNR_DB:
                yield _row(name, tensors, snr_db, Path(folder) / "network.nncz", options.threads)
