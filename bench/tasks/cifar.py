"""CIFAR-10 classifiers: ResNets with parameter-free and with convolutional shortcuts, and two of eight layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.tasks.task import Task, loaded

__all__ = ["TASKS", "test_images", "train_images"]

IMAGES_PER_SHEET = 1000


def test_images(data: Path, limit: int | None) -> tuple[Tensor, Tensor]:
    """The first ``limit`` test images (n, 3, 32, 32), uint8, and their classes."""
    with np.load(data / "cifar10" / "test.npz") as file:
        return torch.from_numpy(file["images"][:limit]), torch.from_numpy(
            file["labels"][:limit].astype(np.int64)
        )


def train_images(data: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` training images (count, 3, 32, 32), uint8, and their classes. Needs Pillow."""
    from PIL import Image

    tiles = []
    for sheet in range(-(-count // IMAGES_PER_SHEET)):
        with Image.open(data / "cifar10" / f"train_{sheet:02}.webp") as image:
            pixels = np.asarray(image.convert("RGB"))
        rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
        cut = pixels.reshape(rows, 32, columns, 32, 3).transpose(0, 2, 4, 1, 3)
        tiles.append(cut.reshape(-1, 3, 32, 32))
    with np.load(data / "cifar10" / "train_labels.npz") as file:
        labels = file["labels"][:count].astype(np.int64)
    return torch.from_numpy(np.concatenate(tiles)[:count].copy()), torch.from_numpy(labels)


class PadShortcut(nn.Module):
    """Every second pixel; new channels are zero, half in front and half behind."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.added = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        before = self.added // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.added - before))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. ``inner`` channels between them."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module | None = None
        self.downsample: nn.Module | None = None
        if inputs == outputs and stride == 1:
            return
        if option == "A":
            self.shortcut = PadShortcut(inputs, outputs)
        else:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        way = self.shortcut or self.downsample
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (way(x) if way is not None else x))


class ResNet(nn.Module):
    """The CIFAR ResNet of depth 6n + 2, its widths read off the weights; takes raw pixels 0...255."""

    def __init__(self, tensors: Mapping[str, Any], option: str) -> None:
        super().__init__()
        self.head = "linear" if option == "A" else "fc"
        mean, std = (
            ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if option == "A" else ([0.5] * 3, [0.5] * 3)
        )
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        width = tensors["conv1.weight"].shape[0]
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        for stage in (1, 2, 3):
            blocks: list[nn.Module] = []
            while (first := f"layer{stage}.{len(blocks)}.conv1.weight") in tensors:
                inner = tensors[first].shape[0]
                outputs = tensors[first.replace("conv1", "conv2")].shape[0]
                stride = 2 if stage > 1 and not blocks else 1
                blocks.append(BasicBlock(width, inner, outputs, stride, option))
                width = outputs
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.add_module(self.head, nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        x = (images.float() / 255 - self.mean) / self.std
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.get_submodule(self.head)(x.mean((2, 3)))


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Padding as in TensorFlow: the odd pixel comes after, not before. x has shape (n, channels, h, w)."""
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class ResNet8(nn.Module):
    """The image classifier of MLPerf Tiny, with batch normalisation or with it folded into the weights."""

    STRIDES = (1, 1, 1, 2, 1, 2, 2, 1, 2)
    SHORTCUTS = (5, 8)  # convolutions that are shortcuts and have no normalisation

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        self.first = "conv2d" if "conv2d.weight" in tensors else "conv2d_0"
        norm = 0
        for i, stride in enumerate(self.STRIDES):
            name = self.first if i == 0 else f"conv2d_{i}"
            outputs, inputs, kernel, _ = tensors[f"{name}.weight"].shape
            self.add_module(name, nn.Conv2d(inputs, outputs, kernel, stride))
            if self.first == "conv2d" and i not in self.SHORTCUTS:
                self.add_module(f"batch_normalization_{norm}" if norm else "batch_normalization",
                                nn.BatchNorm2d(outputs, eps=1e-3))  # fmt: skip
                norm += 1
        outputs, inputs = tensors["dense.weight"].shape
        self.dense = nn.Linear(inputs, outputs)

    def _layer(self, x: Tensor, i: int) -> Tensor:
        convolution = self.get_submodule(self.first if i == 0 else f"conv2d_{i}")
        y = convolution(pad_same(x, convolution.kernel_size[0], self.STRIDES[i]))
        if self.first != "conv2d" or i in self.SHORTCUTS:
            return y
        norm = i - sum(s < i for s in self.SHORTCUTS)
        return self.get_submodule(f"batch_normalization_{norm}" if norm else "batch_normalization")(y)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self._layer(images.float(), 0))
        x = F.relu(self._layer(F.relu(self._layer(x, 1)), 2) + x)
        x = F.relu(self._layer(F.relu(self._layer(x, 3)), 4) + self._layer(x, 5))
        x = F.relu(self._layer(F.relu(self._layer(x, 6)), 7) + self._layer(x, 8))
        return self.dense(x.mean((2, 3)))


def build_resnet(option: str, tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(ResNet(tensors, option), tensors)


def build_resnet8(tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(ResNet8(tensors), tensors)


@torch.inference_mode()
def top1(model: nn.Module, data: Path, limit: int | None = None) -> dict[str, float]:
    """Share of test images whose class is the likeliest, in per cent."""
    images, labels = test_images(data, limit)
    right = 0
    for first in range(0, len(images), 250):
        right += int((model(images[first : first + 250]).argmax(1) == labels[first : first + 250]).sum())
    return {"top1": 100 * right / len(images)}


def calibration(data: Path, count: int) -> Iterator[Tensor]:
    yield from train_images(data, count)[0].split(128)


def _task(build: Any, measured: float) -> Task:
    return Task(build, top1, {"top1": measured}, calibration)


_A, _B = partial(build_resnet, "A"), partial(build_resnet, "B")
TASKS = {
    "resnet20_cifar10": _task(_A, 91.73),
    "resnet32_cifar10": _task(_A, 92.63),
    "resnet44_cifar10": _task(_A, 93.10),
    "resnet20b_cifar10": _task(_B, 91.71),
    "resnet20b_chreg_cifar10": _task(_B, 90.81),
    "resnet20b_thinned_cifar10": _task(_B, 91.14),
    "resnet8_cifar10": _task(build_resnet8, 87.19),
    "resnet8wide_cifar10": _task(build_resnet8, 91.28),
}
