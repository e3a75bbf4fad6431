"""The torch side of :mod:`nncodec.synthetic`: inputs are moved until batch normalisations read what they remember.

What is descended in are the inputs' Fourier coefficients over their frequencies, as natural images have them
(amplitudes about 1 / f: Field 1987): so a few dozen steps are enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nncodec.modules import evaluating, placed

__all__ = ["Synthesis"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_RATE, _BETAS = 0.1, (0.9, 0.99)  # of Adam, on coefficients that start with a deviation of 1
_CLASSES = 0.1  # of a classifier's cross-entropy, beside all the layers' statistics
_COMMON, _OWN = 0.8, 0.5  # what channels of an input have in common at the start, and of their own


class Synthesis:
    """Context in which batches are made; leaving it restores the model."""

    def __init__(
        self,
        model: nn.Module,
        shape: tuple[int, ...],
        mean: float | Sequence[float],
        std: float | Sequence[float],
        classes: bool,
        device: torch.device | str | None,
        seed: int,
    ) -> None:
        self._model, self._device = placed(model, device)
        self._classes = classes
        with torch.inference_mode(False):
            means, deviations = _per_channel("mean", mean, shape[0]), _per_channel("std", std, shape[0])
            self._start = _Start(shape, means, deviations, self._device)
        self._noise = torch.Generator().manual_seed(seed)
        self._dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        self._read: list[tuple[nn.Module, Tensor]] = []
        self._restored = ExitStack()

    def __enter__(self) -> Synthesis:
        norms = [m for m in self._model.modules() if isinstance(m, _NORMS) and m.running_mean is not None]
        if not norms:
            raise ValueError(
                "model has no batch normalisation that keeps statistics: nothing says what it reads"
            )
        for norm in norms:
            self._restored.callback(norm.register_forward_pre_hook(self._watch, with_kwargs=True).remove)
        self._restored.enter_context(evaluating(self._model))
        return self

    def __exit__(self, *_: object) -> None:
        self._restored.close()
        self._read.clear()

    def _watch(self, module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        self._read.append((module, inputs[0] if inputs else named["input"]))

    def batch(
        self, first: int, size: int, count: int, iterations: int, report: Callable[[int], object]
    ) -> Tensor:
        """Examples ``first`` to ``first + size`` of ``count``: Adam with a rate that falls to 0 along half a cosine."""
        numbers = torch.arange(first, first + size, device=self._device)
        with torch.inference_mode(False):
            coefficients = self._start.noise(size, self._noise)
            adam = torch.optim.Adam([coefficients], _RATE, _BETAS)
            rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, iterations)
        for _ in range(iterations):
            with torch.inference_mode(False), torch.enable_grad():
                loss = self._loss(coefficients, numbers, count)
                (coefficients.grad,) = torch.autograd.grad(loss, [coefficients])
                adam.step()
                rate.step()
            report(1)
        with torch.inference_mode(False):
            return self._start.examples(coefficients.detach()).to(self._dtype)

    def _loss(self, coefficients: Tensor, numbers: Tensor, count: int) -> Tensor:
        self._read.clear()
        output = self._model(self._start.examples(coefficients).to(self._dtype))
        if not self._read:
            raise ValueError("model did not call its batch normalisation: nothing says what it reads")
        loss = torch.stack([_distance(norm, x) for norm, x in self._read]).sum()
        is_scores = isinstance(output, Tensor) and output.ndim == 2 and len(output) == len(numbers)
        if self._classes and is_scores and output.shape[1] > 1:
            classes = output.shape[1]
            wanted = numbers * classes // count if count < classes else numbers % classes
            loss = loss + _CLASSES * nn.functional.cross_entropy(output.float(), wanted)
        if not torch.isfinite(loss):
            raise ValueError("statistics of the layers left the finite numbers: mean and std are far off")
        return loss


class _Start:
    """From Fourier coefficients of about 1 to inputs."""

    def __init__(self, shape: tuple[int, ...], mean: Tensor, std: Tensor, device: torch.device) -> None:
        self._axes = shape[1:]
        channels = shape[0]
        squares = torch.zeros((), dtype=torch.float32)
        for number, length in enumerate(self._axes, 1):
            last = number == len(self._axes)
            frequencies = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(length, dtype=torch.float32)
            squares = squares[..., None] + frequencies**2
        amplitude = 1 / squares.sqrt().clamp_min(1 / max(self._axes, default=1))
        self._amplitude = (amplitude / amplitude.square().mean().sqrt()).to(device)
        common = _COMMON if self._axes else 0.0  # features that are no channels may be anything
        mix = _OWN * torch.eye(channels, dtype=torch.float32) + common / math.sqrt(channels)
        self._mix = (mix / mix.square().sum(1, keepdim=True).sqrt() * std[:, None]).to(device)
        self._mean = mean.reshape(-1, *(1 for _ in self._axes)).to(device)
        self._device = device

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Coefficients to start from, real and imaginary parts along a last axis if there are frequencies."""
        shape = (count, len(self._mix), *self._amplitude.shape)
        if self._axes:
            shape += (2,)
        found = torch.randn(shape, generator=generator, dtype=torch.float32)
        if self._axes:  # the real numbers that come back have half of the sum of squares for each part
            found *= math.sqrt(0.5)
        return found.to(self._device).requires_grad_()

    def examples(self, coefficients: Tensor) -> Tensor:
        """The inputs that they mean, (examples, *shape)."""
        values = coefficients
        if self._axes:
            spectrum = torch.view_as_complex(coefficients) * self._amplitude
            axes = tuple(range(2, 2 + len(self._axes)))
            values = torch.fft.irfftn(spectrum, s=self._axes, dim=axes, norm="ortho")
        return torch.einsum("ab,nb...->na...", self._mix, values) + self._mean


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
    found = torch.as_tensor(value, dtype=torch.float32, device="cpu")
    if found.ndim > 1 or found.numel() not in (1, channels):
        raise ValueError(f"{name} must be one number or one per channel ({channels}), got {found.numel()}")
    if not torch.isfinite(found).all() or (name == "std" and bool((found <= 0).any())):
        raise ValueError(f"{name} must be finite{' and above 0' if name == 'std' else ''}, got {value}")
    return found.expand(channels)
