"""Runs in the environment of the ISO reference-class encoder, which shares our import name. One JSON line in, one out.

    {"do": "version"}
    {"do": "encode", "in": X.npz, "out": Y.nnc, "options": {...}}    options go to nncodec.nnc.compress
    {"do": "decode", "in": Y.nnc, "out": X.npz}

Answers carry the seconds spent in the codec, or an error.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from time import perf_counter
from types import ModuleType

# Imported by the training examples inside the package, which come along with the codec; the codec uses none of them.
EXAMPLES_ONLY = {
    "cv2",
    "flwr",
    "h5py",
    "pandas",
    "sentencepiece",
    "sklearn",
    "torchmetrics",
    "torchvision",
    "tqdm",
    "wandb",
}


class EmptyType(type):
    """Classes whose every attribute is Empty."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return Empty


class Empty(metaclass=EmptyType):
    """Can be derived from and made with any arguments; does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass


class EmptyModule(ModuleType):
    """A stand-in for a package: whatever is taken from it is Empty."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return Empty


class StandIns(MetaPathFinder, Loader):
    """Makes the packages of EXAMPLES_ONLY importable where they are not installed."""

    def __init__(self) -> None:
        self.missing = {name for name in EXAMPLES_ONLY if find_spec(name) is None}

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname.split(".")[0] not in self.missing:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def answer(question: dict) -> dict:
    import numpy as np
    import torch

    from nncodec import nnc

    torch.set_num_threads(1)
    if question["do"] == "version":
        from importlib.metadata import version

        return {"version": version("nncodec")}
    if question["do"] == "encode":
        with np.load(question["in"]) as file:
            tensors = {name: file[name] for name in file.files}
        start = perf_counter()
        data = nnc.compress(tensors, bitstream_path=None, return_bitstream=True, **question["options"])
        seconds = perf_counter() - start
        with open(question["out"], "wb") as sink:
            sink.write(data)
        return {"seconds": seconds, "bytes": len(data)}
    with open(question["in"], "rb") as source:
        data = bytearray(source.read())
    start = perf_counter()
    tensors = nnc.decompress(data)
    seconds = perf_counter() - start
    np.savez(question["out"], **tensors)
    return {"seconds": seconds}


def main() -> None:
    # The codec prints; its words go to standard error, so that answers stay alone on standard output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.meta_path.append(StandIns())
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except (Exception, SystemExit) as error:  # the codec ends the process where others would raise
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
