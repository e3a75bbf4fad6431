"""How long to train on windows of which size, and with which teachers: a recipe, and the options that change it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from bench.datasets import read_safetensors
from bench.tasks import task
from bench.training.views import Stages, Views


@dataclass(frozen=True)
class Windows:
    """Epochs on windows of each side, one after the other, with networks of the data folder as teachers.

    There are ``views`` windows of every image, for sides but that of most epochs half as many, and no more than epochs.
    """

    sides: tuple[int, ...]
    epochs: tuple[int, ...]
    teachers: tuple[str, ...]
    views: int = 5

    def __post_init__(self) -> None:
        if len(self.sides) != len(self.epochs) or not self.sides:
            raise ValueError(f"give as many epochs as sides, got {self.epochs} for {self.sides}")
        if min(*self.sides, *self.epochs, self.views) < 1:
            raise ValueError("sides, epochs and views must be positive")

    def lasting(self, epochs: int) -> Windows:
        """Shared out over so many epochs; sides that get none are left out."""
        total, done = sum(self.epochs), 0
        shares = []
        for until in accumulate(self.epochs):
            shares.append(round(until * epochs / total) - done)
            done += shares[-1]
        kept = [(side, share) for side, share in zip(self.sides, shares, strict=True) if share]
        return replace(self, sides=tuple(s for s, _ in kept), epochs=tuple(e for _, e in kept))

    def views_of(self, number: int) -> int:
        """Windows of every image, of the side of this number."""
        longest = number == self.epochs.index(max(self.epochs))
        return min(self.epochs[number], self.views if longest else (self.views + 1) // 2)

    def loader(
        self, data: Path, images: Tensor, labels: Tensor, *, batch: int, seed: int = 0, compiled: bool = True
    ) -> Stages:
        """The batches, where the images are."""
        teachers = []
        for name in self.teachers:
            network = task(name).build(read_safetensors(data / "weights" / f"{name}.safetensors")).eval()
            network.to(images.device, memory_format=torch.channels_last)
            teachers.append(torch.compile(network) if compiled else network)
        made = []
        for number, (side, epochs) in enumerate(zip(self.sides, self.epochs, strict=True)):
            views = self.views_of(number)
            loader = Views(images, labels, teachers, views=views, side=side, batch=batch, seed=seed + number)
            made.append((loader, epochs))
        return Stages(made)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those that :func:`chosen_windows` reads."""
    parser.add_argument(
        "--sides", type=int, nargs="*", help="train on windows of so many pixels, one after the other"
    )
    parser.add_argument(
        "--windows", type=int, nargs="+", metavar="EPOCHS", help="of each side, or shares of them"
    )
    parser.add_argument(
        "--teachers", nargs="+", metavar="NETWORK", help="of windows; default: the network itself"
    )
    parser.add_argument("--views", type=int, help="windows of every image, of the side of most epochs")
    parser.add_argument("--no-compile", action="store_true", help="slower, but needs no C++ compiler")


def chosen_windows(
    parser: argparse.ArgumentParser, given: argparse.Namespace, default: Windows | None
) -> Windows | None:
    """What the options say; ``--sides`` without a number is none. Other options change the default."""
    if given.sides == []:
        return None
    if given.sides is None and given.windows is None and given.teachers is None and given.views is None:
        return default
    if default is None and (given.sides is None or given.windows is None):
        parser.error("--sides and --windows go together, --teachers and --views with them")
    if "cifar10" not in given.network:
        parser.error("windows are for the CIFAR-10 networks")
    try:
        return Windows(
            tuple(given.sides or default.sides),
            tuple(given.windows or default.epochs),
            tuple(given.teachers or (default.teachers if default else (given.network,))),
            given.views if given.views is not None else default.views if default else Windows.views,
        )
    except ValueError as error:
        parser.error(str(error))
