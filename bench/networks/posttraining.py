"""PostTraining without a gradient step, and codec trellis with the curvature of as many examples, at equal size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from torch import nn
from torch.nn import functional as F

import nncodec
from bench.networks.common import Subject, measured, row, subject
from bench.suite import Options, Row
from nncodec.train import PostTraining
from nncodec.train.batchnorm import fold_statistics
from nncodec.train.calibrating import stratified

__all__ = ["rows"]

EXAMPLES = 2000
RATIOS = {
    "lenet300": (30, 60, 100, 150),
    "lenet5_mnist": (30, 60, 100, 200),
    "resnet20_cifar10": (10, 14, 20, 25),
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    name: {str(ratio): {"target": float(ratio)} for ratio in ratios} for name, ratios in RATIOS.items()
}
SETTINGS["lenet300"]["98-9values"] = {"sparsity": 0.98, "clusters": 9, "corrected": False}
SETTINGS["lenet300"]["98-9values-corrected"] = {"sparsity": 0.98, "clusters": 9}
# Its positions are many, and each pass over them takes long.
_FEWER = {"resnet20_cifar10": {"examples": 300, "prune_steps": 4, "steps": 6}}


def rows(options: Options) -> Iterator[Row]:
    for name, settings in SETTINGS.items():
        for setting, chosen in settings.items():
            yield from _ours(f"posttraining/{name}/{setting}", {**_FEWER.get(name, {}), **chosen}, options)
        for ratio in RATIOS[name]:
            yield from _trellis(f"trellis-hessian/{name}/{ratio}", float(ratio), options)


def _ours(entry: str, chosen: dict[str, Any], options: Options) -> Iterator[Row]:
    if not options.wants(entry):
        return
    of = subject(entry.split("/")[1], options)
    if of is None:
        return
    start = time.process_time()
    result = PostTraining(**{"examples": EXAMPLES, **chosen}).fit(of.model, of.plain(), F.cross_entropy)
    yield row(entry, of, result.model, result.codec, **{"cpu s": time.process_time() - start})


def _trellis(entry: str, ratio: float, options: Options) -> Iterator[Row]:
    if not options.wants(entry):
        return
    of = subject(entry.split("/")[1], options)
    if of is None:
        return
    start = time.process_time()
    model = deepcopy(of.model)
    fold_statistics(model)  # two numbers a channel less to store, as for ours
    size = _compress(model, of, ratio)
    yield measured(entry, of, model, size, **{"cpu s": time.process_time() - start})


def _compress(model: nn.Module, of: Subject, ratio: float) -> int:
    """Bytes; the model gets the weights that decode."""
    examples = stratified(of.plain(), EXAMPLES)
    calibration = nncodec.calibrate(model, (images for images, _ in examples))
    blob = nncodec.encode(model.state_dict(), "trellis", ratio=ratio, hessian=calibration)
    model.load_state_dict(nncodec.decode(blob))
    return len(blob)
