"""LeNet-5 on MNIST."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.tasks.task import Task, loaded

__all__ = ["TASKS"]


def read_idx(path: Path) -> Tensor:
    """An idx file of unsigned bytes: two zeros, type 8, number of axes, sizes (big-endian), data."""
    raw = gzip.decompress(path.read_bytes())
    axes = raw[3]
    shape = np.frombuffer(raw, ">u4", axes, 4).astype(int)
    return torch.from_numpy(np.frombuffer(raw, np.uint8, -1, 4 + 4 * axes).reshape(shape).copy())


class LeNet5(nn.Module):
    """Caffe's LeNet-5: no activation after the convolutions; takes raw pixels 0...255 of shape (n, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.ip1 = nn.Linear(800, 500)
        self.ip2 = nn.Linear(500, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(images[:, None].float() / 256), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        return self.ip2(F.relu(self.ip1(x.flatten(1))))


def build(tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(LeNet5(), tensors)


@torch.inference_mode()
def top1(model: nn.Module, data: Path, limit: int | None = None) -> dict[str, float]:
    """Share of test images whose class is the likeliest, in per cent."""
    images = read_idx(data / "mnist" / "t10k-images-idx3-ubyte.gz")[:limit]
    labels = read_idx(data / "mnist" / "t10k-labels-idx1-ubyte.gz")[:limit]
    right = sum(
        int((model(x).argmax(1) == y).sum())
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    return {"top1": 100 * right / len(images)}


def calibration(data: Path, count: int) -> Iterator[Tensor]:
    yield from read_idx(data / "mnist" / "train-images-idx3-ubyte.gz")[:count].split(128)


TASKS = {"lenet5_mnist": Task(build, top1, {"top1": 99.04}, calibration)}
