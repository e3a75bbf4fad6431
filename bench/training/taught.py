"""Digits, as they are and shifted, with labels and with what a teacher says; and how to make a better teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncodec.train.steps import cosine, epoch

Target = tuple[Tensor, Tensor]


class Taught:
    """Shuffled batches of images as they are and shifted by up to ``shift`` pixels, with labels and teacher's logits.

    Of a shifted image the teacher's word is what it says of the image as it was. An epoch is as many images as there
    were before the shifted copies.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, teacher: nn.Module, copies: int, size: int, shift: int = 2
    ) -> None:
        generator = torch.Generator().manual_seed(7)
        shown = [images]
        for _ in range(copies):
            dx, dy = (int(torch.randint(-shift, shift + 1, (), generator=generator)) for _ in range(2))
            shown.append(torch.roll(images, (dy, dx), (1, 2)))  # the border of MNIST is black
        self.images, self.labels = torch.cat(shown), labels.repeat(copies + 1)
        self.count, self.size = len(images), size
        with torch.inference_mode():
            logits = torch.cat([teacher(x) for x in images.split(1000)])
        self.logits = logits.clone().repeat(copies + 1, 1)

    def __len__(self) -> int:
        return self.count // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Target]]:
        order = torch.randperm(len(self.images))[: self.count].to(self.images.device)
        for places in order.split(self.size)[: len(self)]:
            yield self.images[places], (self.labels[places], self.logits[places])


def learn(
    model: nn.Module, batches: Taught, loss: Callable[[Tensor, Target], Tensor], epochs: int, rate: float
) -> None:
    """All weights, with Adam; the rate falls along a cosine."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    model.train()
    for number in range(epochs):
        epoch(
            model,
            batches,
            loss,
            optimizer,
            rate=lambda share, number=number: cosine(rate, (number + share) / epochs),
        )
    model.eval()


def learn_shifted(model: nn.Module, batches: Taught, epochs: int, rate: float = 1e-3) -> None:
    """A trained network learns shifted images, too, from their labels: a teacher that generalises better."""
    learn(model, batches, lambda logits, target: F.cross_entropy(logits, target[0]), epochs, rate)
