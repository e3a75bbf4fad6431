"""Distance of whole files to Shannon's R(D) on i.i.d. samples: Gaussian ones, and Laplacian ones at a low rate.

Rates are bytes of the file, headers and tables included, per sample; errors are measured on what decode gives back.
For the Gaussian source R(D) is known, and `gap` is the distance in bits. For the Laplacian source `rel_mse` itself is
what to compare: the uniform codec's is beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

import nncodec
from bench.suite import Options, Row
from nncodec.codecs import Trellis, Uniform

_SIDE = 2048  # 2^22 samples
STATES = (8, 16, 32, 64, 128, 256, 512, 1024)
RATES = (0.5, 1.0, 2.0, 3.0, 4.0)


def measure(x: NDArray[np.float32], codec: Trellis | Uniform, bits: float, threads: int | None) -> Row:
    """A file of about so many bits per sample, and what it decodes to."""
    start = perf_counter()
    blob = nncodec.encode({"w": x}, codec, bits_per_weight=bits, threads=threads)
    middle = perf_counter()
    out = nncodec.decode(blob, framework="np", threads=threads)["w"]
    end = perf_counter()
    exact = x.astype(np.float64)
    error = float(np.mean((exact - out) ** 2) / exact.var())
    rate = 8 * len(blob) / x.size
    return {
        "bits": rate,
        "rel_mse": error,
        "gap": rate + 0.5 * math.log2(error),
        "encode MB/s": x.nbytes / (middle - start) / 1e6,
        "decode MB/s": x.nbytes / (end - middle) / 1e6,
    }


def run(options: Options) -> Iterator[Row]:
    """One row per codec and rate."""
    rng = np.random.default_rng(1)
    gaussian = rng.standard_normal((_SIDE, _SIDE)).astype(np.float32)
    laplacian = rng.laplace(size=(_SIDE, _SIDE)).astype(np.float32)
    codecs: list[tuple[str, Trellis | Uniform]] = [("uniform", Uniform())]
    codecs += [(f"{states} states", Trellis(states)) for states in STATES]
    options.note(
        "gap: bits of the file per sample above R(D) of a Gaussian source; encode includes the search"
    )
    for name, codec in codecs:
        for rate in RATES:
            label = f"gaussian, {name}, {rate:g} b"
            if options.wants(label):
                yield {"source": label, **measure(gaussian, codec, rate, options.threads)}
    for name, codec in codecs:
        label = f"laplacian, {name}, 0.3 b"
        if options.wants(label):
            row = measure(laplacian, codec, 0.3, options.threads)
            del row["gap"]  # of a Gaussian source
            yield {"source": label, **row}
