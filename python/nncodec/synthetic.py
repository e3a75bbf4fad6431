"""Examples made up from batch normalisation, for a calibration without data.

A network with batch normalisation remembers the mean and the variance of every channel that it normalises. Inputs that
lead to the same means and variances in every layer, and to each of a classifier's classes, are found by descending the
gradient of the inputs (ZeroQ: Cai et al. 2020; DeepInversion: Yin et al. 2020). What is descended in are the inputs'
Fourier coefficients over their frequencies, as natural images have them (amplitudes about 1 / f: Field 1987): so a
few dozen steps are enough. They show a calibration what the network's layers read; they look like nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from nncodec.progress import Progress, counting

__all__ = ["synthetic_batches"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_RATE, _BETAS = 0.1, (0.9, 0.99)  # of Adam, on coefficients that start with a deviation of 1
_CLASSES = 0.1  # of a classifier's cross-entropy, beside all the layers' statistics
_COMMON, _OWN = 0.8, 0.5  # what channels of an input have in common at the start, and of their own
_BATCH = 192


def synthetic_batches(
    model: nn.Module,
    shape: Sequence[int],
    count: int = 192,
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    iterations: int = 50,
    batch_size: int = _BATCH,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Progress = None,
) -> list[Tensor]:
    """Inputs whose statistics in every batch normalisation of a model are those of its training.

    For :func:`nncodec.calibrate` where there are no examples. Deterministic on one kind of machine. The model is left
    as it was: mode, weights, gradients, hooks, device.

    Parameters
    ----------
    model : torch.nn.Module
        Takes one tensor, examples along its first axis. Run in evaluation mode. An output of shape (examples, classes)
        is taken for that of a classifier: examples come of all its classes.
    shape : sequence of int
        Of one example: (channels, height, width), (channels, length), with three axes after the channels, or
        (features,).
    count : int
        How many examples. About two hundred are enough; they take memory and time as training on them would.
    mean, std : float or one per channel
        About those of the model's inputs, where the search starts: 0 and 1 if they are normalised before they come to
        the model, some 0.45 and 0.25 for pictures from 0 to 1, 120 and 60 for bytes.
    iterations : int
        Steps of gradient descent, each one forward and one backward pass.
    batch_size : int
        Examples that are found together, and make a batch of the result. The statistics are those of a batch: with less
        than a few dozen they are never met.
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
        For a model without batch normalisation that keeps statistics, numbers that make no sense, or a search that
        leaves the finite numbers (``mean`` and ``std`` are far off, then).
    """
    shape = tuple(shape)
    if not 1 <= len(shape) <= 4 or min(shape) < 1:
        raise ValueError(f"shape must be that of one example: channels and up to 3 axes, got {shape}")
    for name, number in (("count", count), ("iterations", iterations), ("batch_size", batch_size)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    here = next(model.parameters(), torch.empty(0)).device
    there = here if device is None else torch.device(device)
    if there != here:
        model = deepcopy(model).to(there)
    start = _Start(shape, _per_channel("mean", mean, shape[0]), _per_channel("std", std, shape[0]), there)
    noise = torch.Generator().manual_seed(seed)
    sizes = [min(batch_size, count - first) for first in range(0, count, batch_size)]
    batches = []
    with _watched(model) as read, counting(progress, len(sizes) * iterations, "step") as report:
        for size in sizes:
            coefficients = start.noise(size, noise)
            for _ in _descend(model, read, start, coefficients, iterations):
                report(1)
            batches.append(start.examples(coefficients.detach()).to(_dtype(model)))
    return batches


class _Start:
    """From Fourier coefficients of about 1 to inputs."""

    def __init__(self, shape: tuple[int, ...], mean: Tensor, std: Tensor, device: torch.device) -> None:
        self._axes = shape[1:]
        channels = shape[0]
        squares = torch.zeros(())
        for number, length in enumerate(self._axes, 1):
            last = number == len(self._axes)
            frequencies = torch.fft.rfftfreq(length) if last else torch.fft.fftfreq(length)
            squares = squares[..., None] + frequencies**2
        amplitude = 1 / squares.sqrt().clamp_min(1 / max(self._axes, default=1))
        self._amplitude = (amplitude / amplitude.square().mean().sqrt()).to(device)
        common = _COMMON if self._axes else 0.0  # features that are no channels may be anything
        mix = torch.full((channels, channels), common / math.sqrt(channels)) + _OWN * torch.eye(channels)
        self._mix = (mix / mix.square().sum(1, keepdim=True).sqrt() * std[:, None]).to(device)
        self._mean = mean.reshape(-1, *(1 for _ in self._axes)).to(device)
        self._device = device

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Coefficients to start from, real and imaginary parts along a last axis if there are frequencies."""
        parts = (2,) if self._axes else ()
        shape = (count, len(self._mix), *self._amplitude.shape, *parts)
        # The real numbers that come back have half of the sum of squares for each part.
        found = torch.randn(shape, generator=generator) / math.sqrt(max(1, len(parts) * 2))
        return found.to(self._device).requires_grad_()

    def examples(self, coefficients: Tensor) -> Tensor:
        """The inputs that they mean, (examples, *shape)."""
        values = coefficients
        if self._axes:
            spectrum = torch.view_as_complex(coefficients) * self._amplitude
            axes = tuple(range(2, 2 + len(self._axes)))
            values = torch.fft.irfftn(spectrum, s=self._axes, dim=axes, norm="ortho")
        return torch.einsum("ab,nb...->na...", self._mix, values) + self._mean


_Read = list[tuple[nn.Module, Tensor]]


@contextmanager
def _watched(model: nn.Module) -> Iterator[_Read]:
    """What batch normalisations read is in the list after each run of the model, in evaluation mode."""
    read: _Read = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        read.append((module, inputs[0]))

    norms = [m for m in model.modules() if isinstance(m, _NORMS) and m.running_mean is not None]
    if not norms:
        raise ValueError("model has no batch normalisation that keeps statistics: nothing says what it reads")
    modes = [(module, module.training) for module in model.modules()]
    hooks = [norm.register_forward_pre_hook(watch) for norm in norms]
    try:
        model.eval()
        yield read
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training


def _descend(
    model: nn.Module, read: _Read, start: _Start, coefficients: Tensor, iterations: int
) -> Iterator[None]:
    """Adam with a rate that falls to 0 along half a cosine; stops after each step."""
    dtype = _dtype(model)
    adam = torch.optim.Adam([coefficients], _RATE, _BETAS)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, iterations)
    classes = torch.arange(len(coefficients), device=coefficients.device)
    with torch.enable_grad():
        for _ in range(iterations):
            read.clear()
            output = model(start.examples(coefficients).to(dtype))
            loss = sum((_distance(norm, x) for norm, x in read), torch.zeros((), device=classes.device))
            if isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] > 1:
                wanted = classes % output.shape[1]
                loss = loss + _CLASSES * nn.functional.cross_entropy(output.float(), wanted)
            if not torch.isfinite(loss):
                raise ValueError("statistics of the layers left the finite numbers: mean and std are far off")
            (coefficients.grad,) = torch.autograd.grad(loss, [coefficients])
            adam.step()
            rate.step()
            yield
    read.clear()


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _distance(norm: nn.Module, x: Tensor) -> Tensor:
    """Squared distance of means and deviations from those that are remembered, in deviations, mean of the channels."""
    assert isinstance(norm, _NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    axes = [axis for axis in range(x.ndim) if axis != 1]
    variance, mean = torch.var_mean(x.float(), axes, correction=0)
    known = norm.running_var.float() + norm.eps
    off = (mean - norm.running_mean.float()).square() / known
    return (off + ((variance + norm.eps) / known).sqrt().sub(1).square()).mean()


def _per_channel(name: str, value: float | Sequence[float], channels: int) -> Tensor:
    found = torch.as_tensor(value, dtype=torch.float32)
    if found.ndim > 1 or found.numel() not in (1, channels):
        raise ValueError(f"{name} must be one number or one per channel ({channels}), got {found.numel()}")
    if not torch.isfinite(found).all() or (name == "std" and bool((found <= 0).any())):
        raise ValueError(f"{name} must be finite{' and above 0' if name == 'std' else ''}, got {value}")
    return found.expand(channels)
