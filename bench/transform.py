"""Codec transform on the CIFAR-10 classifiers, without retraining: the form of its paper against ours.

`ratio` is of the bytes of all tensors to those of the file, `loss` in points of top-1 accuracy on the test images (all
of them, or as many as NNCODEC_TEST_IMAGES says). Rows "paper" have all coefficients of a tensor at so many bits, bzip2,
clustered vectors; "paper, by layer" has fewer bits for the second convolutions of the last stage, or for all of that
stage, where most weights are, than elsewhere; rows "ours" are steered by the size of the file, with importance from
1,024 training images, to the power of 0.75, and with batch normalisation folded first where the network can be traced
("power 1", "none", "unfolded": importance as it is, without transform, not folded, for comparison). `transforms` counts
the tensors that got each.
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
_BY_LAYER = ((4, 5, 5), (4, 5, 6), (5, 5, 6))  # bits of these, of those, and elsewhere
_RATIOS = (9, 10, 11, 12, 13, 14, 15, 16, 20)
# And these for networks of eight layers, which lose little only there.
_MORE_BITS, _MORE_RATIOS = (7, 8), (8, 18)
_COMPARED, _POWER_COMPARED = 12, 14  # of the rows for comparison
_POWER = 0.75


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
    limit = int(os.environ.get("NNCODEC_TEST_IMAGES", "10000"))
    model = task.build(tensors)
    before = task.evaluate(model, folder, limit)["top1"]

    def row(kind: str, setting: str, state: dict[str, Any], codec: Any, build: Any, **budget: Any) -> Row:
        blob = nncodec.encode(state, codec, threads=options.threads, **budget)
        back = nncodec.decode(blob, framework="np", threads=options.threads)
        after = task.evaluate(build(back), folder, limit)["top1"]
        return {
            "network": name,
            "form": kind,
            "setting": setting,
            "ratio": sum(np.asarray(x).nbytes for x in tensors.values()) / len(blob),
            "loss": before - after,
            "transforms": _transforms(blob),
        }

    shallow = name.startswith("resnet8")
    for bits in _BITS + (_MORE_BITS if shallow else ()):
        yield row("paper", f"{bits} bits", tensors, Transform(bits=bits, entropy="bzip2"), task.build)
    for choice in _BY_LAYER:
        by_layer = {
            pattern: Transform(bits=bits, entropy="bzip2")
            for patterns, bits in zip((_LAST_SECOND, _LAST, ("*",)), choice, strict=True)
            for pattern in patterns
            if pattern == "*" or fnmatch.filter(tensors, pattern)
        }
        setting = ", ".join(map(str, choice)) + " bits"
        yield row("paper, by layer", setting, tensors, by_layer, task.build)
    from nncodec.train import fold_batchnorm
    from nncodec.train.kfac import likelihood

    assert task.calibration is not None
    images = list(task.calibration(folder, 1024))
    try:
        flat = fold_batchnorm(model)
    except ValueError as error:
        options.note(f"{name}: not folded: {error}")
        flat = model
    original = sum(np.asarray(x).nbytes for x in tensors.values())

    def ours(kind: str, network: Any, rows: list[tuple[str, Transform, float, int]]) -> Iterator[Row]:
        """A row for each name, codec, power of importance and ratio."""
        import torch

        state = {key: value.detach().numpy().copy() for key, value in network.state_dict().items()}
        calibration = nncodec.calibrate(network, images, output=likelihood)
        share = sum(x.nbytes for x in state.values()) / original  # what folding leaves to encode

        def built(back: dict[str, Any]) -> Any:
            network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in back.items()})
            return network

        for name, codec, power, ratio in rows:
            importance = calibration.importance(power)
            budget = {"ratio": ratio * share, "importance": importance}
            yield row(kind + name, f"ratio {ratio}", state, codec, built, **budget)

    yield from ours(
        "ours",
        flat,
        [
            *(
                ("", Transform(), _POWER, ratio)
                for ratio in sorted(_RATIOS + (_MORE_RATIOS if shallow else ()))
            ),
            (", power 1", Transform(), 1.0, _POWER_COMPARED),
            (", none", Transform(transform="none"), _POWER, _COMPARED),
        ],
    )
    if flat is not model:
        yield from ours("ours, unfolded", model, [("", Transform(), _POWER, _COMPARED)])


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
