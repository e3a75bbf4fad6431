"""PostTraining without a gradient step, and codec trellis with the curvature of as many examples, at equal size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch.nn import functional as F

import nncodec
from bench.networks.common import measured, row, subject
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
_FEWER_STEPS = {"resnet20_cifar10": {"prune_steps": 4, "steps": 6}}

# Of the folded networks, by name and data folder: the calibration, and the seconds it took.
_CALIBRATED: dict[tuple[str, Any], tuple[nncodec.Calibration, float]] = {}


def rows(options: Options) -> Iterator[Row]:
    for name, settings in SETTINGS.items():
        for setting, chosen in settings.items():
            yield from _ours(
                f"posttraining/{name}/{setting}", {**_FEWER_STEPS.get(name, {}), **chosen}, options
            )
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
    model = deepcopy(of.model)
    fold_statistics(model)  # two numbers a channel less to store, as for ours
    key = (of.name, options.data)
    if key not in _CALIBRATED:
        start = time.process_time()
        torch.manual_seed(0)
        examples = stratified(of.plain(), EXAMPLES)
        calibration = nncodec.calibrate(model, (images for images, _ in examples))
        _CALIBRATED[key] = calibration, time.process_time() - start
    calibration, seconds = _CALIBRATED[key]
    start = time.process_time()
    blob = nncodec.encode(model.state_dict(), "trellis", ratio=ratio, hessian=calibration)
    seconds += time.process_time() - start
    model.load_state_dict(nncodec.decode(blob))
    yield measured(entry, of, model, len(blob), **{"cpu s": seconds})
