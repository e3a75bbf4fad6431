"""The torch side of :mod:`nncodec.calibration`: hooks that watch layers at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nncodec.calibration import LayerMoments
from nncodec.modules import evaluating, placed

__all__ = ["Collector"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_COVERED = (nn.Linear, *_CONVOLUTIONS, nn.Embedding)
# Patches of so many elements are made at a time, to bound memory: a 3x3 kernel reads every pixel nine times.
_PATCH_ELEMENTS = 1 << 24


class Collector:
    """Context in which every ``run`` of a batch adds to the moments; leaving it restores the model."""

    def __init__(
        self,
        model: nn.Module,
        device: torch.device | str | None,
        sensitivity: bool,
        output: Callable[[Any], Tensor] | None,
        seed: int,
        enough: int | None = None,
    ) -> None:
        """``enough``: of a convolution's positions, only a regular part is looked at where a batch has more vectors."""
        self._enough = enough
        self._model, self._device = placed(model, device)
        self._sensitivity = sensitivity
        self._output = output
        self._signs = torch.Generator().manual_seed(seed)
        self._moments: dict[str, _Moments] = {}
        self._taps: list[tuple[str, Tensor]] = []
        self._restored = ExitStack()
        self.examples = 0

    def __enter__(self) -> Collector:
        names: dict[int, str] = {}
        # Of a weight that is an embedding and a layer too, the layer's inputs say more than how often rows are read.
        multiplying = {
            id(module.weight)
            for module in self._model.modules()
            if isinstance(module, _COVERED) and not isinstance(module, nn.Embedding)
        }
        for prefix, module in self._model.named_modules():
            if isinstance(module, _COVERED):
                own = f"{prefix}.weight" if prefix else "weight"
                name = names.setdefault(id(module.weight), own)  # a shared weight counts under its first name
                if isinstance(module, nn.Embedding) and id(module.weight) in multiplying:
                    continue
                self._moments.setdefault(name, _Moments(module))
                self._restored.callback(module.register_forward_hook(self._watch(name)).remove)
        if not self._moments:
            self.__exit__()
            raise ValueError("model has no linear, convolution or embedding layer")
        self._restored.enter_context(evaluating(self._model))
        return self

    def __exit__(self, *_: object) -> None:
        self._restored.close()

    def _watch(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            with torch.no_grad():
                self._moments[name].add_input(module, inputs[0].detach(), self._enough)
            if not self._sensitivity:
                return None
            # A zero added to the output, to ask for the derivative by: works with frozen weights too.
            tap = torch.zeros_like(output, requires_grad=True)
            self._taps.append((name, tap))
            return output + tap

        return hook

    def run(self, batch: Any) -> None:
        """One batch through the model, and back."""
        self._taps.clear()
        with torch.set_grad_enabled(self._sensitivity):
            result = _call(self._model, _moved(batch, self._device))
            if self._output is not None:
                result = self._output(result)
        if not isinstance(result, Tensor):
            raise TypeError(f"the model returns {type(result).__name__}; give output= to make a tensor of it")
        self.examples += len(result) if result.ndim else 1
        if not self._sensitivity:
            return
        signs = torch.randint(0, 2, result.shape, generator=self._signs).to(result) * 2 - 1
        wanted = [tap for _, tap in self._taps]
        derivatives = torch.autograd.grad((result * signs).sum(), wanted, allow_unused=True)
        for (name, _), derivative in zip(self._taps, derivatives, strict=True):
            if derivative is not None:
                self._moments[name].add_derivative(derivative)

    def result(self) -> tuple[dict[str, LayerMoments], int]:
        """Moments by name, of the layers that were called, and how many examples there were."""
        if not self.examples:
            raise ValueError("batches is empty")
        for name, m in self._moments.items():
            for what, sums in (("inputs", m.input), ("derivatives", m.output)):
                if not bool(torch.isfinite(sums).all()):
                    raise ValueError(f"batches: {what} of layer {name!r} are NaN or infinite")
        return {name: m.as_numpy() for name, m in self._moments.items() if m.vectors}, self.examples


class _Moments:
    """Running sums of one weight, in float64 on its device."""

    def __init__(self, module: nn.Module) -> None:
        weight: Tensor = module.weight
        self.shape = tuple(weight.shape)
        self.groups = getattr(module, "groups", 1)
        self.vectors = 0
        self._turn = 0  # other positions each time, where not all are looked at
        new = {"dtype": torch.float64, "device": weight.device}
        if isinstance(module, nn.Embedding):
            self.input = torch.zeros(self.shape[0], **new)
            self.mean = torch.zeros(0, 0, **new)
        else:
            k = prod(self.shape[1:])
            self.input = torch.zeros(self.groups, k, k, **new)
            self.mean = torch.zeros(self.groups, k, **new)
        self.common = torch.zeros_like(self.input) if isinstance(module, _CONVOLUTIONS) else torch.zeros(0)
        self._squares = torch.zeros(2, **new)  # of sums of derivatives over positions; of the derivatives
        self.output = torch.zeros(0, 0, **new)

    def add_input(self, module: nn.Module, x: Tensor, enough: int | None = None) -> None:
        if isinstance(module, nn.Embedding):
            self.input += torch.bincount(x.reshape(-1), minlength=self.shape[0])
            self.vectors += x.numel()
        elif isinstance(module, nn.Linear):
            self._add_vectors(x.reshape(1, -1, x.shape[-1]))
        else:
            x = x if x.ndim == len(self.shape) else x[None]  # convolutions take single examples too
            step = max(1, _PATCH_ELEMENTS // max(1, x[0].numel() * prod(self.shape[2:])))
            for piece in x.split(step):
                vectors = patches(module, piece, every_position(module, x, enough), self._turn)
                self._add_vectors(vectors)
                self._add_common(vectors, len(piece))
                self._turn += 1

    def _add_vectors(self, x: Tensor) -> None:
        """x of shape (groups, vectors, k)."""
        x = x.float() if x.dtype.itemsize < 4 else x
        self.input += (x.transpose(1, 2) @ x).double()
        self.mean += x.sum(1, dtype=torch.float64)
        self.vectors += x.shape[1]

    def _add_common(self, x: Tensor, examples: int) -> None:
        """What the positions of an example have in common. x: (groups, examples * positions, k)."""
        x = x.reshape(len(x), examples, -1, x.shape[-1])
        means = x.mean(2, dtype=torch.float32 if x.dtype.itemsize < 4 else x.dtype)
        self.common += (means.transpose(1, 2) @ means).double() * x.shape[2]

    def add_derivative(self, derivative: Tensor) -> None:
        """derivative of the shape of the layer's output."""
        convolution = self.groups > 1 or len(self.shape) > 2
        if convolution:
            g = derivative.movedim(-len(self.shape) + 1, -1).reshape(-1, self.shape[0])
        else:
            g = derivative.reshape(-1, derivative.shape[-1])
        g = g.float() if g.dtype.itemsize < 4 else g
        if convolution and derivative.ndim == len(self.shape):
            sums = derivative.flatten(2).sum(2, dtype=torch.float64)
            self._squares += torch.stack([(sums**2).sum(), (g.double() ** 2).sum()])
        if not self.output.numel():
            self.output = self.output.new_zeros(g.shape[1], g.shape[1])
        self.output += (g.T @ g).double()

    def as_numpy(self) -> LayerMoments:
        input_, mean, output = (
            np.asarray(t.cpu().numpy(), np.float64) for t in (self.input, self.mean, self.output)
        )
        common = np.asarray(self.common.cpu().numpy(), np.float64)
        coherent, all_ = self._squares.tolist()
        return LayerMoments(
            self.shape, input_, mean, output, self.vectors, common, coherent / all_ if all_ > 0 else 1.0
        )


def every_position(module: nn.Module, x: Tensor, enough: int | None) -> int:
    """Of positions along each axis to take one, so that about so many vectors are left of a batch."""
    if enough is None:
        return 1
    positions = x[0, 0].numel() / prod(module.stride)  # but for the border
    share = len(x) * positions / enough
    return max(1, int(share ** (1 / (x.ndim - 2))))


def patches(module: nn.Module, x: Tensor, every: int = 1, turn: int = 0) -> Tensor:
    """What a convolution multiplies its kernels with: (groups, examples * positions, inputs / groups * kernel size).

    ``every`` above 1: only every so many positions along each axis, others in each ``turn``.
    """
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    n, channels = x.shape[:2]
    spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if module.padding == "same":
        pads = [(span // 2, span - span // 2) for span in spans]
    elif module.padding == "valid":
        pads = [(0, 0)] * len(spans)
    else:
        pads = [(int(p), int(p)) for p in module.padding]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = nn.functional.pad(x, [p for pair in reversed(pads) for p in pair], mode=mode)
    for axis, (span, stride, dilation) in enumerate(
        zip(spans, module.stride, module.dilation, strict=True), 2
    ):
        x = x.unfold(axis, span + 1, stride)[..., ::dilation]
        first = min(turn // every ** (axis - 2) % every, x.shape[axis] - 1)
        x = x.movedim(axis, 0)[first::every].movedim(0, axis)
    axes = len(spans)
    x = x.reshape(n, module.groups, channels // module.groups, *x.shape[2:])
    positions, kernel = range(3, 3 + axes), range(3 + axes, 3 + 2 * axes)
    x = x.permute(1, 0, *positions, 2, *kernel)
    return x.reshape(module.groups, -1, channels // module.groups * prod(module.kernel_size))


def _call(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        return model(*batch)
    return model(batch)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_moved(item, device) for item in value)
    return value
