"""Images as they are shown in training: windows of them, with labels and what teachers say of the very same pixels.

A small window costs a small share of a whole image, and a network that averages over positions learns nearly as much
from it. A teacher need not speak again in every epoch, where every image is shown in a few windows only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.training.precision import mixed

Teacher = Callable[[Tensor], Tensor]
Batch = tuple[Tensor, tuple[Tensor, Tensor | None]]
TAUGHT_AT_ONCE = 2000  # windows that a teacher sees in one pass on a GPU, which fills it


def cut(
    images: Tensor, pick: Tensor, side: int, y: Tensor, x: Tensor, mirrored: Tensor | None = None
) -> Tensor:
    """Windows (n, channels, side, side) of the images of these numbers (n,), from row y and column x (n,) on."""
    across = torch.arange(side, device=images.device)
    rows, columns = y[:, None] + across, x[:, None] + across
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    channel = torch.arange(images.shape[1], device=images.device)
    return images[
        pick[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]


class Views:
    """Shuffled batches ``(images, (labels, logits))``; every epoch shows each image in another of a few windows.

    Parameters
    ----------
    images, labels : torch.Tensor
        (n, channels, side, side) and (n,), on the device of training.
    teachers : sequence of callable
        Images to logits, of which the mean is kept for every window; none: no logits.
    views : int
        Windows of every image; then they begin again. Half of them are mirrored.
    side : int
        Pixels of a window.
    batch, seed : int
        Images of a batch; of the windows and of the order.
    shift : int
        Zeros around every image, where the window would otherwise have less room to move than that.

    Raises
    ------
    ValueError
        For images that are no squares, and windows that are larger or none.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        teachers: Sequence[Teacher],
        *,
        views: int,
        side: int,
        batch: int,
        shift: int = 4,
        seed: int = 0,
    ) -> None:
        if images.ndim != 4 or images.shape[2] != images.shape[3]:
            raise ValueError(f"images must have shape (n, channels, side, side), got {tuple(images.shape)}")
        padded = side + 2 * shift > images.shape[-1]
        self.padded = F.pad(images, (shift,) * 4) if padded else images
        room = self.padded.shape[-1] - side + 1
        if side < 1 or room < 1 or views < 1:
            raise ValueError(f"{views} windows of {side} pixels cannot be had of {images.shape[-1]}")
        self.labels, self.side, self.batch = labels, side, batch
        self.random = torch.Generator().manual_seed(seed)
        shape = (views, len(images))
        self.device = images.device  # windows and their order are the same on every one
        self._y = torch.randint(room, shape, generator=self.random).to(self.device)
        self._x = torch.randint(room, shape, generator=self.random).to(self.device)
        self._mirrored = (torch.rand(shape, generator=self.random) < 0.5).to(self.device)
        self._next = 0
        self._logits = [self._taught(view, teachers) for view in range(views)] if teachers else None

    def __len__(self) -> int:
        return len(self.labels) // self.batch

    def __iter__(self) -> Iterator[Batch]:
        view = self._next % len(self._y)
        self._next += 1
        order = torch.randperm(len(self.labels), generator=self.random).to(self.device)
        for pick in order.split(self.batch)[: len(self)]:
            logits = None if self._logits is None else self._logits[view][pick]
            yield self._seen(view, pick), (self.labels[pick], logits)

    def _seen(self, view: int, pick: Tensor) -> Tensor:
        at = (self._y[view, pick], self._x[view, pick], self._mirrored[view, pick])
        return cut(self.padded, pick, self.side, *at).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _taught(self, view: int, teachers: Sequence[Teacher]) -> Tensor:
        found = []
        together = self.batch if self.device.type == "cpu" else max(self.batch, TAUGHT_AT_ONCE)
        for pick in torch.arange(len(self.labels), device=self.device).split(together):
            seen = self._seen(view, pick)
            with mixed(self.device.type):
                found.append(sum(teacher(seen).float() for teacher in teachers) / len(teachers))
        return torch.cat(found)


class Stages:
    """One loader after the other, each for so many epochs; the last one goes on for those that ask for more.

    After training only statistics of normalisations are measured: on the windows that the network learned from last.
    """

    def __init__(self, stages: Sequence[tuple[Views, int]]) -> None:
        self.stages = stages
        self.epoch = 0

    def _now(self) -> Views:
        left = self.epoch
        for loader, epochs in self.stages:
            if left < epochs:
                return loader
            left -= epochs
        return self.stages[-1][0]

    def __len__(self) -> int:
        return len(self._now())

    def __iter__(self) -> Iterator[Any]:
        loader = self._now()
        self.epoch += 1
        yield from loader
