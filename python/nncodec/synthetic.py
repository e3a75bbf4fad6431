"""Examples made up from batch normalisation, for a calibration without data.

A network with batch normalisation remembers the mean and the variance of every channel that it normalises. Inputs that
lead to the same means and variances in every layer, and to a classifier's classes, are found by descending the
gradient of the inputs (ZeroQ: Cai et al. 2020; DeepInversion: Yin et al. 2020). They show a calibration what the
network's layers read; they look like nothing. torch is imported when needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nncodec.progress import Progress, counting

if TYPE_CHECKING:
    import torch

__all__ = ["synthetic_batches"]


def synthetic_batches(
    model: torch.nn.Module,
    shape: Sequence[int],
    count: int = 192,
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    iterations: int = 50,
    batch_size: int = 192,
    classes: bool = True,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> list[torch.Tensor]:
    """Inputs whose statistics in every batch normalisation of a model are those of its training.

    For :func:`nncodec.calibrate` where there are no examples. Deterministic on one kind of machine. The model is left
    as it was: mode, weights, gradients, hooks, device.

    Parameters
    ----------
    model : torch.nn.Module
        Takes one tensor, examples along its first axis. Run in evaluation mode.
    shape : sequence of int
        Of one example: (channels, height, width), (channels, length), with three axes after the channels, or
        (features,).
    count : int
        How many examples. About two hundred are enough.
    mean, std : float or one per channel
        About those of the model's inputs, where the search starts: 0 and 1 if they are normalised before they come to
        the model, some 0.45 and 0.25 for pictures from 0 to 1, 120 and 60 for bytes.
    iterations : int
        Steps of gradient descent, each one forward and one backward pass.
    batch_size : int
        Examples that are found together, and make a batch of the result. The statistics are those of a batch: with less
        than a few dozen they are never met. What a step takes is what a training step on such a batch takes.
    classes : bool
        Whether an output of shape (examples, classes) is that of a classifier: examples are then of classes that are
        spread over all there are. False for embeddings or regression.
    device : optional
        Where to run; a copy of the model goes there if it is elsewhere.
    seed : int
        Of the noise from which the search starts.
    progress : callable or True, optional
        Called as ``progress(steps_done, steps_in_all)``; True shows a bar (needs tqdm).

    Returns
    -------
    list of torch.Tensor
        Batches of shape (batch_size, *shape), the last one possibly smaller, of the type of the model's weights.

    Raises
    ------
    ValueError
        For a model that calls no batch normalisation with statistics, numbers that make no sense, or a search that
        leaves the finite numbers (``mean`` and ``std`` are far off, then).
    """
    from nncodec.synthesis import Synthesis  # torch is optional

    shape = tuple(shape)
    if not 1 <= len(shape) <= 4 or min(shape) < 1:
        raise ValueError(f"shape must be that of one example: channels and up to 3 axes, got {shape}")
    for name, number in (("count", count), ("iterations", iterations), ("batch_size", batch_size)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    firsts = range(0, count, batch_size)
    synthesis = Synthesis(model, shape, mean, std, classes, device, seed)
    with synthesis, counting(progress, len(firsts) * iterations, "step") as report:
        return [
            synthesis.batch(first, min(batch_size, count - first), count, iterations, report)
            for first in firsts
        ]
