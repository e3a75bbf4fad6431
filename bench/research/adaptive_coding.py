"""What an adaptive coder would save of trellis levels, beside static tables of row x column x position classes.

`python -m bench.research.adaptive_coding [NETWORK...]`: levels of codec `trellis` (8 states, points on the grid) at
relative squared errors of 1e-1 to 1e-3, of weights and of what a Karhunen-Loeve transform makes of the kernels of
convolutions, coded anew by the context mixing coder of codec `universal`: six
adaptive contexts per binary decision (the levels before and in the rows and kernels before, running means of the
neighbourhood, the row and the column), mixed by a logistic mixer that learns, the union as part of each context. It
needs no side information; tensors of one shape are one stream. `static` is what the file takes for models and payloads
of those tensors.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

import nncodec
from bench.datasets import minilm, networks, read_safetensors
from nncodec._core import mixing_encode
from nncodec.codecs import Trellis
from nncodec.container.catalogue import scan_catalogue

_NETWORKS = ("resnet20_cifar10", "resnet32_cifar10", "resnet44_cifar10", "minilm")
_FEWEST = 1 << 10  # elements of a tensor that counts
_MOST = 1 << 22  # elements of a network that are looked at
_ERRORS = (1e-1, 1e-2, 1e-3)

Tensors = dict[str, NDArray[np.float32]]


def _tensors(name: str) -> Tensors:
    path = minilm()[0] if name == "minilm" else networks(None)[0].get(name)
    if path is None:
        return {}
    chosen: Tensors = {}
    left = _MOST
    for key, x in read_safetensors(path).items():
        if x.ndim >= 2 and x.dtype == np.float32 and _FEWEST <= x.size <= left:
            chosen[key] = x
            left -= x.size
    return chosen


def _transformed(tensors: Tensors) -> Tensors:
    """Kernels of 3 x 3 as coefficients of the basis that all of them share, the greatest variance first."""
    kernels = {
        key: x.reshape(-1, 9).astype(np.float64) for key, x in tensors.items() if x.shape[2:] == (3, 3)
    }
    if not kernels:
        return {}
    every = np.concatenate(list(kernels.values()))
    every = every[np.linalg.norm(every, axis=1) > 0]
    every /= np.linalg.norm(every, axis=1, keepdims=True)
    basis = np.linalg.eigh(every.T @ every)[1][:, ::-1]
    return tensors | {
        key: (x @ basis).astype(np.float32).reshape(tensors[key].shape) for key, x in kernels.items()
    }


def _static(tensors: Tensors, rel_mse: float) -> tuple[int, dict[str, NDArray[np.int64]]]:
    """Bytes, and the points in steps."""
    codec = Trellis(8, alphabet="plain", transform="none", reconstruction="midpoint")
    blob = nncodec.encode(tensors, codec, rel_mse=rel_mse, threads=1)
    catalogue = scan_catalogue(memoryview(blob))
    size = 0
    points = {}
    decoded = nncodec.decode(blob, framework="np", threads=1)
    for number, record in enumerate(catalogue.records):
        descriptor, _ = catalogue.descriptors[number]
        size += len(descriptor.model) + sum(record.payload_lengths)
        step = Trellis.describe(descriptor.version, descriptor.model)["step"]
        for tensor in record.tensors:
            points[tensor.name] = np.rint(decoded[tensor.name].astype(np.float64) / step).astype(np.int64)
    return size, points


def _adaptive(points: dict[str, NDArray[np.int64]]) -> int:
    streams = defaultdict(list)
    for x in points.values():
        streams[x.shape].append(x.ravel())
    size = 0
    for shape, parts in streams.items():
        x = np.concatenate(parts)
        unions = x & 1
        levels = ((x - unions) >> 1).astype(np.int32)
        repeat = math.prod(shape[2:])
        row = math.prod(shape[1:])
        kinds = (2 * unions).astype(np.uint8)  # a kind of half a level: the point's place is known
        size += 4 + len(mixing_encode(levels, kinds, 1, max(repeat, 1), row))
    return size


def main() -> None:
    """Print one line per network and error."""
    for name in sys.argv[1:] or _NETWORKS:
        tensors = _tensors(name)
        if not tensors:
            print(name, "is not there")
            continue
        for what, of in (("weights", tensors), ("coefficients", _transformed(tensors))):
            elements = sum(x.size for x in of.values())
            for rel_mse in _ERRORS if of else ():
                static, points = _static(of, rel_mse)
                adaptive = _adaptive(points)
                print(
                    f"{name}, {what}, {rel_mse:g}: static {8 * static / elements:.4f} b, adaptive"
                    f" {8 * adaptive / elements:.4f} b, {100 * (adaptive / static - 1):+.2f} %",
                    flush=True,
                )


if __name__ == "__main__":
    main()
