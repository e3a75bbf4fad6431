"""Codec 2: uniform scalar quantiser, row x column scale classes, static rANS.

Each weight is rounded to a multiple of the step, with two refinements: of the two nearest levels the one that costs
least (squared error and bits together) is taken, and a level is reconstructed at the centroid of what was rounded to
it. Scales of rows and columns give each weight a class with an entropy table of its own. See docs/codecs/uniform.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from nncodec._core import (
    ChunkDecoder,
    ColumnStudy,
    UniformPlan,
    uniform_decoder,
    uniform_encode,
    uniform_plans,
    uniform_study,
)
from nncodec.codecs.base import Encoded, LossyCodec, Part, Setting, Trial, in_windows

__all__ = ["Uniform"]

_QUANTISABLE = {1: 8, 2: 4, 3: 2, 4: 2}  # element type code: bytes
# Plans of a trial are kept if all parts together have so many elements and there are so many at most: a plan holds
# tables, perhaps a basis, and once it has coded an encoder, about a megabyte.
_MOST_ELEMENTS_KEPT, _MOST_KEPT = 1 << 22, 128


@dataclass(frozen=True)
class Uniform(LossyCodec):
    """Uniform scalar quantisation of float64, float32, float16 and bfloat16 tensors.

    Parameters
    ----------
    reconstruction : {"centroid", "midpoint"}
        Where a level lies: at the mean of what was quantised to it (small levels, per entropy table), or at
        ``step * level``. Centroids give about 0.05 dB at 2.7 bits per weight, more at fewer.
    strength : float
        How much the choice of a level weighs its bits: 1 is the slope of error over rate at high rate, 0 rounds to
        the nearest.
    classes : {"auto", "none"}
        Scales of rows and columns where they save more than they cost, or one table per record.
    transform : {"auto", "none", "klt"}
        Before quantisation, a Karhunen-Loeve transform over the columns of a matrix (2 to 1024 columns, at least as
        many rows): where it saves more than its basis costs, nowhere, or wherever it is possible. Smaller, slower to
        decode. Tensors with unequal ``importance`` are not transformed.

    Notes
    -----
    NaN or infinite elements, and a step below 2**-29 of the largest magnitude, raise ValueError naming the tensor.
    """

    reconstruction: Literal["centroid", "midpoint"] = "centroid"
    strength: float = 0.8
    classes: Literal["auto", "none"] = "auto"
    transform: Literal["auto", "none", "klt"] = "auto"

    name: ClassVar[str] = "uniform"
    id: ClassVar[int] = 2
    version: ClassVar[int] = 1
    lasting_study: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.reconstruction not in ("centroid", "midpoint"):
            raise ValueError(f"reconstruction must be 'centroid' or 'midpoint', got {self.reconstruction!r}")
        if self.classes not in ("auto", "none"):
            raise ValueError(f"classes must be 'auto' or 'none', got {self.classes!r}")
        if self.transform not in ("auto", "none", "klt"):
            raise ValueError(f"transform must be 'auto', 'none' or 'klt', got {self.transform!r}")
        if not 0 <= self.strength <= 4 or not math.isfinite(self.strength):
            raise ValueError(f"strength must be 0 to 4, got {self.strength!r}")

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """float64, float32, float16 and bfloat16 of any shape."""
        return dtype in _QUANTISABLE

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts, each at its setting's step. The bytes do not depend on ``threads``."""
        if settings is None:
            raise ValueError("codec 'uniform' needs a setting per part")
        plans = self._plans(parts, settings, threads)
        if len(parts) == 1:
            return [self._lazily(plans[0], parts[0], threads)]
        chunks = uniform_encode(plans, 0, max((plan.chunks for plan in plans), default=0), threads)
        return [Encoded(plan.chunk_elements, plan.model, of) for plan, of in zip(plans, chunks, strict=True)]

    def study(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Any]:
        """What transforms of the columns need, to be found with the first trial, and the plan of the last one."""
        return [_Study(uniform_study(part.dtype, part.shapes)) for part in parts]

    def trial(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """Size and error at these settings: statistics of every weight, but no payload."""
        plans = self._plans(parts, settings, threads)
        elements = sum(math.prod(shape) for part in parts for shape in part.shapes)
        if len(parts) <= _MOST_KEPT and elements <= _MOST_ELEMENTS_KEPT:
            for plan, setting in zip(plans, settings, strict=True):
                if setting.study is not None:
                    setting.study.last = (self, setting.step, setting.importance, plan)
        return [Trial(plan.bits, plan.squared_error) for plan in plans]

    def _plans(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[UniformPlan]:
        plans = [None if s.study is None else s.study.plan_of(self, s) for s in settings]
        missing = [i for i, plan in enumerate(plans) if plan is None]
        made = uniform_plans(
            [
                (p.dtype, p.shapes, p.data, ", ".join(map(repr, p.names)) or "a tensor")
                for p in (parts[i] for i in missing)
            ],
            [
                (s.step, s.importance, None if s.study is None else s.study.columns)
                for s in (settings[i] for i in missing)
            ],
            self.reconstruction == "centroid",
            self.strength,
            self.classes == "auto",
            self.transform,
            threads,
        )
        found = dict(zip(missing, made, strict=True))
        return [found[i] if plan is None else plan for i, plan in enumerate(plans)]

    @staticmethod
    def _lazily(plan: UniformPlan, part: Part, threads: int) -> Encoded:
        chunk_bytes = plan.chunk_elements * _QUANTISABLE[part.dtype]
        chunks = in_windows(
            plan.chunks,
            chunk_bytes,
            threads,
            lambda first, end: uniform_encode([plan], first, end, threads)[0],
        )
        return Encoded(plan.chunk_elements, plan.model, chunks)

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record. Raises DecodeError when the model is bad."""
        return uniform_decoder(dtype, shapes, chunk_elements, model)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """The quantiser step, and the column transform where there is one."""
        step = int.from_bytes(model[:4], "little") << 32
        facts: dict[str, Any] = {"step": _as_double(step)}
        if len(model) > 5 and model[5] == 1:
            facts["transform"] = "klt"
        return facts


@dataclass
class _Study:
    """What trials of one part leave to later ones."""

    columns: ColumnStudy | None
    # Of the last trial: codec, step, importance, and what was made of them.
    last: tuple[Uniform, float, NDArray[np.float32] | None, UniformPlan] | None = None

    def plan_of(self, codec: Uniform, setting: Setting) -> UniformPlan | None:
        """That plan, if it is of this codec and setting."""
        if self.last is None:
            return None
        of, step, importance, plan = self.last
        return plan if of == codec and step == setting.step and importance is setting.importance else None


def _as_double(bits: int) -> float:
    exponent, mantissa = bits >> 52 & 0x7FF, bits & ((1 << 52) - 1)
    return math.ldexp(1 + mantissa / 2**52, exponent - 1023)
