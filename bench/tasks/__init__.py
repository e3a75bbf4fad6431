"""What real networks are for: accuracy, PSNR or loss of a dict of weights, measured on real data.

``score("resnet20_cifar10", tensors, data)`` puts the weights into the network that their file belongs to and runs its
task. Architectures and measurements follow the README of the data folder; on the weights as they came, the results
are the ones it states. Needs torch, which is imported only when a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.tasks.task import Task

__all__ = ["NAMES", "Task", "score", "task"]

_MODULES = {
    "bench.tasks.cifar": (
        "resnet20_cifar10",
        "resnet32_cifar10",
        "resnet44_cifar10",
        "resnet20b_cifar10",
        "resnet20b_chreg_cifar10",
        "resnet20b_thinned_cifar10",
        "resnet8_cifar10",
        "resnet8wide_cifar10",
    ),
    "bench.tasks.digits": ("lenet5_mnist",),
    "bench.tasks.superresolution": ("vdsr", "waifu2x_upconv7_photo_fp16"),
    "bench.tasks.stories": ("stories260k", "stories260k_bf16"),
    "bench.tasks.titles": ("textgenrnn_hackernews",),
    "bench.tasks.pronunciation": ("g2p_en_gru",),
    "bench.tasks.sentences": ("minilm",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

NAMES = tuple(_MODULE_OF)


def task(name: str) -> Task:
    """The task of a network. KeyError where there is none; imports torch."""
    found: Task = import_module(_MODULE_OF[name]).TASKS[name]
    return found


def score(name: str, tensors: Mapping[str, Any], data: Path, limit: int | None = None) -> dict[str, float]:
    """Metric name to value for these weights, in the task of the network ``name``.

    Parameters
    ----------
    name : str
        One of ``NAMES``.
    tensors : mapping of str to torch.Tensor or numpy.ndarray
        The weights under the names of the network's file; converted to float32.
    data : Path
        The data folder.
    limit : int, optional
        Use only the first so many samples of the test set.
    """
    chosen = task(name)
    return chosen.evaluate(chosen.build(tensors), data, limit)
