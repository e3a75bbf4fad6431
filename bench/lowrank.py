"""Codec lowrank against trellis at equal error: adapters that were multiplied out, and an ordinary network.

`adapters` are products of the low-rank pairs of weights/lora_*.safetensors, as they are when an adapter is merged or
its difference shipped; `resnet20_cifar10` is a network whose layers are not of low rank. Rows give bits per weight of
the whole file at a relative squared error, and the share of trellis' size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import nncodec
from bench.datasets import networks, read_safetensors
from bench.suite import Options, Row
from nncodec.codecs import LowRank, Trellis

_ADAPTERS = 4
_REL_MSE = (1e-2, 1e-3, 1e-4)

Tensors = dict[str, NDArray[np.generic]]


def run(options: Options) -> Iterator[Row]:
    files, why = networks(options.data)
    if why is not None:
        options.note(why)
    for name, file in files.items():
        tensors = dict(read_safetensors(file))
        if name.startswith("lora_") and options.wants("adapters"):
            yield from _rows("adapters", _products(tensors), options)
        elif name == "resnet20_cifar10" and options.wants(name):
            yield from _rows(name, {k: v for k, v in tensors.items() if v.ndim > 1}, options)


def _rows(name: str, tensors: Tensors, options: Options) -> Iterator[Row]:
    weights = sum(t.size for t in tensors.values())
    for target in _REL_MSE:
        plain = len(nncodec.encode(tensors, Trellis(), rel_mse=target, threads=options.threads))
        # Half of the error may be left-out terms, the other half is for the quantiser.
        codec = LowRank(energy=1 - target / 2)
        size = len(nncodec.encode(tensors, codec, rel_mse=target, threads=options.threads))
        yield {
            "tensors": name,
            "rel_mse": target,
            "trellis bits": 8 * plain / weights,
            "lowrank bits": 8 * size / weights,
            "lowrank / trellis": size / plain,
        }


def _products(tensors: Tensors) -> Tensors:
    """Of consecutive pairs of factors, the first so many, float32."""
    matrices = [(k, np.asarray(v, np.float32)) for k, v in tensors.items() if v.ndim == 2]
    made: Tensors = {}
    for (name, a), (_, b) in zip(matrices[::2], matrices[1::2], strict=False):
        left, right = (a, b) if a.shape[0] > a.shape[1] else (b, a)
        if left.shape[1] == right.shape[0] and len(made) < _ADAPTERS:
            made[name] = left @ right
    return made
