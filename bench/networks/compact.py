"""Compact filters: a layer of LeNet-300-100 with a structure, projected and after two epochs; stored as numbers."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.networks.common import row, subject
from bench.suite import Options, Row
from nncodec.train import Compact, distill
from nncodec.train.structures import BlockCirculant, Hashed, Kronecker, Monarch

__all__ = ["rows"]

_STRUCTURES = {
    "circulant4": BlockCirculant(4),
    "monarch": Monarch(),
    "kronecker": Kronecker(terms=4),
    "hashed": Hashed(300 * 784 // 4),
}


def rows(options: Options) -> Iterator[Row]:
    for name, structure in _STRUCTURES.items():
        for epochs in (0, 2):
            entry = f"compact/lenet300/{name}-{epochs}"
            if not options.wants(entry):
                continue
            of = subject("lenet300", options)
            if of is None:
                return
            start = time.process_time()
            method = Compact({"fc1.weight": structure}, epochs=epochs, lr=0.02)
            result = method.fit(of.model, of.batches(), distill(of.model))
            yield row(entry, of, result.model, result.codec, **{"cpu s": time.process_time() - start})
