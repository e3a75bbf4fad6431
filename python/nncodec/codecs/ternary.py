"""Codec 8: 3LC's three values, base-3^5 bytes, zero runs or rANS.

Each element becomes -M, 0 or +M, M being the largest magnitude times a sparsity multiplier: meant for differences
between two states of a network, whose error a later difference can make good. For gradients on their way between
workers, with that error fed back, see ``nncodec.distributed``. See docs/codecs/ternary.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from nncodec._core import ChunkDecoder, TernaryEncoder, ternary_decoder, ternary_encoders
from nncodec.codecs.base import Codec, Encoded, Part, Setting, in_windows

__all__ = ["Ternary"]

_ELEMENT_BYTES = {2: 4, 3: 2, 4: 2}  # element type code: bytes
_MAX_BLOCK = 1 << 18


@dataclass(frozen=True)
class Ternary(Codec):
    """Three-value quantisation of float32, float16 and bfloat16 tensors (3LC, arXiv:1802.07389).

    Parameters
    ----------
    sparsity_multiplier : float
        s in [1, 2). M = s * max|x|; elements up to M / 2 in magnitude become 0, others M or -M. A larger s gives more
        zeros and a smaller file.
    layout : {"consecutive", "planar"}
        Which five elements share a byte: neighbours, or elements a fifth of the chunk apart, as in the paper.
        Neighbours compress better.
    entropy : {"rans", "zero_run"}
        How the bytes are coded: by rANS in the context of their neighbours, or by zero runs, as in the paper:
        faster, and about twice as large.
    block : int, optional
        Elements that share an M, 1 to 2**18, so that one outlier does not silence a whole tensor. None: all elements
        of a tensor.

    Notes
    -----
    Takes no budget. NaN or infinite elements raise ValueError naming the tensor.
    """

    sparsity_multiplier: float = 1.0
    layout: Literal["consecutive", "planar"] = "consecutive"
    entropy: Literal["rans", "zero_run"] = "rans"
    block: int | None = None

    name: ClassVar[str] = "ternary"
    id: ClassVar[int] = 8
    version: ClassVar[int] = 1
    lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self.sparsity_multiplier, self.layout, self.entropy)
        if self.block is not None and (
            isinstance(self.block, bool)
            or not isinstance(self.block, int)
            or not 1 <= self.block <= _MAX_BLOCK
        ):
            raise ValueError(f"block must be None or 1 to {_MAX_BLOCK}, got {self.block!r}")

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """float32, float16 and bfloat16 of any shape."""
        return dtype in _ELEMENT_BYTES

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts. The bytes do not depend on ``threads``."""
        encoders = ternary_encoders(
            [(p.dtype, p.data, ", ".join(map(repr, p.names)) or "a tensor") for p in parts],
            self.sparsity_multiplier,
            self.layout,
            self.entropy,
            self.block or 0,
            threads,
        )
        return [_lazily(encoder, part, threads) for encoder, part in zip(encoders, parts, strict=True)]

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record. Raises DecodeError when the model is bad."""
        return ternary_decoder(dtype, chunk_elements, model)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """Layout, entropy coder, and the scale or the length of blocks that have one each."""
        facts: dict[str, Any] = {
            "layout": "consecutive" if model[0] & 1 else "planar",
            "entropy": "rans" if model[0] & 2 else "zero_run",
        }
        if model[1] == 0:
            facts["scale"] = float(struct.unpack("<f", model[2:6])[0])
        else:
            facts["block"] = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(model[1:]))
        return facts


def check_options(sparsity_multiplier: float, layout: str, entropy: str) -> None:
    """Raise ValueError naming what is wrong."""
    if (
        isinstance(sparsity_multiplier, bool)
        or not isinstance(sparsity_multiplier, int | float)
        or not math.isfinite(sparsity_multiplier)
        or not 1 <= sparsity_multiplier < 2 - 2**-24  # as a float32, too
    ):
        raise ValueError(f"sparsity_multiplier must be at least 1 and below 2, got {sparsity_multiplier!r}")
    if layout not in ("planar", "consecutive"):
        raise ValueError(f"layout must be 'planar' or 'consecutive', got {layout!r}")
    if entropy not in ("zero_run", "rans"):
        raise ValueError(f"entropy must be 'zero_run' or 'rans', got {entropy!r}")


def _lazily(encoder: TernaryEncoder, part: Part, threads: int) -> Encoded:
    chunk_bytes = encoder.chunk_elements * _ELEMENT_BYTES[part.dtype]
    chunks = in_windows(
        encoder.chunks, chunk_bytes, threads, lambda first, end: encoder.encode(first, end, threads)
    )
    return Encoded(encoder.chunk_elements, encoder.model, chunks)
