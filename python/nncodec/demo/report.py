"""What ``nncodec demo`` measures, and the table that it prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from statistics import median
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import nncodec
from nncodec.demo.network import accuracy

__all__ = ["Report", "Row", "run"]

Weights = Mapping[str, NDArray[Any]]
T = TypeVar("T")

# Name of the row, codec, budget. Both ratios keep the accuracy but for two digits or so; at the greater one the better
# codec has less error.
RUNS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("lossless", "lossless", {}),
    ("uniform, ratio 16", "uniform", {"ratio": 16}),
    ("uniform, ratio 24", "uniform", {"ratio": 24}),
    ("trellis, ratio 24", "trellis", {"ratio": 24}),
)
REPEATS = 9
ENOUGH = 2.0  # seconds, after which a call is not repeated


@dataclass(frozen=True)
class Row:
    """One way of storing the network.

    Attributes
    ----------
    name : str
        Codec and budget.
    bytes : int
        Size of the whole file; of the bare weights for the original.
    ratio : float
        Bytes of the bare weights over ``bytes``.
    bits_per_weight : float
        Bits of the whole file per weight.
    rel_mse : float
        Squared error of the weights over their squared norm.
    accuracy : float
        Fraction of the held-out digits that the decoded network gets right.
    encode_mb_per_s, decode_mb_per_s : float or None
        Median speed in 10^6 bytes of bare weights a second.
    """

    name: str
    bytes: int
    ratio: float
    bits_per_weight: float
    rel_mse: float
    accuracy: float
    encode_mb_per_s: float | None = None
    decode_mb_per_s: float | None = None


@dataclass(frozen=True)
class Report:
    """All rows, and whether the lossless one came back bit for bit."""

    weights: int
    images: int
    bit_exact: bool
    rows: Sequence[Row]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        head = ("", "bytes", "ratio", "bits/weight", "rel. MSE", "accuracy", "encode MB/s", "decode MB/s")
        cells = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.rjust(w) if i else cell.ljust(w)
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            )
            for line in cells
        ]
        verdict = "bit for bit the original" if self.bit_exact else "NOT the original: the codec is broken"
        return "\n".join(
            [
                f"A network with {self.weights:,} float32 weights that reads handwritten digits, "
                f"on {self.images} digits it has not seen:",
                *lines,
                f"The lossless row decodes to {verdict}.",
            ]
        )


def _cells(row: Row) -> tuple[str, ...]:
    def speed(value: float | None) -> str:
        return "" if value is None else f"{value:.{0 if value >= 10 else 1}f}"

    return (
        row.name,
        f"{row.bytes:,}",
        f"{row.ratio:.2f}",
        f"{row.bits_per_weight:.2f}",
        f"{row.rel_mse:.1e}" if row.rel_mse else "0",
        f"{100 * row.accuracy:.2f} %",
        speed(row.encode_mb_per_s),
        speed(row.decode_mb_per_s),
    )


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    """What the call returns, and the median seconds of several calls, fewer of slow ones."""
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)


def _same_bits(a: Weights, b: Weights) -> bool:
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


def _rel_mse(original: Weights, decoded: Weights) -> float:
    error = sum(float(np.sum(np.square(original[k] - decoded[k].astype(np.float64)))) for k in original)
    return error / sum(float(np.sum(np.square(original[k], dtype=np.float64))) for k in original)


def _shipped(name: str) -> Weights:
    blob = files("nncodec.demo").joinpath(name).read_bytes()
    tensors: Weights = nncodec.decode(blob, framework="np")
    return tensors


def run(threads: int | None = None) -> Report:
    """Encode and decode the shipped network with each codec of the table, and classify the held-out digits."""
    weights = _shipped("digits.nncz")
    test = _shipped("test_slice.nncz")
    images, labels = test["images"], test["labels"]
    n = sum(w.size for w in weights.values())
    raw = sum(w.nbytes for w in weights.values())

    rows = [Row("original", raw, 1.0, 8 * raw / n, 0.0, accuracy(weights, images, labels))]
    bit_exact = False
    for name, codec, budget in RUNS:
        blob, encode_s = _timed(partial(nncodec.encode, weights, codec=codec, threads=threads, **budget))
        decoded, decode_s = _timed(partial(nncodec.decode, blob, framework="np", threads=threads))
        if codec == "lossless":
            bit_exact = _same_bits(weights, decoded)
        rows.append(
            Row(
                name,
                len(blob),
                raw / len(blob),
                8 * len(blob) / n,
                _rel_mse(weights, decoded),
                accuracy(decoded, images, labels),
                raw / encode_s / 1e6,
                raw / decode_s / 1e6,
            )
        )
    return Report(n, len(images), bit_exact, rows)
