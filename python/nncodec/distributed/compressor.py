"""One sender's side of 3LC: a residual per tensor, messages, counters, and what to do with NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from nncodec._core import ternary_absmax, ternary_compress, ternary_compress_raw, ternary_decompress
from nncodec.codecs.ternary import check_options
from nncodec.distributed.buffers import bits_of, dtype_code
from nncodec.errors import NNCodecError

__all__ = ["Compressor", "NonFinite", "NonFiniteGradientError", "Traffic", "check_choice", "read_message"]

NonFinite = Literal["raise", "skip", "raw"]
_NOTHING = b"\x05"  # the message that says zero


class NonFiniteGradientError(NNCodecError):
    """A gradient has NaN or infinite elements; ``tensor`` names the parameter."""


@dataclass
class Traffic:
    """Counters of one sender, in bytes, since the start or the last :meth:`reset`.

    Attributes
    ----------
    raw : int
        What the tensors that were compressed take as they are.
    compressed : int
        What their messages take.
    bypassed : int
        Tensors sent as they are, for they are small.
    framing : int
        Headers and lengths.
    uncompressed : int
        What was averaged without 3LC while warming up.
    """

    raw: int = 0
    compressed: int = 0
    bypassed: int = 0
    framing: int = 0
    uncompressed: int = 0

    @property
    def sent(self) -> int:
        """All bytes that this sender handed over, once; a ring or a tree passes them on more than once."""
        return self.compressed + self.bypassed + self.framing + self.uncompressed

    @property
    def ratio(self) -> float:
        """raw / compressed: the compressed tensors alone."""
        return self.raw / self.compressed if self.compressed else 1.0

    def reset(self) -> None:
        """Set all counters to 0."""
        for name in asdict(self):
            setattr(self, name, 0)


@dataclass
class Compressor:
    """Makes the messages of one sender to one set of receivers.

    Parameters
    ----------
    sparsity_multiplier : float
        s in [1, 2); see :class:`nncodec.codecs.Ternary`.
    entropy : {"rans", "zero_run"}
    layout : {"consecutive", "planar"}
    min_numel : int
        Tensors of fewer elements are sent as they are.
    nonfinite : {"raise", "skip", "raw"}
        For a tensor with NaN or infinite elements: raise :class:`NonFiniteGradientError`, send zeros in its stead, or
        send it as it is. In any case its residual stays as it was.
    """

    sparsity_multiplier: float = 1.0
    entropy: Literal["rans", "zero_run"] = "rans"
    layout: Literal["consecutive", "planar"] = "consecutive"
    min_numel: int = 256
    nonfinite: NonFinite = "raise"
    residuals: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    traffic: Traffic = field(default_factory=Traffic)

    def __post_init__(self) -> None:
        check_options(self.sparsity_multiplier, self.layout, self.entropy)
        check_choice("nonfinite", self.nonfinite, ("raise", "skip", "raw"))
        if isinstance(self.min_numel, bool) or not isinstance(self.min_numel, int) or self.min_numel < 0:
            raise ValueError(f"min_numel must be an integer of at least 0, got {self.min_numel!r}")

    def message(self, name: str, values: torch.Tensor, *, fed_back: bool = True) -> bytes:
        """The message of one contiguous CPU tensor. ``fed_back``: what it does not say is kept for the next one.

        Raises NonFiniteGradientError as ``nonfinite`` says, having changed nothing.
        """
        code, bits = dtype_code(values.dtype), bits_of(values)
        if values.numel() < self.min_numel:
            finite = math.isfinite(ternary_absmax(bits, code))
            message = ternary_compress_raw(bits, code) if finite else self._not_finite(name, values)
            self.traffic.bypassed += len(message)
            return message
        residual = self._residual(name, values.numel()) if fed_back else None
        made = ternary_compress(
            bits,
            code,
            None if residual is None else residual.numpy(),
            self.sparsity_multiplier,
            self.layout,
            self.entropy,
        )
        if made is None:
            made = self._not_finite(name, values)
        self.traffic.raw += bits.nbytes
        self.traffic.compressed += len(made)
        return made

    def _not_finite(self, name: str, values: torch.Tensor) -> bytes:
        """What is sent for such a tensor, if anything."""
        if self.nonfinite == "raise":
            raise NonFiniteGradientError("the gradient has NaN or infinite elements", tensor=name)
        if self.nonfinite == "skip":
            return _NOTHING
        return ternary_compress_raw(bits_of(values), dtype_code(values.dtype))

    def nothing(self, values: torch.Tensor) -> bytes:
        """The message that says zero in the stead of ``values``; residuals stay as they are."""
        self.traffic.raw += values.numel() * values.element_size()
        self.traffic.compressed += len(_NOTHING)
        return _NOTHING

    def take_back(self, name: str, message: bytes) -> None:
        """Undo the sending of a message that nobody used: what it said becomes part of the residual again, exactly."""
        residual = self.residuals.get(name)
        if residual is not None and message[0] < 4:  # not raw: those leave the residual alone
            ternary_decompress(message, residual.numpy(), dtype_code(torch.float32), 1.0, True)

    def _residual(self, name: str, numel: int) -> torch.Tensor:
        residual = self.residuals.get(name)
        if residual is None:
            residual = self.residuals[name] = torch.zeros(numel, dtype=torch.float32)
        elif residual.numel() != numel:
            raise ValueError(f"{name!r} has {numel} elements, its residual {residual.numel()}")
        return residual

    def state_dict(self) -> dict[str, Any]:
        """Residuals and counters; holds tensors and numbers only."""
        return {
            "residuals": {name: tensor.clone() for name, tensor in self.residuals.items()},
            "traffic": asdict(self.traffic),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What :meth:`state_dict` gave."""
        residuals = state["residuals"]
        for name, tensor in residuals.items():
            if tensor.dtype != torch.float32 or tensor.dim() != 1:
                raise ValueError(f"residual {name!r} must be float32 of one dimension")
        self.residuals = {name: tensor.detach().cpu().clone() for name, tensor in residuals.items()}
        self.traffic = Traffic(**state["traffic"])


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def read_message(message: bytes | memoryview, out: torch.Tensor, weight: float, accumulate: bool) -> None:
    """Set a contiguous CPU tensor to ``weight`` times what a message says, or add that to it.

    Raises DecodeError, having changed nothing, for a message that does not fit.
    """
    ternary_decompress(message, bits_of(out), dtype_code(out.dtype), weight, accumulate)
