"""Codec 5: weights that share values, as a codebook and an entropy-coded index per weight (or short vector of weights).

A tensor that holds few values anyway goes through as it is; others are clustered by k-means. See
docs/codecs/codebook.md.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nncodec._core import (
    ChunkDecoder,
    CodebookPlan,
    codebook_decoder,
    kmeans_assign,
    kmeans_lloyd,
)
from nncodec.clusters import means, safe_exponent, scalar_centroids, scaled
from nncodec.codecs.base import Encoded, LossyCodec, Part, Setting, Trial, in_windows
from nncodec.dtypes import BY_CODE
from nncodec.elementary import log2
from nncodec.envelope import cells

__all__ = ["Codebook", "as_doubles"]

MAX_ENTRIES = 65536
_QUANTISABLE = frozenset((1, 2, 3, 4))
_LLOYD_STEPS = 20
# Exponents between which nothing is scaled: all of float32 where squares are float64, and where they are float32.
_SAFE = (-150, 128)
_SAFE_OF_VECTORS = (-32, 60)
_LARGEST_POWER = {1: 1023, 2: 127, 3: 15, 4: 127}  # of two, by element type
_ALL = 1 << 62  # elements; more than there are
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Codebook(LossyCodec):
    """A codebook per tensor (or for the network), and an index per weight.

    Without ``size`` and ``bits`` it is exact: for float tensors of at most 65,536 distinct values, such as those that
    training methods leave. Otherwise tensors of more distinct values than that are clustered, and those of fewer are
    exact. There is no budget: the options say the size.

    Parameters
    ----------
    size, bits : int, optional
        Entries of a codebook, 1 to 65,536 (4,096 for vectors), or their logarithm; at most one of them.
    dimension : {1, 2, 4}
        Weights per entry: so many that follow each other in the flattened tensor share an index, across the ends of
        rows that they do not fill.
    share : {"tensor", "network"}
        A codebook for each tensor, or one for all tensors (of an element type) that this codec takes; a ``Writer``,
        which sees one at a time, makes one for each.
    values : {"float", "power_of_two"}
        Whether entries are rounded to powers of two, so that products become shifts.
    entropy : float
        What a bit of an index may cost in squared error, in units of the tensor's variance; 0 takes the nearest
        entry. For dimension 1.
    classes : bool
        Give weights of different scale (by row and column) different index statistics, where that pays.
    """

    size: int | None = None
    bits: int | None = None
    dimension: int = 1
    share: Literal["tensor", "network"] = "tensor"
    values: Literal["float", "power_of_two"] = "float"
    entropy: float = 0.0
    classes: bool = True

    name: ClassVar[str] = "codebook"
    id: ClassVar[int] = 5
    version: ClassVar[int] = 1
    budgeted: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("size", "bits", "dimension"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if self.size is not None and self.bits is not None:
            raise ValueError("give size or bits, not both")
        if self.bits is not None and not 0 <= self.bits <= 16:
            raise ValueError(f"bits must be 0 to 16, got {self.bits!r}")
        if self.dimension not in (1, 2, 4):
            raise ValueError(f"dimension must be 1, 2 or 4, got {self.dimension!r}")
        most = MAX_ENTRIES if self.dimension == 1 else 4096
        if self.entries is not None and not 1 <= self.entries <= most:
            raise ValueError(f"size must be 1 to {most}, got {self.entries!r}")
        if self.share not in ("tensor", "network"):
            raise ValueError(f"share must be 'tensor' or 'network', got {self.share!r}")
        if self.values not in ("float", "power_of_two"):
            raise ValueError(f"values must be 'float' or 'power_of_two', got {self.values!r}")
        if not 0 <= self.entropy < math.inf:
            raise ValueError(f"entropy must be at least 0, got {self.entropy!r}")
        if self.entropy and self.dimension > 1:
            raise ValueError("entropy is for dimension 1")
        if self.share == "network":
            object.__setattr__(self, "shared_tensor_elements", _ALL)
            object.__setattr__(self, "shared_record_elements", _ALL)

    @property
    def entries(self) -> int | None:
        """Most entries of a codebook; None: as many as there are values."""
        return 1 << self.bits if self.bits is not None else self.size

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """float64, float32, float16 and bfloat16 of any shape."""
        return dtype in _QUANTISABLE

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts, each with a codebook of its own. The bytes do not depend on ``threads``."""
        weights = [None] * len(parts) if settings is None else [s.importance for s in settings]
        return [self._encode(part, w, threads) for part, w in zip(parts, weights, strict=True)]

    def trial(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """Size and weighted squared error."""
        trials = []
        for part, setting in zip(parts, settings, strict=True):
            entries, index = self._cluster(part, setting.importance, threads)
            encoded = self._code(part, entries, index, threads)
            bits = 8 * (len(encoded.model) + sum(map(len, encoded.chunks)))
            x, y = as_doubles(part.data, part.dtype), as_doubles(entries[index].view(np.uint8), part.dtype)
            square = (x - y[: len(x)]) ** 2
            if setting.importance is not None:
                square *= setting.importance
            trials.append(Trial(float(bits), float(square.sum())))
        return trials

    def _encode(self, part: Part, importance: NDArray[np.float32] | None, threads: int) -> Encoded:
        return self._code(part, *self._cluster(part, importance, threads), threads)

    def _code(
        self, part: Part, entries: NDArray[np.void], index: NDArray[np.uint16], threads: int
    ) -> Encoded:
        label = ", ".join(map(repr, part.names)) or "a tensor"
        raw = np.ascontiguousarray(entries).view(np.uint8)
        plan = CodebookPlan(
            (part.dtype, part.shapes, part.data, label, self.dimension, raw, index), self.classes, threads
        )
        size = plan.chunk_elements * BY_CODE[part.dtype].size
        chunks: Iterable[bytes | memoryview] = in_windows(
            plan.chunks, size, threads, lambda first, end: plan.encode(first, end, threads)
        )
        return Encoded(plan.chunk_elements, plan.model, list(chunks) if plan.chunks < 32 else chunks)

    def _cluster(
        self, part: Part, importance: NDArray[np.float32] | None, threads: int
    ) -> tuple[NDArray[np.void], NDArray[np.uint16]]:
        """Entries, each as raw bytes, and the index of each vector."""
        element = BY_CODE[part.dtype].size
        width = element * self.dimension
        data = part.data
        if len(data) % width:
            data = np.concatenate([data, np.zeros(-len(data) % width, np.uint8)])
        if not len(data):
            return np.zeros(width, np.uint8).view(f"V{width}"), np.zeros(0, np.uint16)
        found = _distinct(data, width, MAX_ENTRIES if self.entries is None else self.entries)
        if found is not None:
            return found
        label = ", ".join(map(repr, part.names)) or "a tensor"
        if self.entries is None:
            raise ValueError(
                f"{label} has more than {MAX_ENTRIES} distinct values: codec 'codebook' needs size or bits for it"
            )
        x = as_doubles(data, part.dtype)
        if not np.isfinite(x).all():
            raise ValueError(f"{label} has NaN or infinite elements: codec 'lossless' can take it")
        w = None if importance is None or not importance.any() else importance.astype(np.float64)
        if self.dimension == 1:
            return self._scalars(x, w, part.dtype, threads)
        if w is not None:
            w = np.concatenate([w, np.zeros(len(x) - len(w))])
        return self._vectors(x, w, part.dtype, threads)

    def _scalars(
        self, x: _Floats, w: _Floats | None, dtype: int, threads: int
    ) -> tuple[NDArray[np.void], NDArray[np.uint16]]:
        assert self.entries is not None
        exponent = safe_exponent(x, *_SAFE)
        x = scaled(x, -exponent)
        centroids = scalar_centroids(x, w, self.entries)
        index = np.empty(len(x), np.uint16)
        entries, centroids = self._rounded(centroids, dtype, exponent)
        rates = np.zeros(len(centroids))
        for step in range(4 if self.entropy else 1):
            index = _cheapest(x, centroids, rates, threads)
            if step == 3 or not self.entropy:
                break
            share = np.bincount(index, minlength=len(centroids)) / len(x)
            price = self.entropy * float(x.var())
            rates = np.array([-log2(s) * price if s > 0 else math.inf for s in share.tolist()])
            moved = means(x, w, index, centroids)
            order = np.argsort(moved, kind="stable")
            rates = rates[order]
            entries, centroids = self._rounded(moved[order], dtype, exponent, distinct=False)
        used = np.unique(index)
        renumber = np.zeros(len(entries), np.uint16)
        renumber[used] = np.arange(len(used), dtype=np.uint16)
        return entries[used], renumber[index]

    def _rounded(
        self, centroids: _Floats, dtype: int, exponent: int, distinct: bool = True
    ) -> tuple[NDArray[np.void], _Floats]:
        """Centroids times 2^exponent as elements, and what these are over 2^exponent.

        They ascend, and of equal ones there is one unless ``distinct`` says otherwise.
        """
        centroids = scaled(centroids, exponent)
        if self.values == "power_of_two":
            mantissa, octave = np.frexp(np.abs(centroids))
            octave = np.minimum(octave - np.where(mantissa >= 0.75, 0, 1), _LARGEST_POWER[dtype])
            power = np.ldexp(1.0, octave)
            centroids = np.where(centroids == 0, 0.0, np.sign(centroids) * power)
        raw = _elements(centroids, dtype)
        values = as_doubles(raw, dtype)
        element = BY_CODE[dtype].size
        entries = raw.view(f"V{element}")
        if distinct:
            keep = np.append(True, values[1:] != values[:-1])
            entries, values = entries[keep], values[keep]
        return entries, scaled(values, -exponent)

    def _vectors(
        self, x: _Floats, w: _Floats | None, dtype: int, threads: int
    ) -> tuple[NDArray[np.void], NDArray[np.uint16]]:
        assert self.entries is not None
        d = self.dimension
        exponent = safe_exponent(x, *_SAFE_OF_VECTORS)
        vectors = scaled(x, -exponent).astype(np.float32)
        weights = None if w is None else w.reshape(-1, d).mean(1).astype(np.float32)
        index = np.zeros(len(x) // d, np.uint16)
        book = vectors.reshape(-1, d).mean(0, dtype=np.float64).astype(np.float32)[None]
        while len(book) < self.entries:  # split the clusters of most error (Linde, Buzo, Gray 1980)
            more = min(len(book), self.entries - len(book))
            members = vectors.reshape(-1, d)
            spread = np.zeros((len(book), d))
            np.add.at(spread, index, (members - book[index]).astype(np.float64) ** 2)
            split = np.argsort(-spread.sum(1), kind="stable")[:more]
            count = np.maximum(np.bincount(index, minlength=len(book)), 1)
            step = np.sqrt(spread / count[:, None])[split] / 2
            sides = np.concatenate([book[split] + step, book[split] - step]).astype(np.float32)
            book = np.concatenate([np.delete(book, split, 0), sides])
            book = np.ascontiguousarray(book)
            kmeans_lloyd(vectors, d, weights, book, 5, index, threads)
        kmeans_lloyd(vectors, d, weights, book, _LLOYD_STEPS, index, threads)
        if self.values == "power_of_two":
            powers = self._rounded(book.ravel().astype(np.float64), dtype, exponent, distinct=False)[1]
            book = np.ascontiguousarray(powers.reshape(-1, d).astype(np.float32))
            kmeans_lloyd(vectors, d, weights, book.copy(), 0, index, threads)
        raw = _elements(scaled(book.ravel().astype(np.float64), exponent), dtype)
        used = np.unique(index)
        renumber = np.zeros(len(book), np.uint16)
        renumber[used] = np.arange(len(used), dtype=np.uint16)
        return raw.view(f"V{BY_CODE[dtype].size * d}")[used], renumber[index]

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record. Raises DecodeError when the model is bad."""
        return codebook_decoder(dtype, shapes, chunk_elements, model)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """Entries of the codebook, and weights per entry."""
        entries = shift = 0
        for byte in model[2:5]:
            entries |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return {"entries": entries, "dimension": model[0]}


def _whole(name: str, value: int | None) -> int | None:
    """An option that is a whole number, or None. Raises TypeError."""
    if value is None:
        return None
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


def _distinct(
    data: NDArray[np.uint8], width: int, most: int
) -> tuple[NDArray[np.void], NDArray[np.uint16]] | None:
    """Distinct entries and indices, if there are at most ``most``; above 128, the most frequent come first."""
    keys = data.view(f"<u{width}" if width <= 8 else f"V{width}")
    if len(np.unique(keys[: 4 * most])) > most:  # most tensors show at once that they are not clustered
        return None
    entries, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
    index = inverse.astype(np.uint16).reshape(-1)
    if len(entries) > most:
        return None
    if len(entries) > 128:
        order = np.argsort(-count, kind="stable")
        rank = np.empty(len(order), np.uint16)
        rank[order] = np.arange(len(order), dtype=np.uint16)
        entries, index = entries[order], rank[index]
    return np.ascontiguousarray(entries).view(np.uint8).view(f"V{width}"), index


def _cheapest(x: _Floats, centroids: _Floats, rates: _Floats, threads: int) -> NDArray[np.uint16]:
    """Index of the ascending centroid where (x - c)^2 + rate is least."""
    index = np.empty(len(x), np.uint16)
    if not rates.any():
        single = centroids.astype(np.float32)
        if (single == centroids).all() and (x.astype(np.float32) == x).all():
            kmeans_assign(x.astype(np.float32), single, index, threads)
            return index
        return np.searchsorted((centroids[:-1] + centroids[1:]) / 2, x).astype(np.uint16)
    thresholds, kept = cells(centroids.tolist(), rates.tolist())
    return np.array(kept, np.uint16)[np.searchsorted(thresholds, x)]


def as_doubles(data: NDArray[Any], dtype: int) -> _Floats:
    """Raw bytes of elements of a quantisable type as float64."""
    raw = np.ascontiguousarray(data).view(np.uint8)
    if dtype == 4:  # bfloat16: the upper half of a float32
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return raw.view({1: "<f8", 2: "<f4", 3: "<f2"}[dtype]).astype(np.float64)


def _elements(values: _Floats, dtype: int) -> NDArray[np.uint8]:
    """Raw bytes of the nearest elements; never infinite."""
    if dtype == 4:
        single = np.clip(values, -3.3895313892515355e38, 3.3895313892515355e38).astype(np.float32)
        bits = single.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").view(np.uint8)
    kind = np.dtype({1: "<f8", 2: "<f4", 3: "<f2"}[dtype])
    most = float(np.finfo(kind).max)
    return np.clip(values, -most, most).astype(kind).view(np.uint8)
