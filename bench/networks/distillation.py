"""A small student of MNIST on few images, alone and taught by LeNet-5, three seeds."""

from __future__ import annotations

from collections.abc import Iterator

from bench.networks.common import row, subject
from bench.suite import Options, Row
from bench.training.families import trained_student

__all__ = ["rows"]


def rows(options: Options) -> Iterator[Row]:
    for seed in range(3):
        for kind in ("alone", "taught"):
            entry = f"distillation/lenet5_mnist/{kind}-{seed}"
            if not options.wants(entry):
                continue
            of = subject("lenet5_mnist", options)
            if of is None:
                return
            student = trained_student(of.data, of.model if kind == "taught" else None, seed)
            yield row(entry, of, student, {"*": "lossless"})
