"""Super-resolution networks, measured by the PSNR of the luma on Set5."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from bench.tasks.task import Task, loaded

__all__ = ["TASKS"]

PICTURES = ("baby", "bird", "butterfly", "head", "woman")


def luma(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """Y of BT.601 (16...235) from RGB 0...255, shape (..., 3)."""
    return 16 + (rgb.astype(np.float64) @ np.array([65.481, 128.553, 24.966])) / 255


def psnr(got: NDArray[np.float64], wanted: NDArray[np.float64], border: int) -> float:
    """In dB for a peak of 255, without ``border`` pixels on each side."""
    inside = slice(border, -border)
    error = np.clip(got, 0, 255)[inside, inside] - wanted[inside, inside]
    return float(10 * np.log10(255**2 / np.mean(error**2)))


class ConvReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class VDSR(nn.Module):
    """Twenty 3x3 convolutions that add detail to an upscaled luma picture (n, 1, h, w) of 0...1."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.residual_layer = nn.Sequential(*(ConvReLU() for _ in range(18)))
        self.output = nn.Conv2d(64, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.output(self.residual_layer(F.relu(self.input(x))))


class UpConv7(nn.Module):
    """waifu2x upconv_7: doubles the size of an RGB picture (n, 3, h, w) of 0...1."""

    WIDTHS = (3, 16, 32, 64, 128, 128, 256)

    def __init__(self) -> None:
        super().__init__()
        for i in range(1, 7):
            self.add_module(f"conv{i}", nn.Conv2d(self.WIDTHS[i - 1], self.WIDTHS[i], 3))
        self.conv7 = nn.ConvTranspose2d(256, 3, 4, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (7, 7, 7, 7), mode="replicate")
        for i in range(1, 7):
            x = F.leaky_relu(self.get_submodule(f"conv{i}")(x), 0.1)
        return self.conv7(x).clamp(0, 1)


def build_vdsr(tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(VDSR(), tensors)


def build_upconv7(tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(UpConv7(), tensors)


@torch.inference_mode()
def vdsr_psnr(model: nn.Module, data: Path, limit: int | None = None) -> dict[str, float]:
    """Mean PSNR over the pictures for upscaling by 2, 3 and 4."""
    found: dict[str, float] = {}
    with np.load(data / "set5" / "set5.npz") as set5:
        for factor in (2, 3, 4):
            values = []
            for name in PICTURES[:limit]:
                coarse = luma(set5[f"{name}_x{factor}"])
                height, width = coarse.shape
                fine = model(torch.from_numpy((coarse / 255).astype(np.float32))[None, None])[0, 0]
                values.append(
                    psnr(fine.double().numpy() * 255, luma(set5[f"{name}_gt"])[:height, :width], factor)
                )
            found[f"psnr_x{factor}"] = float(np.mean(values))
    return found


@torch.inference_mode()
def upconv7_psnr(model: nn.Module, data: Path, limit: int | None = None) -> dict[str, float]:
    """Mean PSNR over the pictures, from half size."""
    values = []
    with np.load(data / "set5" / "set5.npz") as set5:
        for name in PICTURES[:limit]:
            half = torch.from_numpy(set5[f"{name}_half"].astype(np.float32) / 255).permute(2, 0, 1)[None]
            fine = model(half)[0].permute(1, 2, 0).double().numpy() * 255
            height, width = fine.shape[:2]
            values.append(psnr(luma(fine), luma(set5[f"{name}_gt"])[:height, :width], 4))
    return {"psnr": float(np.mean(values))}


TASKS = {
    "vdsr": Task(build_vdsr, vdsr_psnr, {"psnr_x2": 37.56, "psnr_x3": 33.73, "psnr_x4": 31.25}),
    "waifu2x_upconv7_photo_fp16": Task(build_upconv7, upconv7_psnr, {"psnr": 37.23}),
}
