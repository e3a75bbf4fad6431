"""The smallest files of CIFAR-10 classifiers whose accuracy is kept: codec `trellis` with and without examples.

First the drop of accuracy at a ratio of 10 (stops early where it is certain to be above 0.1 points). Then the greatest
ratio, on a grid of 6 % and found by bisection, at which the accuracy on the whole test set stays within 0.1 points.
`none`: squared error of the weights; without data, `norms`: what batch normalisation tells (`calibrate_without_data`),
and `synthetic`: a calibration on images made up from it (`synthetic_batches`); `importance` and `hessian`: a
calibration on 512 training images without labels. `changed` counts predictions that are not those of the original,
`+-` is the standard error of the drop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

import nncodec
from bench import tasks
from bench.agreement import Agreement, Judge
from bench.datasets import data_dir, networks, read_safetensors
from bench.suite import Options, Row

METHODS = ("none", "norms", "synthetic", "importance", "hessian")
ALLOWED_DROP = 0.1  # points
FIXED_RATIO = 10.0
RATIOS = tuple(4 * 1.06**k for k in range(25))  # 4 to 16
IMAGES = 512
BYTE_MEAN, BYTE_STD = 120, 60  # about, of pictures: the networks take bytes
NETWORKS = (
    "resnet8_cifar10",
    "resnet20_cifar10",
    "resnet20b_cifar10",
    "resnet32_cifar10",
    "resnet44_cifar10",
    "resnet8wide_cifar10",
)

Tensors = dict[str, NDArray[Any]]


def run(options: Options) -> Iterator[Row]:
    folder = data_dir(options.data)
    if folder is None:
        options.note("no data folder: give --data or set NNCODEC_DATA")
        return
    if find_spec("torch") is None:
        options.note("torch is not installed")
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        files, _ = networks(options.data)
        for name in NETWORKS:
            if options.wants(name) and name in files:
                yield from _network(name, dict(read_safetensors(files[name])), folder, options)
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Found:
    """A file, and what its network does."""

    size: int
    agreement: Agreement
    seconds: float


def _network(name: str, tensors: Tensors, folder: Path, options: Options) -> Iterator[Row]:
    chosen = tasks.task(name)
    from bench.tasks.cifar import test_images  # needs torch

    judge = Judge(chosen.build(tensors), *test_images(folder, None))
    known = {method: _timed(method, tensors, chosen, folder) for method in METHODS}
    for method, (arguments, _) in known.items():
        if arguments is not None:
            found = _encoded(tensors, chosen, judge, arguments, FIXED_RATIO, options.threads)
            label = f"{name}, {method}, ratio {FIXED_RATIO:g}"
            yield {"network": label, "original": judge.accuracy} | _facts(tensors, found)
    sizes: dict[str, int] = {}
    for method, (arguments, seconds) in known.items():
        if arguments is None:
            continue
        found = _smallest(tensors, chosen, judge, arguments, options.threads)
        row: Row = {"network": f"{name}, {method}", "original": judge.accuracy}
        if found is not None:
            sizes[method] = found.size
            row |= _facts(tensors, found)
            row["of none"] = found.size / sizes["none"] if "none" in sizes else None
        row["calibrate s"] = seconds
        yield row


def _facts(tensors: Tensors, found: _Found) -> Row:
    return {
        "drop": found.agreement.drop,
        "+-": found.agreement.error,
        "changed": found.agreement.changed,
        "ratio": sum(x.nbytes for x in tensors.values()) / found.size,
        "bits": 8 * found.size / sum(x.size for x in tensors.values()),
        "encode s": found.seconds,
    }


def _encoded(
    tensors: Tensors,
    chosen: tasks.Task,
    judge: Judge,
    arguments: dict[str, Any],
    ratio: float,
    threads: int,
) -> _Found:
    start = perf_counter()
    blob = nncodec.encode(tensors, "trellis", ratio=ratio, threads=threads, **arguments)
    seconds = perf_counter() - start
    return _Found(len(blob), judge.compare(chosen.build(nncodec.decode(blob)), ALLOWED_DROP), seconds)


def _timed(
    method: str, tensors: Tensors, chosen: tasks.Task, folder: Path
) -> tuple[dict[str, Any] | None, float]:
    start = perf_counter()
    return _arguments(method, tensors, chosen, folder), perf_counter() - start


def _arguments(method: str, tensors: Tensors, chosen: tasks.Task, folder: Path) -> dict[str, Any] | None:
    """Of `encode`; None where a method has nothing to go by."""
    if method == "none":
        return {}
    if method == "norms":
        known = nncodec.calibrate_without_data(tensors)
        return {"hessian": known} if known else None
    model = chosen.build(tensors)
    if method == "synthetic":
        made = nncodec.synthetic_batches(model, (3, 32, 32), mean=BYTE_MEAN, std=BYTE_STD)
        return {"hessian": nncodec.calibrate(model, made)}
    assert chosen.calibration is not None
    calibration = nncodec.calibrate(model, chosen.calibration(folder, IMAGES))
    return {"importance": calibration.importance()} if method == "importance" else {"hessian": calibration}


def _smallest(
    tensors: Tensors, chosen: tasks.Task, judge: Judge, arguments: dict[str, Any], threads: int
) -> _Found | None:
    """At the greatest ratio that bisection finds; None if the least is too much already."""
    best: _Found | None = None
    low, high = -1, len(RATIOS)  # the former keeps the accuracy, the latter does not
    while high - low > 1:
        middle = (low + high) // 2
        found = _encoded(tensors, chosen, judge, arguments, RATIOS[middle], threads)
        if found.agreement.drop <= ALLOWED_DROP + 1e-9 and not math.isnan(found.agreement.drop):
            low, best = middle, found
        else:
            high = middle
    return best
