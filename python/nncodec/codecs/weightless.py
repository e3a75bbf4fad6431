"""Codec 7: a tensor of few distinct values, most of them zero, inside a retrieval structure (Weightless).

After Reagen et al., "Weightless: Lossy weight encoding for deep neural network compression", ICML 2018. Positions are
not stored: any weight is looked up in nanoseconds, and some zeros come back as weights. See docs/codecs/weightless.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nncodec._core import (
    WeightlessDecoder,
    WeightlessModel,
    crc32c,
    decode_chunks,
    weightless_decoder,
    weightless_encode,
    weightless_plan,
)
from nncodec.clusters import safe_exponent, scalar_centroids, scaled
from nncodec.codecs.base import Codec, Encoded, Part, Setting, chunk_count, in_windows
from nncodec.dtypes import BY_CODE
from nncodec.elementary import log2
from nncodec.errors import DecodeError

__all__ = ["Weightless"]

_FLOATS = frozenset((1, 2, 3, 4))  # element type codes
_MAX_VALUES = 4096
_WORDS = 4  # of a ribbon's window: 256 slots
_AT_ONCE = 1 << 20
CHUNK_ELEMENTS = 1 << 20  # many keys under one header; a chunk is looked up, so it need not be small


@dataclass(frozen=True)
class Weightless(Codec):
    """Weights that are not zero inside a filter: each comes back as its cluster, some zeros as any cluster.

    For float64, float32, float16 and bfloat16 tensors that were pruned, and as a rule clustered. It takes no budget:
    the clusters and ``cell_bits`` say what is lost. Of N positions of which n are not zero, with V clusters, about
    ``(N - n) * V / 2**cell_bits`` zeros become weights, and the tensor takes about ``n * cell_bits`` bits.

    Parameters
    ----------
    cell_bits : int | None
        Bits of a cell, 1 to 16. None: as many as keep the false positives below the number of weights, or with
        ``exact``, as many as make the file smallest.
    structure : {"ribbon", "bloomier"}
        A ribbon takes about 0.3 % more than n * cell_bits bits, the Bloomier filter of the paper 23 %.
    exact : bool
        No false positives: every position that passes the filter has a flag that tells weights from zeros.
    clusters : int
        A tensor with more distinct values that are not zero than this, or than ``2**cell_bits``, is clustered
        (k-means); 1 to 4096. Others keep their values exactly.
    packed : bool
        Leave out the cells of a Bloomier filter that are 0: about 10 % smaller, but a look-up unpacks a chunk first.
    seed : int
        The first seed of the hashes that is tried: other seeds give other false positives.
    encoded : tuple of bytes, optional
        A model and its chunks, as training made them: they are stored as they are. ValueError if the tensor is not what
        they decode to.

    Notes
    -----
    Negative zeros come back as zeros. NaN or infinite elements raise ValueError naming the tensor.
    """

    cell_bits: int | None = None
    structure: Literal["ribbon", "bloomier"] = "ribbon"
    exact: bool = False
    clusters: int = 16
    packed: bool = False
    seed: int = 0
    encoded: tuple[bytes, ...] | None = field(default=None, repr=False)

    name: ClassVar[str] = "weightless"
    id: ClassVar[int] = 7
    version: ClassVar[int] = 1
    lossy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.structure not in ("ribbon", "bloomier"):
            raise ValueError(f"structure must be 'ribbon' or 'bloomier', got {self.structure!r}")
        if not 1 <= self.clusters <= _MAX_VALUES:
            raise ValueError(f"clusters must be 1 to {_MAX_VALUES}, got {self.clusters!r}")
        if self.cell_bits is not None and not 1 <= self.cell_bits <= 16:
            raise ValueError(f"cell_bits must be 1 to 16, got {self.cell_bits!r}")
        if self.packed and self.structure == "ribbon":
            raise ValueError("packed is for structure 'bloomier': a ribbon has no cells to leave out")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError(f"seed must be 0 to 2**32 - 1, got {self.seed!r}")

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """float64, float32, float16 and bfloat16 of any shape."""
        return dtype in _FLOATS

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts. The bytes do not depend on ``threads``."""
        return [self._encoded(part, threads) for part in parts]

    def _encoded(self, part: Part, threads: int) -> Encoded:
        name = ", ".join(map(repr, part.names)) or "a tensor"
        if self.encoded is not None:
            return _checked(self.encoded, part, name)
        limit = self.clusters if self.cell_bits is None else min(self.clusters, 1 << self.cell_bits)
        elements, weights, values = _survey(part, limit, name)
        bits = (
            self.cell_bits
            if self.cell_bits is not None
            else _cells(elements, weights, values.size, self.exact)
        )
        model = WeightlessModel(self.structure, bits, _WORDS, self.exact, self.packed)
        plan = weightless_plan(
            part.dtype, part.data, _as_elements(values, part.dtype), model, self.seed, name
        )
        chunks = in_windows(
            plan.chunks,
            plan.chunk_elements * BY_CODE[part.dtype].size,
            threads,
            lambda first, end: weightless_encode(plan, first, end, threads),
        )
        return Encoded(plan.chunk_elements, plan.model, chunks)

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> WeightlessDecoder:
        """A decoder for one record. Raises DecodeError when the model is bad."""
        return weightless_decoder(dtype, sum(math.prod(shape) for shape in shapes), chunk_elements, model)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """Structure, bits of a cell, mode and number of values."""
        structure = "ribbon" if model[0] & 1 else "bloomier"
        at = 3 if model[0] & 1 else 2
        values = model[at] & 0x7F | (model[at + 1] << 7 if model[at] & 0x80 else 0)
        return {
            "structure": structure,
            "cell_bits": model[1],
            "exact": bool(model[0] & 2),
            "packed": bool(model[0] & 4),
            "values": values,
        }


def decoded(encoded: tuple[bytes, ...], dtype: int, elements: int) -> NDArray[np.uint8]:
    """The elements of a part from its model and chunks, as bytes; DecodeError if they are of another part."""
    model, *chunks = encoded
    decoder = weightless_decoder(dtype, elements, CHUNK_ELEMENTS, model)
    if len(chunks) != chunk_count(elements, CHUNK_ELEMENTS):
        raise DecodeError(f"{elements} elements have another number of chunks than {len(chunks)}")
    out = np.empty(elements * BY_CODE[dtype].size, np.uint8)
    size = BY_CODE[dtype].size * CHUNK_ELEMENTS
    jobs = [
        (decoder, number, chunk, 0, crc32c(chunk), out[number * size : (number + 1) * size])
        for number, chunk in enumerate(chunks)
    ]
    failure = decode_chunks(jobs, 0)
    if failure is not None:
        raise DecodeError(failure[1])
    return out


def _checked(encoded: tuple[bytes, ...], part: Part, name: str) -> Encoded:
    """What was encoded before, if it is this part."""
    wanted = _as_numbers(part.data, part.dtype)
    try:
        same = np.array_equal(_as_numbers(decoded(encoded, part.dtype, wanted.size), part.dtype), wanted)
    except DecodeError as error:
        raise ValueError(f"{name} is not the tensor that was encoded before: {error}") from None
    if not same:
        raise ValueError(f"{name} is not the tensor that was encoded before")
    return Encoded(CHUNK_ELEMENTS, encoded[0], encoded[1:])


def _cells(elements: int, weights: int, values: int, exact: bool) -> int:
    """Bits of a cell where the caller did not say."""
    least = max((values - 1).bit_length(), 1)
    zeros = elements - weights
    if weights == 0 or zeros == 0:
        return least
    if exact:  # a bit more a weight halves the flags of zeros that pass
        return min(range(least, 17), key=lambda bits: weights * bits + zeros * values / 2**bits)
    return min(max(math.ceil(log2(zeros * values / weights)), least), 16)


def _survey(part: Part, clusters: int, name: str) -> tuple[int, int, NDArray[np.float64]]:
    """Number of elements, of those that are not zero, and the values that these will have."""
    elements = part.data.size // BY_CODE[part.dtype].size
    weights = 0
    distinct: NDArray[np.float64] | None = np.empty(0)
    for numbers in _pieces(part):
        nonzero = numbers[numbers != 0]
        weights += nonzero.size
        if distinct is not None:
            if not np.isfinite(nonzero).all():
                raise ValueError(
                    f"{name} has NaN or infinite elements: codec 'weightless' cannot take it, codec 'lossless' can"
                )
            distinct = np.union1d(distinct, nonzero)
            if distinct.size > clusters:
                distinct = None
    if distinct is None:
        everything = np.concatenate([numbers[numbers != 0] for numbers in _pieces(part)])
        if not np.isfinite(everything).all():
            raise ValueError(
                f"{name} has NaN or infinite elements: codec 'weightless' cannot take it, codec 'lossless' can"
            )
        exponent = safe_exponent(everything, -150, 128)  # all of float32 as it is
        centres = scaled(scalar_centroids(scaled(everything, -exponent), None, clusters), exponent)
        centres = _as_numbers(_as_elements(centres, part.dtype), part.dtype)
        # No value of a filter is 0: the cluster about it gets the number that is nearest.
        distinct = np.unique(np.where(centres == 0, everything[np.abs(everything).argmin()], centres))
    if distinct.size == 0:
        distinct = np.ones(1)  # all zeros: a model has one value at least
    return elements, weights, distinct


def _pieces(part: Part) -> Sequence[NDArray[np.float64]] | Any:
    size = BY_CODE[part.dtype].size * _AT_ONCE
    return (_as_numbers(part.data[at : at + size], part.dtype) for at in range(0, part.data.size, size))


def _as_numbers(data: NDArray[np.uint8], dtype: int) -> NDArray[np.float64]:
    """Elements as binary64; exact."""
    if dtype == 4:  # bfloat16: the upper half of a float32
        return (data.view("<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    return data.view({1: "<f8", 2: "<f4", 3: "<f2"}[dtype]).astype(np.float64)


def _as_elements(values: NDArray[np.float64], dtype: int) -> NDArray[np.uint8]:
    """Numbers as elements, rounded to nearest; clusters lie within the range of what was clustered."""
    if dtype == 4:
        bits = values.astype("<f4").view("<u4").astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").view(np.uint8)
    return np.ascontiguousarray(values.astype({1: "<f8", 2: "<f4", 3: "<f2"}[dtype])).view(np.uint8)
