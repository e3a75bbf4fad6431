"""Layers of the Weightless paper: how many times smaller than float32, beside what cells alone would take.

Densities, values and bits of a cell as for the networks of the paper (LeNet-300-100, LeNet-5, VGG-16), at random
positions; whole files of one tensor. ``cells alone`` is 32 / (c * density * bits), c being 1.23 for the filter of
the paper and 1.003 for a ribbon. The greatest layer has 103 million positions and takes a gigabyte of memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import nncodec
from bench.suite import Options, Row
from nncodec.codecs import Weightless

__all__ = ["run"]

_LAYERS = (  # name, positions, density, values, bits of a cell
    ("LeNet-300-100 fc1", 235_200, 0.018, 9, (8, 6)),
    ("LeNet-5 conv2", 25_000, 0.07, 9, (8,)),
    ("LeNet-5 fc1", 400_000, 0.007, 9, (8, 9)),
    ("VGG-16 fc7", 16_777_216, 0.04, 4, (6, 8)),
    ("VGG-16 fc6", 102_760_448, 0.03, 4, (6, 8)),
)
_CELLS = {"bloomier": 1.23, "ribbon": 1.003}  # a key


def run(options: Options) -> Iterator[Row]:
    for name, positions, density, values, cells in _LAYERS:
        if not options.wants(name):
            continue
        rng = np.random.default_rng(1)
        layer = np.zeros(positions, np.float16)
        keys = rng.choice(positions, round(density * positions), replace=False, shuffle=False)
        layer[keys] = rng.choice(np.linspace(0.125, 1, values).astype(np.float16), len(keys))
        for bits in cells:
            for structure, per_key in _CELLS.items():
                codec = Weightless(bits, structure=structure)  # type: ignore[arg-type]
                size = len(nncodec.encode({"weight": layer.reshape(-1, 8)}, codec, threads=options.threads))
                found, wanted = 4 * positions / size, 32 / (per_key * density * bits)
                yield {
                    "layer": name, "density": density, "values": values, "cell bits": bits, "structure": structure,
                    "bytes": size, "times smaller": found, "cells alone": wanted,
                    "difference %": 100 * (found / wanted - 1),
                }  # fmt: skip
