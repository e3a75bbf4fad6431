"""What a contender is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from bench.datasets import Tensors

__all__ = ["Contender", "Unavailable"]


class Unavailable(RuntimeError):
    """A contender that is not installed; the message says what is missing."""


class Contender(ABC):
    """A codec of somebody else. The constructor raises Unavailable where it cannot run.

    Attributes
    ----------
    name, version : str
        As in its distribution.
    lossy : bool
        Whether ``encode`` needs a setting, its own measure of coarseness.
    seconds : float
        Time that the last ``encode`` or ``decode`` took inside the codec: no start of a process, no copying between
        processes.
    """

    name: str
    version: str
    lossy: bool = False
    seconds: float = 0.0

    @abstractmethod
    def encode(self, tensors: Tensors, setting: float | None = None) -> bytes:
        """All tensors in one piece of bytes."""

    @abstractmethod
    def decode(self, data: bytes) -> Tensors:
        """The tensors again, in the names, shapes and order they had; element types as the codec gives them."""
