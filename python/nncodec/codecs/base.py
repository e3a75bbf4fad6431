"""What a codec is: an options object that encodes parts, and a decoder per record.

A codec module holds one frozen dataclass (its options) derived from :class:`Codec`; ``registry.py`` names it. Nothing
outside the module knows its payload. ``docs/format.md`` lists the ids.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nncodec._core import ChunkDecoder, hardware_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nncodec.sides import Sides

__all__ = [
    "Codec",
    "Encoded",
    "LossyCodec",
    "Part",
    "Setting",
    "Trial",
    "chunk_count",
    "in_windows",
]

# Chunks hold about this many elements; a codec rounds it to whole rows of its own view of the tensor.
CHUNK_ELEMENTS = 1 << 18
# No codec holds the payloads of more raw bytes than this at a time (or of one chunk per thread, if that is
# more).
WINDOW_BYTES = 8 << 20


@dataclass(frozen=True)
class Part:
    """What one record stores: one tensor, or several small ones of the same element type end to end.

    Attributes
    ----------
    dtype : int
        Element type code (docs/format.md).
    shapes : tuple of tuple of int
        Shape of each tensor of the part; their elements follow each other in ``data``.
    data : numpy.ndarray
        The raw bytes, uint8, C-contiguous, one dimension; a view of the caller's memory, never written to.
    names : tuple of str
        For error messages only.
    """

    dtype: int
    shapes: tuple[tuple[int, ...], ...]
    data: NDArray[np.uint8]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """A part's payload: the model that all chunks share, and the chunks, each decodable alone.

    There are exactly ``ceil(n / chunk_elements)`` chunks for n elements (none for n = 0); chunk i holds
    elements ``i * chunk_elements`` up to ``(i + 1) * chunk_elements``.

    ``chunks`` is consumed once, in order, and each chunk is written before the next is asked for. A list will
    do for parts below ``WINDOW_BYTES``; for larger ones it should be a generator, see :func:`in_windows`, so
    that a tensor of any size is encoded in bounded memory.

    ``version`` is the payload version that a reader must know, the codec's newest if None: what an older reader can
    read should say so.
    """

    chunk_elements: int
    model: bytes
    chunks: Iterable[bytes | memoryview]
    version: int | None = None


@dataclass(frozen=True)
class Setting:
    """How coarsely to code one part: quantiser step, and weights of its squared error (None: all 1).

    ``study`` is what the codec's :meth:`LossyCodec.study` made of the part, if it has been asked. ``sides``, of
    a part of one tensor, ask for error feedback; such a part has no importance. ``strength`` is the price of a bit over
    the usual one, see :attr:`LossyCodec.strengths`.
    """

    step: float
    importance: NDArray[np.float32] | None = None
    study: Any = None
    sides: Sides | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Trial:
    """What a setting would give: bits (payload, model included) and the weighted squared error."""

    bits: float
    squared_error: float


class Codec(ABC):
    """Base of every codec; subclasses are frozen dataclasses of options."""

    name: ClassVar[str]
    id: ClassVar[int]
    version: ClassVar[int] = 1
    # Whether decoded values may differ, and whether a budget over the file decides how much they do. A lossy codec that
    # takes no budget is told by its options what to lose.
    lossy: ClassVar[bool] = False
    budgeted: ClassVar[bool] = False

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """Whether this codec may take such a tensor; what a lossy codec may not take goes to ``lossless``."""
        return True

    def wants(self, shape: tuple[int, ...]) -> bool:
        """Whether a lossy codec takes a tensor of this shape that nobody names: weights as a rule, not vectors."""
        return len(shape) > 1

    @abstractmethod
    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts, in parallel over parts and chunks. The bytes do not depend on ``threads``.

        The container calls this with a batch: many parts that hold about ``WINDOW_BYTES`` together, or one
        part of any size, whose ``Encoded.chunks`` should then be lazy. It consumes the chunks of the first
        result, then those of the second, and so on. ``threads`` 0 means all cores.

        ``settings`` has one entry per part for a codec with a budget. For a :class:`LossyCodec` without one it carries
        importance, with step 1, or is None; for others it is None.
        """

    @classmethod
    @abstractmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record, of a version from 1 to the codec's (the caller has seen to that).

        Raises DecodeError when the model is bad.
        """

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """What ``info`` shows of a record's model: options as written by the encoder."""
        return {}


class LossyCodec(Codec):
    """A codec that trades error for size through a quantiser step.

    A lossy codec whose options alone say how coarsely it codes derives from :class:`Codec` and sets ``lossy``.
    """

    lossy: ClassVar[bool] = True
    budgeted: ClassVar[bool] = True
    # Tensors up to this size (0: none) share records of up to so many elements.
    shared_tensor_elements: ClassVar[int] = 0
    shared_record_elements: ClassVar[int] = 0
    # Whether a study holds for all steps.
    lasting_study: ClassVar[bool] = False
    # About the squared error that a step gives, over that step squared.
    error_of_step: ClassVar[float] = 1 / 12
    # Settings' strengths beside the usual 1, at which files are about as good but of other sizes and errors: for
    # budgets that no step meets. Parts with sides do without.
    strengths: ClassVar[tuple[float, ...]] = ()
    # Whether settings may have sides.
    feedback: ClassVar[bool] = False

    @property
    def finest_step(self) -> float:
        """The smallest step it takes, over the largest magnitude: beyond it levels no longer fit their codes."""
        return 2.0**-27

    @property
    def least_step(self) -> float:
        """The smallest step it takes of whatever magnitudes."""
        return 2.0**-1000

    def study(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Any]:
        """What the codec wants to know of each part whatever the step; goes into later settings."""
        return [None] * len(parts)

    def variants(self) -> tuple[LossyCodec, ...]:
        """Options that code in ways between which this one chooses, for sizes that its choice leaps over.

        A study that one of them made must do for this codec.
        """
        return ()

    @abstractmethod
    def trial(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """Size and error that these settings would give, without making the bytes. Used to meet budgets."""

    def measured(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """The same in full, for a codec whose trials estimate. What takes long is kept in the settings' studies."""
        return self.trial(parts, settings, threads)


def chunk_count(elements: int, chunk_elements: int) -> int:
    """How many chunks ``elements`` make."""
    return -(-elements // chunk_elements)


def in_windows(
    chunks: int, chunk_bytes: int, threads: int, encode: Callable[[int, int], Sequence[bytes | memoryview]]
) -> Iterator[bytes | memoryview]:
    """Chunks 0 to ``chunks``, made by ``encode(first, end)`` for one window of consecutive chunks after the
    other.

    ``chunk_bytes`` is the raw size of a chunk; a window has enough chunks for ``threads`` threads, and about
    ``WINDOW_BYTES`` otherwise. ``encode`` codes its chunks in parallel.
    """
    window = max(threads or hardware_threads(), WINDOW_BYTES // max(1, chunk_bytes), 1)
    for first in range(0, chunks, window):
        made = list(encode(first, min(first + window, chunks)))
        made.reverse()
        while made:  # what was given is let go of
            yield made.pop()
