"""MLPrune without retraining, and both prunings after the same masked retraining."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from bench.networks.common import NETWORKS, Subject, row, subject
from bench.networks.magnitude import SPARSITIES, pruned
from bench.suite import Options, Row
from nncodec.train import MLPrune
from nncodec.train.base import codec_mapping
from nncodec.train.masks import masked
from nncodec.train.steps import compressible, cosine, epoch, sgd

__all__ = ["retrained", "rows"]

# Of retraining: epochs over the subject's images, and the first learning rate.
RETRAINING = {"lenet300": (4, 0.02), "lenet5_mnist": (2, 0.005), "resnet20_cifar10": (2, 0.01)}
SETTINGS: dict[str, dict[str, Any]] = {
    "lenet300": {"steps": 12, "examples": 20_000},
    "lenet5_mnist": {"steps": 12, "examples": 5_000},
    "resnet20_cifar10": {"steps": 12, "examples": 2_000, "gamma": 1e-4},
}


def rows(options: Options) -> Iterator[Row]:
    for name in NETWORKS:
        for sparsity in SPARSITIES[name]:
            yield from _at(name, sparsity, options)


def _at(name: str, sparsity: float, options: Options) -> Iterator[Row]:
    setting = f"{100 * sparsity:g}"
    plain, tuned, other = (
        f"mlprune/{name}/{setting}",
        f"mlprune/{name}/{setting}-retrained",
        f"magnitude/{name}/{setting}-retrained",
    )
    wanted = {entry for entry in (plain, tuned, other) if options.wants(entry)}
    if not wanted:
        return
    of = subject(name, options)
    if of is None:
        return
    if wanted & {plain, tuned}:
        start = time.process_time()
        method = MLPrune(sparsity=sparsity, **SETTINGS[name])
        result = method.fit(of.model, of.plain(), F.cross_entropy)
        seconds = time.process_time() - start
        if plain in wanted:
            yield row(plain, of, result.model, result.codec, **{"cpu s": seconds})
        if tuned in wanted:
            yield _retrained(tuned, of, result.model)
    if other in wanted:
        yield _retrained(other, of, pruned(of.model, sparsity))


def _retrained(entry: str, of: Subject, model: nn.Module) -> Row:
    start = time.process_time()
    model = retrained(model, of, *RETRAINING[of.name])
    codec = codec_mapping(dict.fromkeys(compressible(model), "lossless"))
    return row(entry, of, model, codec, **{"cpu s": time.process_time() - start})


def retrained(model: nn.Module, of: Subject, epochs: int, lr: float) -> nn.Module:
    """A copy after masked retraining: its zeros stay."""
    model = deepcopy(model).train()
    torch.manual_seed(0)
    optimizer = sgd(model.parameters(), lr)
    layers = [(module, module.weight != 0) for module in compressible(model).values()]
    batches = of.batches()
    with masked(layers):
        for number in range(epochs):
            epoch(
                model, batches, F.cross_entropy, optimizer,
                rate=lambda share, number=number: cosine(lr, (number + share) / epochs),
            )  # fmt: skip
    return model.eval()
