"""Codec 6: transform coding of weights, clustering of vectors.

After Laude, Richter, Ostermann: "Neural Network Compression Using Transform Coding and Clustering" (2018): cosine
transform of each kernel, one step for all coefficients of a tensor, k-means for biases and normalisation parameters,
bzip2. And our variant, steered by a budget: cosine, Hadamard or no transform for each tensor, by coded size, one slope
of error over rate for all tensors, scale classes and rANS. See docs/codecs/transform.md.
"""

from __future__ import annotations

import bz2
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nncodec._core import (
    ChunkDecoder,
    RansEncoder,
    TransformPlan,
    dct_forward,
    dct_inverse,
    rans_fit_tables,
    rans_lanes_for,
    rans_write_tables,
    transform_decoder,
)
from nncodec.codecs.base import Encoded, LossyCodec, Part, Setting, Trial, in_windows
from nncodec.codecs.codebook import Codebook, as_doubles
from nncodec.dtypes import BY_CODE
from nncodec.elementary import log2

__all__ = ["Transform"]

_QUANTISABLE = frozenset((1, 2, 3, 4))
_CHUNK_ELEMENTS = 1 << 18
_STEERED, _FIXED, _CLUSTERED, _RAW = range(4)
_IDENTITY, _COSINE, _HADAMARD = range(3)
_BZIP2 = 255
_LARGEST_SIDE, _LARGEST_AREA = 64, 256
_Block = tuple[int, int, int]  # kind of transform, height, width


@dataclass(frozen=True)
class Transform(LossyCodec):
    """Transform coding of float64, float32, float16 and bfloat16 tensors.

    Without ``bits`` a budget of the call says the size, and biases and norms are lossless unless named. With ``bits``
    it is the form of the paper: the options say the size, and vectors are clustered.

    Parameters
    ----------
    bits : int, optional
        2 to 8 bits per coefficient: the largest of a tensor gets the level 2^(bits - 1) - 1.
    transform : {"auto", "dct", "hadamard", "none"}
        "auto" takes for each tensor what codes to fewest bits; with ``bits`` it is the cosine transform.
    block : int
        Length of the runs along the rows of matrices and 1x1 convolutions that are transformed, 2 to 64; a row that is
        no multiple of it is not transformed, and 0 transforms none. Blocks of other convolutions are their kernels.
    clusters : int
        With ``bits``: entries of a vector's codebook; a vector of fewer than four times as many elements is stored as
        it is.
    entropy : {"rans", "bzip2"}
        With ``bits``: what codes the levels.
    """

    bits: int | None = None
    transform: Literal["auto", "dct", "hadamard", "none"] = "auto"
    block: int = 8
    clusters: int = 16
    entropy: Literal["rans", "bzip2"] = "rans"

    name: ClassVar[str] = "transform"
    id: ClassVar[int] = 6
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.bits is not None and not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be 2 to 8, got {self.bits!r}")
        if self.transform not in ("auto", "dct", "hadamard", "none"):
            raise ValueError(f"transform must be 'auto', 'dct', 'hadamard' or 'none', got {self.transform!r}")
        if self.block != 0 and not 2 <= self.block <= _LARGEST_SIDE:
            raise ValueError(f"block must be 0 or 2 to {_LARGEST_SIDE}, got {self.block!r}")
        if not 1 <= self.clusters <= 65536:
            raise ValueError(f"clusters must be 1 to 65536, got {self.clusters!r}")
        if self.entropy not in ("rans", "bzip2"):
            raise ValueError(f"entropy must be 'rans' or 'bzip2', got {self.entropy!r}")
        if self.bits is not None and self.transform == "hadamard":
            raise ValueError("with bits the transform is 'dct' or 'none'")
        if self.bits is None and self.entropy == "bzip2":
            raise ValueError("entropy 'bzip2' goes with bits")
        object.__setattr__(self, "budgeted", self.bits is None)  # the options say the size, or a budget does

    def wants(self, shape: tuple[int, ...]) -> bool:
        """Weights; with ``bits``, biases and norms too."""
        return self.bits is not None or len(shape) > 1

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """float64, float32, float16 and bfloat16 of any shape."""
        return dtype in _QUANTISABLE

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts of one tensor each. The bytes do not depend on ``threads``."""
        if self.bits is not None:
            weights = [None] * len(parts) if settings is None else [s.importance for s in settings]
            return [self._fixed(part, w, threads) for part, w in zip(parts, weights, strict=True)]
        if settings is None:
            raise ValueError("codec 'transform' needs a setting per part")
        encoded = []
        for part, plan in zip(parts, self._plans(parts, settings, threads), strict=True):
            size = plan.chunk_elements * BY_CODE[part.dtype].size

            def chunks(first: int, end: int, plan: TransformPlan = plan) -> list[bytes]:
                return plan.encode(first, end, threads)

            encoded.append(
                Encoded(plan.chunk_elements, plan.model, in_windows(plan.chunks, size, threads, chunks))
            )
        return encoded

    def trial(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """Size and weighted squared error."""
        if self.bits is None:
            return [Trial(p.bits, p.squared_error) for p in self._plans(parts, settings, threads)]
        trials = []
        for part, setting in zip(parts, settings, strict=True):
            encoded = self._fixed(part, setting.importance, threads)
            bits = 8 * (len(encoded.model) + sum(map(len, encoded.chunks)))
            trials.append(Trial(float(bits), self._error(part, setting.importance)))
        return trials

    # --- steered by a budget

    def _plans(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[TransformPlan]:
        plans = []
        for part, setting in zip(parts, settings, strict=True):
            shape, label = self._tensor(part)
            choices = self._choices(shape)
            plans.append(
                TransformPlan(
                    (part.dtype, shape, part.data, label),
                    (setting.step, setting.importance),
                    choices,
                    threads,
                )
            )
        return plans

    def _choices(self, shape: tuple[int, ...]) -> list[_Block]:
        height, width = self._sides(shape)
        plain, cosine = (_IDENTITY, 1, 1), (_COSINE, height, width)
        hadamard = (_HADAMARD, 1, width) if height == 1 and width & (width - 1) == 0 else plain
        if height * width == 1 or self.transform == "none":
            return [plain]
        if self.transform == "dct":
            return [cosine]
        if self.transform == "hadamard":
            return [hadamard]
        return [plain, cosine] + ([hadamard] if hadamard != plain else [])

    def _sides(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Sides of the blocks: of kernels, or runs along rows; (1, 1) where there is nothing to transform."""
        if len(shape) < 2 or 0 in shape:
            return 1, 1
        kernel = [size for size in shape[2:] if size > 1]
        if kernel:
            height, width = (1, *kernel)[-2:]
            if len(kernel) > 2 or max(kernel) > _LARGEST_SIDE or height * width > _LARGEST_AREA:
                return 1, 1
            return height, width
        if self.block == 0 or math.prod(shape[1:]) % self.block:
            return 1, 1
        return 1, self.block

    @staticmethod
    def _tensor(part: Part) -> tuple[tuple[int, ...], str]:
        (shape,) = part.shapes
        return shape, ", ".join(map(repr, part.names)) or "a tensor"

    # --- the form of the paper

    def _fixed(self, part: Part, importance: NDArray[np.float32] | None, threads: int) -> Encoded:
        shape, label = self._tensor(part)
        if len(shape) < 2:
            return self._clustered(part, importance, threads)
        kind, height, width = self._block(shape)
        area = height * width
        levels, step = self._levels(part, label, kind, height, width)
        chunk_elements = max(_CHUNK_ELEMENTS // area, 1) * area
        pieces = []
        for first in range(0, len(levels), chunk_elements):
            piece = levels[first : first + chunk_elements].reshape(-1, area)
            pieces.append(np.ascontiguousarray((piece.T + 128).astype(np.uint8)).reshape(-1))
        model = bytes((_FIXED, kind, height, width)) + np.float32(step).tobytes()
        if self.entropy == "bzip2":
            return Encoded(
                chunk_elements, model + bytes((_BZIP2,)), [bz2.compress(p.tobytes()) for p in pieces]
            )
        counts = np.bincount(np.concatenate(pieces), minlength=256) if pieces else np.ones(256, np.int64)
        tables = rans_fit_tables([counts.tolist()])
        share = counts[counts > 0] / counts.sum()
        bits = float(counts.sum() * -(share * np.array([log2(s) for s in share.tolist()])).sum())
        lanes = rans_lanes_for(int(bits / 8 / max(len(pieces), 1)))
        coder = RansEncoder(tables)
        model += bytes((lanes.bit_length() - 1,)) + rans_write_tables(tables)
        return Encoded(chunk_elements, model, [coder.encode(p, lanes) for p in pieces])

    def _block(self, shape: tuple[int, ...]) -> _Block:
        height, width = self._sides(shape)
        if self.transform == "none" or height * width == 1:
            return _IDENTITY, 1, 1
        return _COSINE, height, width

    def _levels(
        self, part: Part, label: str, kind: int, height: int, width: int
    ) -> tuple[NDArray[np.int16], np.float32]:
        """Levels of the coefficients in the tensor's order, and the step. Coefficients are binary32 numbers."""
        assert self.bits is not None
        numbers = as_doubles(part.data, part.dtype)
        if not np.isfinite(numbers).all():
            raise ValueError(f"{label} has NaN or infinite elements: codec 'lossless' can take it")
        with np.errstate(over="ignore"):
            coefficients = numbers.astype(np.float32)
        if kind == _COSINE and np.isfinite(coefficients).all():
            dct_forward(coefficients, height, width, coefficients)
        largest = np.abs(coefficients).max(initial=np.float32(0))
        if not np.isfinite(largest):
            raise ValueError(
                f"{label} is too large for codec 'transform', whose coefficients are float32: "
                "codec 'lossless' can take it"
            )
        most = (1 << (self.bits - 1)) - 1
        step = np.float32(largest / np.float32(most))
        if not step > 0:
            return np.zeros(len(coefficients), np.int16), np.float32(0)
        levels = np.rint(coefficients.astype(np.float64) / float(step))
        return np.clip(levels, -most, most).astype(np.int16), step

    def _clustered(self, part: Part, importance: NDArray[np.float32] | None, threads: int) -> Encoded:
        elements = len(part.data) // BY_CODE[part.dtype].size
        if elements < 4 * self.clusters:
            chunks = [part.data.tobytes()] if elements else []
            return Encoded(_CHUNK_ELEMENTS, bytes((_RAW,)), chunks)
        codec = Codebook(size=self.clusters)
        (inner,) = codec.encode([part], [Setting(1.0, importance)], threads)
        return Encoded(inner.chunk_elements, bytes((_CLUSTERED,)) + inner.model, inner.chunks)

    def _error(self, part: Part, importance: NDArray[np.float32] | None) -> float:
        shape, label = self._tensor(part)
        if len(shape) < 2:
            elements = len(part.data) // BY_CODE[part.dtype].size
            if elements < 4 * self.clusters:
                return 0.0
            return Codebook(size=self.clusters).trial([part], [Setting(1.0, importance)], 1)[0].squared_error
        kind, height, width = self._block(shape)
        levels, step = self._levels(part, label, kind, height, width)
        values = levels.astype(np.float32) * step
        if kind == _COSINE:
            dct_inverse(values, height, width, values)
        square = (as_doubles(part.data, part.dtype) - values) ** 2
        return float((square if importance is None else square * importance).sum())

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record. Raises DecodeError when the model is bad."""
        return transform_decoder(dtype, shapes, chunk_elements, model)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """Form, transform and block."""
        form = model[0] if model else _RAW
        facts: dict[str, Any] = {"form": ("steered", "fixed", "clustered", "raw")[min(form, _RAW)]}
        if form in (_STEERED, _FIXED) and len(model) > 3:
            facts["transform"] = ("none", "dct", "hadamard")[min(model[1], 2)]
            if model[1]:
                facts["block"] = f"{model[2]}x{model[3]}"
        return facts
