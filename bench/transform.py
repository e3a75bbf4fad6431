"""Codec transform on the CIFAR-10 classifiers, without retraining: the form of its paper against ours.

`ratio` is of the bytes of all tensors to those of the file, `loss` in points of top-1 accuracy on the first test images
(2,000, or as many as NNCODEC_TEST_IMAGES says). Rows "paper" have all coefficients of a tensor at so many bits, bzip2,
clustered vectors; "paper, by layer" has fewer bits for the second convolutions of the last stage, or for all of that
stage, where most weights are, than elsewhere; rows "ours" are steered by a budget of relative squared error, with
importance from 1,024 training images ("none": without transform, for comparison; "folded": batch normalisation folded
first). `transforms` counts the tensors that got each.
"""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

import nncodec
from bench import tasks
from bench.datasets import data_dir, networks, read_safetensors
from bench.suite import Options, Row
from nncodec.codecs import Transform

_BITS = (4, 5, 6)
# The second convolutions of the last stage, and all there (networks of eight layers number theirs).
_LAST_SECOND = ("layer3.*.conv2.*", "conv2d_7.*")
_LAST = ("layer3.*", "conv2d_[68].*")
_BY_LAYER = ((4, 5, 6), (5, 5, 6))  # bits of these, of those, and elsewhere
_REL_MSE = (2.8e-3, 2.4e-3, 2e-3, 1.4e-3, 1e-3, 7e-4, 5e-4)  # weighted by importance


def run(options: Options) -> Iterator[Row]:
    files, why = networks(options.data)
    if why is not None:
        options.note(why)
    for name, file in files.items():
        if name.endswith("_cifar10") and options.wants(name):
            yield from _network(name, dict(read_safetensors(file)), options)


def _network(name: str, tensors: dict[str, Any], options: Options) -> Iterator[Row]:
    folder = data_dir(options.data)
    assert folder is not None
    task = tasks.task(name)
    limit = int(os.environ.get("NNCODEC_TEST_IMAGES", "2000"))
    model = task.build(tensors)
    before = task.evaluate(model, folder, limit)["top1"]

    def row(kind: str, state: dict[str, Any], codec: Any, **budget: Any) -> Row:
        blob = nncodec.encode(state, codec, threads=options.threads, **budget)
        back = nncodec.decode(blob, framework="np", threads=options.threads)
        built = task.build(back) if kind != "ours, folded" else folded_build(back)
        after = task.evaluate(built, folder, limit)["top1"]
        return {
            "network": name,
            "form": kind,
            "setting": " ".join(f"{key}={value:g}" for key, value in budget.items() if key != "importance")
            or ", ".join(dict.fromkeys(str(c.bits) for c in _codecs(codec))) + " bits",
            "ratio": sum(np.asarray(x).nbytes for x in tensors.values()) / len(blob),
            "loss": before - after,
            "transforms": _transforms(blob),
        }

    for bits in _BITS:
        yield row("paper", tensors, Transform(bits=bits, entropy="bzip2"))
    for choice in _BY_LAYER:
        by_layer = {
            pattern: Transform(bits=bits, entropy="bzip2")
            for patterns, bits in zip((_LAST_SECOND, _LAST, ("*",)), choice, strict=True)
            for pattern in patterns
            if pattern == "*" or fnmatch.filter(tensors, pattern)
        }
        yield row("paper, by layer", tensors, by_layer)
    from nncodec.train.kfac import likelihood

    assert task.calibration is not None
    importance = nncodec.calibrate(model, task.calibration(folder, 1024), output=likelihood).importance()
    for target in _REL_MSE:
        yield row("ours", tensors, Transform(), rel_mse=target, importance=importance)
    yield row("ours, none", tensors, Transform(transform="none"), rel_mse=_REL_MSE[0], importance=importance)

    from nncodec.train import fold_batchnorm

    try:
        flat = fold_batchnorm(model)
    except ValueError as error:
        options.note(f"{name}: not folded: {error}")
        return

    def folded_build(state: dict[str, Any]) -> Any:
        import torch

        flat.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
        return flat

    state = {key: value.detach().numpy().copy() for key, value in flat.state_dict().items()}
    again = nncodec.calibrate(flat, task.calibration(folder, 1024), output=likelihood).importance()
    for target in _REL_MSE:
        yield row("ours, folded", state, Transform(), rel_mse=target, importance=again)


def _codecs(codec: Any) -> list[Transform]:
    return list(codec.values()) if isinstance(codec, dict) else [codec]


def _transforms(blob: bytes) -> str:
    """How many tensors got which transform."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = f"{folder}/file.nncz"
        with open(path, "wb") as file:
            file.write(blob)
        with nncodec.open(path) as reader:
            facts = [reader.info(name) for name in reader.keys()]  # noqa: SIM118
    return ", ".join(f"{n} {kind}" for kind, n in sorted(Counter(_kind(f) for f in facts).items()))


def _kind(info: nncodec.TensorInfo) -> str:
    return str(info.options.get("transform", info.options.get("form", info.codec)))
