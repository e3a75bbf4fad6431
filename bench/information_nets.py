"""What the suite `information` measures: a task of 12 bits, and small networks that learn it, several seeds at once.

Set-up: Shwartz-Ziv and Tishby (arXiv:1703.00810), as used by Chelombiev, Houghton and O'Donnell (arXiv:1902.09037).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

__all__ = ["NETWORKS", "Ensemble", "Network", "epochs_to_record", "task"]

WIDTHS = (12, 10, 7, 5, 4, 3, 2)


def task() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All 4096 patterns of 12 bits and their labels, of which 2118 are 1.

    The bits sit on the vertices of an icosahedron. The label is 1 if the length of the sum of the ones' unit vectors
    and the number of ones add up to more than 7.6: a threshold on the amplitudes of degrees 1 and 0 of the pattern's
    power spectrum in spherical harmonics, which rotations leave alone.

    The original label is a threshold on a function of that spectrum. Its table could not be read; how many patterns
    with each number of ones have label 1 is published (deep-bottleneck.readthedocs.io, experiments, data set: 60 of
    792 with five ones, 532 of 924 with six, 732 of 792 with seven, none with fewer, all with more) and is the same
    here. With a given number of ones, the power of a degree is linear in the numbers of adjacent and of opposite
    pairs of ones. Four labels that are thresholds on such functions have these counts, two but for the order of the
    bits: this one is what degree 1 gives, and degree 3 with the bits in another order.
    """
    golden = (1 + math.sqrt(5)) / 2
    vertices = np.array(
        [np.roll((0.0, a, b * golden), turn) for turn in range(3) for a in (1, -1) for b in (1, -1)]
    ) / math.sqrt(1 + golden**2)
    patterns = ((np.arange(4096)[:, None] >> np.arange(12)) & 1).astype(np.float32)
    labels = np.linalg.norm(patterns @ vertices, axis=1) + patterns.sum(axis=1) > 7.6
    return patterns, labels.astype(np.int64)


@dataclass(frozen=True)
class Network:
    """An activation function, its infimum (where EBAB's bins begin), the first weights' spread times sqrt(inputs)."""

    activation: Callable[[torch.Tensor], torch.Tensor]
    low: float
    spread: float


NETWORKS = {
    "tanh": Network(torch.tanh, -1.000001, 1.0),
    "relu": Network(F.relu, 0.0, 2.0),
    "elu": Network(F.elu, -1.000001, 2.0),
    "swish": Network(F.silu, -0.278465, 2.0),
    "centred softplus": Network(lambda v: F.softplus(v) - math.log(2), -0.693148, 2.0),
}


def epochs_to_record(epochs: int, count: int = 30) -> list[int]:
    """About ``count`` epochs from 0 to ``epochs``, denser at the beginning: floor(2^u) - 1 for u equally spaced."""
    return sorted({*(int(2**u) - 1 for u in np.linspace(0, math.log2(epochs + 1), count)[:-1]), epochs})


class Ensemble:
    """Networks of one kind that differ in their seed alone, trained side by side.

    Adam of step 4e-4, batches of 256, 80 % of the patterns; with ``l2``, 0.015 / 2 times the squared weights of all
    layers but the last are added to the loss.
    """

    def __init__(self, network: Network, seeds: int, l2: bool) -> None:
        patterns, labels = task()
        self.network, self.l2 = network, l2
        self.inputs, self.labels = torch.from_numpy(patterns), torch.from_numpy(labels)
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
        self.train, self.test = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
        self.shuffles = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
        self.weights, self.biases = [], []
        for i, o in pairwise(WIDTHS):
            weight = torch.empty(seeds, i, o)
            for one, generator in zip(weight, self.shuffles, strict=True):
                spread = network.spread / math.sqrt(i)
                torch.nn.init.trunc_normal_(one, 0, spread, -2 * spread, 2 * spread, generator)
            self.weights.append(weight.requires_grad_())
            self.biases.append(torch.zeros(seeds, 1, o, requires_grad=True))
        self.optimiser = torch.optim.Adam([*self.weights, *self.biases], lr=4e-4, fused=True)

    def hidden(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Activations layer by layer, (seeds, samples, units); the last are the outputs before the softmax."""
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer < len(self.weights) - 1:
                x = self.network.activation(x)
            yield x

    def epoch(self) -> None:
        """One pass over the training patterns, each network in an order of its own."""
        orders = torch.stack(
            [self.train[torch.randperm(len(self.train), generator=g)] for g in self.shuffles]
        )
        for picked in orders.split(256, dim=1):
            outputs = list(self.hidden(self.inputs[picked]))[-1]
            loss = F.cross_entropy(outputs.flatten(0, 1), self.labels[picked].flatten(), reduction="sum")
            loss = loss / picked.shape[1]
            if self.l2:
                loss = loss + 0.0075 * torch.stack([(w * w).sum() for w in self.weights[:-1]]).sum()
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()

    @torch.no_grad()
    def activations(self) -> list[NDArray[np.float32]]:
        """Of all patterns: hidden layers, then the softmax output; (seeds, 4096, units) each."""
        seeds = len(self.shuffles)
        layers = list(self.hidden(self.inputs.expand(seeds, -1, -1)))
        layers[-1] = layers[-1].softmax(-1)
        return [layer.numpy() for layer in layers]

    def accuracy(self, outputs: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Per seed on training and on test patterns, in per cent."""
        right = outputs.argmax(-1) == self.labels.numpy()
        return 100 * right[:, self.train.numpy()].mean(1), 100 * right[:, self.test.numpy()].mean(1)
