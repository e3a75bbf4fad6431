"""How a classifier's predictions differ from those of the original, stopped early where it is hopeless."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Agreement", "Judge", "hopeless"]

_BATCH, _BATCHES_A_LOOK = 250, 4
_SURE = 4.0  # standard errors


@dataclass(frozen=True)
class Agreement:
    """Of ``images`` images: how many were right before and are not now, the reverse, how many predictions changed."""

    images: int
    lost: int
    gained: int
    changed: int

    @property
    def drop(self) -> float:
        """Of accuracy, in points."""
        return 100 * (self.lost - self.gained) / self.images

    @property
    def error(self) -> float:
        """Standard error of the drop, in points: of a difference between answers to the same questions."""
        return 100 * math.sqrt(self.lost + self.gained) / self.images


def hopeless(seen: Agreement, images: int, allowed: float) -> bool:
    """Whether the drop over ``images`` images, of which some were seen, will be above ``allowed`` points."""
    left = images / seen.images - 1
    expected = (seen.lost - seen.gained) * (1 + left)
    # Of the images to come, and of the rate that those seen let expect for them.
    spread = math.sqrt((seen.lost + seen.gained + 1) * left * (1 + left))
    return expected - _SURE * spread > allowed * images / 100


class Judge:
    """Compares decoded classifiers with the original on images of known classes."""

    def __init__(self, original: nn.Module, images: Tensor, labels: Tensor) -> None:
        self._batches: tuple[Tensor, ...] = images.split(_BATCH)
        self._labels: NDArray[np.int64] = labels.numpy()
        self._before = np.concatenate([_classes(original, batch) for batch in self._batches])

    @property
    def accuracy(self) -> float:
        """Of the original, in per cent."""
        return 100 * float((self._before == self._labels).mean())

    def compare(self, model: nn.Module, allowed: float = math.inf) -> Agreement:
        """Over all images, or fewer if they show that the accuracy drops by more than ``allowed`` points."""
        now: list[NDArray[np.int64]] = []
        seen = Agreement(0, 0, 0, 0)
        for number, batch in enumerate(self._batches, 1):
            now.append(_classes(model, batch))
            if number % _BATCHES_A_LOOK and number < len(self._batches):
                continue
            after = np.concatenate(now)
            n = len(after)
            right, was_right = after == self._labels[:n], self._before[:n] == self._labels[:n]
            seen = Agreement(
                n,
                int((was_right & ~right).sum()),
                int((right & ~was_right).sum()),
                int((after != self._before[:n]).sum()),
            )
            if hopeless(seen, len(self._labels), allowed):
                break
        return seen


def _classes(model: nn.Module, batch: Tensor) -> NDArray[np.int64]:
    import torch

    with torch.inference_mode():
        return np.asarray(model(batch).argmax(1).numpy())
