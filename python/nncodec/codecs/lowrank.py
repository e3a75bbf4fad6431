"""Codec 9: a matrix as the product of two thin ones, for storage.

Truncated singular values; both factors are coded by codec ``trellis`` or ``uniform`` at the step that the tensor would
have, and the decoder multiplies. See docs/codecs/lowrank.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nncodec._core import (
    ChunkDecoder,
    crc32c,
    decode_chunks,
    low_rank_decompose,
    low_rank_product,
    lowrank_decoder,
    lowrank_model,
)
from nncodec.codecs.base import (
    CHUNK_ELEMENTS,
    Encoded,
    LossyCodec,
    Part,
    Setting,
    Trial,
    chunk_count,
)
from nncodec.codecs.codebook import as_doubles
from nncodec.codecs.trellis import Trellis
from nncodec.codecs.uniform import Uniform
from nncodec.dtypes import BY_CODE
from nncodec.errors import DecodeError

__all__ = ["LowRank"]

_TRELLIS = Trellis()
_QUANTISABLE = frozenset((1, 2, 3, 4))
_FLOAT32 = 2
_PLAIN = 1  # form: the tensor itself, coded by the inner codec
_MOST_FACTOR_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class LowRank(LossyCodec):
    """Low-rank coding of float64, float32, float16 and bfloat16 tensors; a matrix is the first dimension by the others.

    Parameters
    ----------
    rank : int, optional
        Terms that are kept of every tensor.
    energy : float, optional
        Or: as few terms as hold this share of the sum of squares, above 0 and at most 1. Default: 0.99.
    inner : Trellis or Uniform
        What codes the factors.

    Notes
    -----
    A tensor that would not get fewer numbers by it (its rank too high, or one of its sides 1) is coded by the inner
    codec as it is. The error of the terms that are left out is part of what a budget counts, so that a budget below it
    cannot be met. ``importance`` weighs the error that a budget counts, and the step, but not the choice of factors.
    """

    rank: int | None = None
    energy: float | None = None
    inner: LossyCodec = _TRELLIS

    name: ClassVar[str] = "lowrank"
    id: ClassVar[int] = 9
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.rank is not None and self.energy is not None:
            raise ValueError("give rank or energy, one of them")
        if self.rank is not None and (isinstance(self.rank, bool) or self.rank < 1):
            raise ValueError(f"rank must be at least 1, got {self.rank!r}")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise ValueError(f"energy must be above 0 and at most 1, got {self.energy!r}")
        if not isinstance(self.inner, Trellis | Uniform):
            raise ValueError(f"inner must be Trellis or Uniform, got {self.inner!r}")

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """float64, float32, float16 and bfloat16 of any shape."""
        return dtype in _QUANTISABLE

    @property
    def _inner(self) -> LossyCodec:
        """The format knows the inner codec's payload version 1 only, which has no layouts."""
        return replace(self.inner, layouts="stored") if isinstance(self.inner, Trellis) else self.inner

    @property
    def finest_step(self) -> float:
        """That of the inner codec: entries of the factors are seldom larger than those of their product."""
        return self.inner.finest_step

    @property
    def least_step(self) -> float:
        """That of the inner codec."""
        return self.inner.least_step

    def study(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Any]:
        """Factors of each part, which do not depend on the step."""
        return [self._factors(part) for part in parts]

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts of one tensor each. The bytes do not depend on ``threads``."""
        if settings is None:
            raise ValueError("codec 'lowrank' needs a setting per part")
        return [self._encode(part, setting, threads) for part, setting in zip(parts, settings, strict=True)]

    def trial(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """Size and error: the factors are coded, decoded and multiplied."""
        return [self._trial(part, setting, threads) for part, setting in zip(parts, settings, strict=True)]

    def _factors(self, part: Part) -> _Factors | None:
        """None where they would be no fewer numbers."""
        (shape,) = part.shapes
        rows, columns = _sides(shape)
        if min(rows, columns) < 2 or _too_many(rows, columns, self.rank or 1):
            return None
        try:
            left, scales, right, _ = low_rank_decompose(
                part.dtype,
                part.data,
                rows,
                columns,
                self.rank or 0,
                0.99 if self.energy is None else self.energy,
            )
        except ValueError as error:
            label = ", ".join(map(repr, part.names)) or "a tensor"
            raise ValueError(f"{label}: {error}; codec 'lossless' can take it") from None
        if _too_many(rows, columns, len(scales) // 4):
            return None
        return _Factors(rows, columns, left, scales, right)

    def _encode(self, part: Part, setting: Setting, threads: int) -> Encoded:
        factors = setting.study if isinstance(setting.study, _Factors) else self._factors(part)
        if factors is None:
            (whole,) = self._inner.encode([part], [Setting(setting.step, setting.importance)], threads)
            return Encoded(whole.chunk_elements, bytes((_PLAIN, self.inner.id)) + whole.model, whole.chunks)
        model, _ = self._coded(factors, setting, threads)
        n = factors.rows * factors.columns
        return Encoded(CHUNK_ELEMENTS, model, [b""] * chunk_count(n, CHUNK_ELEMENTS))

    def _trial(self, part: Part, setting: Setting, threads: int) -> Trial:
        factors = setting.study if isinstance(setting.study, _Factors) else self._factors(part)
        if factors is None:
            return self._inner.trial([part], [Setting(setting.step, setting.importance)], threads)[0]
        model, decoded = self._coded(factors, setting, threads)
        square = (as_doubles(part.data, part.dtype) - factors.product_of(decoded)) ** 2
        if setting.importance is not None:
            square *= setting.importance
        return Trial(8.0 * len(model), float(square.sum()))

    def _coded(self, factors: _Factors, setting: Setting, threads: int) -> tuple[bytes, NDArray[np.float32]]:
        """The model, and the factors that a decoder will have."""
        part = factors.part
        (inner,) = self.inner.encode([part], [Setting(setting.step)], threads)
        payloads = [bytes(chunk) for chunk in inner.chunks]
        model = lowrank_model(self.inner.id, factors.scales, inner.chunk_elements, inner.model, payloads)
        decoder = self.inner.decoder(1, _FLOAT32, part.shapes, inner.chunk_elements, inner.model)
        return model, _decoded(decoder, payloads, inner.chunk_elements, len(part.data) // 4, threads)

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record. Raises DecodeError when the model is bad."""
        return lowrank_decoder(dtype, shapes, chunk_elements, model)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """Rank (none where the tensor is coded as it is), and what codes the factors."""
        if len(model) < 2:
            return {}
        facts: dict[str, Any] = {"inner": {2: "uniform", 3: "trellis"}.get(model[1], "?")}
        if model[0] != _PLAIN:
            rank, shift = 0, 0
            for byte in model[2:12]:
                rank |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            facts["rank"] = rank
        return facts


@dataclass(frozen=True)
class _Factors:
    rows: int
    columns: int
    left: bytes
    scales: bytes
    right: bytes

    @property
    def part(self) -> Part:
        """Both factors as a record of their own."""
        rank = len(self.scales) // 4
        data = np.frombuffer(self.left + self.right, np.uint8)
        return Part(
            _FLOAT32, ((self.rows, rank), (rank, self.columns)), data, ("left factor", "right factor")
        )

    def product_of(self, factors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of factors as they decode."""
        out = np.empty(self.rows * self.columns)
        split = self.rows * (len(self.scales) // 4)
        low_rank_product(factors[:split], self.scales, factors[split:], self.columns, out)
        return out


def _sides(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0] if shape else 1), math.prod(shape[1:])


def _too_many(rows: int, columns: int, rank: int) -> bool:
    """Whether factors have no fewer numbers than their product, or more than the format allows."""
    return rank * (rows + columns + 1) >= rows * columns or rank * (rows + columns) > _MOST_FACTOR_ELEMENTS


def _decoded(
    decoder: ChunkDecoder, payloads: Iterable[bytes], chunk_elements: int, elements: int, threads: int
) -> NDArray[np.float32]:
    out = np.empty(elements, np.float32)
    raw = out.view(np.uint8)
    size = chunk_elements * BY_CODE[_FLOAT32].size
    jobs = [
        (decoder, i, payload, 0, crc32c(payload), raw[i * size : (i + 1) * size])
        for i, payload in enumerate(payloads)
    ]
    failure = decode_chunks(jobs, threads)
    if failure is not None:
        raise DecodeError(failure[1])
    return out
