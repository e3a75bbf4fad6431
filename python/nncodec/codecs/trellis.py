"""Codec 3: trellis quantiser, class per weight, static tables per class and union, vectorised rANS.

A path through a trellis of up to 1024 states is chosen so that squared error and bits together are least; a transform
over the columns of a matrix or the kernels of a convolution comes first where it pays. Small tensors of one element
type share a record, so that tables, basis and headers are paid for once. See docs/codecs/trellis.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from nncodec._core import (
    ChunkDecoder,
    TrellisPlan,
    TrellisStudy,
    trellis_decoder,
    trellis_encode,
    trellis_plans,
    trellis_studies,
    trellis_trials,
)
from nncodec.codecs.base import Encoded, LossyCodec, Part, Setting, Trial, in_windows
from nncodec.feedback import FeedbackStudy, on_threads

__all__ = ["Trellis"]

_QUANTISABLE = {1: 8, 2: 4, 3: 2, 4: 2}  # element type code: bytes
_STATES = (8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Trellis(LossyCodec):
    """Trellis-coded quantisation of float64, float32, float16 and bfloat16 tensors.

    Parameters
    ----------
    states : {8, 16, 32, 64, 128, 256, 512, 1024}
        Of the trellis: more are nearer to R(D) (0.07 bits per weight above it with 8, 0.03 with 256) and take longer
        to encode, each doubling about twice as long. Decoding is equally fast with all.
    alphabet : {"auto", "plain", "both_zero"}
        Whether both quantisers of the trellis have a zero, which serves sparse and peaked tensors: where it costs less,
        never, or always.
    transform : {"auto", "none"}
        Before quantisation, a Karhunen-Loeve transform over the columns of a matrix, or over the kernels of
        convolutions, or a cosine transform of those: where it saves more than it costs, or nowhere. Tensors whose
        ``importance`` varies along a row are not transformed.
    layouts : {"auto", "stored"}
        Kernels of convolutions whose channels come last, or whose places come first, are coded in torch's order
        (output, input, places) where that saves something, or none. Readers that know payload version 1 only refuse
        files with such kernels.
    classes : {"auto", "none"}
        Scales of rows, columns and places in a kernel where they save more than they cost, or none.
    reconstruction : {"centroid", "midpoint"}
        Where a level lies: at the mean of what was quantised to it (small levels, per class), or on the grid.
    nonfinite : {"error", "lossless"}
        What to do with a tensor that has NaN or infinite elements: raise ValueError, or store it exactly.

    Notes
    -----
    With ``importance``, steps of rows and columns follow it as far as a product of a factor per row and one per column
    can. Values are reconstructed in float32 arithmetic. A step below 2**-15 of the largest magnitude raises
    ValueError naming the tensor.

    Sources: Marcellin and Fischer, IEEE Trans. Commun. 38(1), 1990; Fischer and Wang, IEEE Trans. Inf. Theory 38(2),
    1992.
    """

    states: int = 256
    alphabet: Literal["auto", "plain", "both_zero"] = "auto"
    transform: Literal["auto", "none"] = "auto"
    layouts: Literal["auto", "stored"] = "auto"
    classes: Literal["auto", "none"] = "auto"
    reconstruction: Literal["centroid", "midpoint"] = "centroid"
    nonfinite: Literal["error", "lossless"] = "error"

    name: ClassVar[str] = "trellis"
    id: ClassVar[int] = 3
    version: ClassVar[int] = 2
    shared_tensor_elements: ClassVar[int] = 1 << 17
    shared_record_elements: ClassVar[int] = 1 << 19
    error_of_step: ClassVar[float] = 0.26
    feedback: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]] = (0.85, 1.15, 0.75, 1.3)

    def __post_init__(self) -> None:
        for name, known in (
            ("states", _STATES),
            ("alphabet", ("auto", "plain", "both_zero")),
            ("transform", ("auto", "none")),
            ("layouts", ("auto", "stored")),
            ("classes", ("auto", "none")),
            ("reconstruction", ("centroid", "midpoint")),
            ("nonfinite", ("error", "lossless")),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """float64, float32, float16 and bfloat16 of any shape."""
        return dtype in _QUANTISABLE

    @property
    def finest_step(self) -> float:
        """A little above 1 / 32752, the least that levels can span."""
        return 1 / 30000

    @property
    def least_step(self) -> float:
        """The format's is 2^-80; at low rates grids are finer than asked."""
        return 2.0**-78

    def variants(self) -> tuple[LossyCodec, ...]:
        """Each alphabet alone: where the cheaper one changes, sizes leap."""
        if self.alphabet != "auto":
            return ()
        return replace(self, alphabet="plain"), replace(self, alphabet="both_zero")

    def study(
        self, parts: Sequence[Part], settings: Sequence[Setting], threads: int
    ) -> list[_Study | FeedbackStudy]:
        """What is decided about each part before its step; the settings' steps should be near the final ones."""
        plain = [i for i, setting in enumerate(settings) if setting.sides is None]
        made = trellis_studies(
            [(p.dtype, p.shapes, p.data, _names(p)) for p in (parts[i] for i in plain)],
            [(settings[i].step, settings[i].importance, settings[i].strength) for i in plain],
            self.states,
            self.alphabet,
            self.transform == "auto",
            self.layouts == "auto",
            self.classes == "auto",
            self.reconstruction == "centroid",
            threads,
        )
        found: dict[int, _Study | FeedbackStudy] = {i: _Study(s) for i, s in zip(plain, made, strict=True)}
        for i, setting in enumerate(settings):
            if setting.sides is not None:
                found[i] = FeedbackStudy(parts[i], setting.sides, self.states, self.alphabet)
        return [found[i] for i in range(len(parts))]

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts, each at its setting's step. The bytes do not depend on ``threads``."""
        if settings is None:
            raise ValueError("codec 'trellis' needs a setting per part")
        plans = self._plans(self._studies(parts, settings, threads), [s.step for s in settings], threads)
        if len(parts) == 1:
            return [self._lazily(plans[0], parts[0], threads)]
        chunks = trellis_encode(plans, 0, max((plan.chunks for plan in plans), default=0), threads)
        return [
            Encoded(plan.chunk_elements, plan.model, of, plan.version)
            for plan, of in zip(plans, chunks, strict=True)
        ]

    def trial(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """Size and error at these settings, from a sample of 2**18 weights of larger parts."""
        studies = self._studies(parts, settings, threads)
        steps = [setting.step for setting in settings]
        plain = {i: study.of for i, study in enumerate(studies) if isinstance(study, _Study)}
        made = trellis_trials(list(plain.values()), [steps[i] for i in plain], threads)
        found = {i: Trial(*trial) for i, trial in zip(plain, made, strict=True)}
        found |= on_threads(
            threads, {i: (s, steps[i]) for i, s in enumerate(studies) if isinstance(s, FeedbackStudy)}
        )
        return [found[i] for i in range(len(parts))]

    def measured(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """Size and error at these settings. Plans are kept in the settings' studies until another takes the place."""
        studies = self._studies(parts, settings, threads)
        steps = [setting.step for setting in settings]
        found: list[Trial] = []
        for study, step, plan in zip(studies, steps, self._plans(studies, steps, threads), strict=True):
            if isinstance(study, FeedbackStudy):
                found.append(study.trial(step, threads))  # as planned
            else:
                study.planned = (step, plan)
                found.append(Trial(plan.bits, plan.squared_error))
        return found

    @staticmethod
    def _plans(
        studies: Sequence[_Study | FeedbackStudy], steps: Sequence[float], threads: int
    ) -> list[TrellisPlan]:
        found: dict[int, TrellisPlan] = {}
        missing: dict[int, TrellisStudy] = {}
        fed_back: dict[int, FeedbackStudy] = {}
        for i, study in enumerate(studies):
            if isinstance(study, FeedbackStudy):
                fed_back[i] = study
            elif study.planned is not None and study.planned[0] == steps[i]:
                found[i] = study.planned[1]
            else:
                missing[i] = study.of
        made = trellis_plans(list(missing.values()), [steps[i] for i in missing], threads)
        found |= zip(missing, made, strict=True)
        on_threads(threads, {i: (study, steps[i]) for i, study in fed_back.items()})
        found |= {i: study.plan(steps[i], threads) for i, study in fed_back.items()}
        return [found[i] for i in range(len(studies))]

    def _studies(
        self, parts: Sequence[Part], settings: Sequence[Setting], threads: int
    ) -> list[_Study | FeedbackStudy]:
        studies = [setting.study for setting in settings]
        missing = [i for i, study in enumerate(studies) if study is None]
        made = self.study([parts[i] for i in missing], [settings[i] for i in missing], threads)
        for i, study in zip(missing, made, strict=True):
            studies[i] = study
        return studies

    @staticmethod
    def _lazily(plan: TrellisPlan, part: Part, threads: int) -> Encoded:
        chunk_bytes = plan.chunk_elements * _QUANTISABLE[part.dtype]
        chunks = in_windows(
            plan.chunks,
            chunk_bytes,
            threads,
            lambda first, end: trellis_encode([plan], first, end, threads)[0],
        )
        return Encoded(plan.chunk_elements, plan.model, chunks, plan.version)

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record. Raises DecodeError when the model is bad."""
        return trellis_decoder(dtype, shapes, chunk_elements, model, version)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """Step, states, alphabet and transform of the record."""
        if len(model) < 7:
            return {}
        facts: dict[str, Any] = {"step": _float32(model[:4]), "states": 8 << (model[4] & 7)}
        if model[4] >> 3 & 1:
            facts["alphabet"] = "both_zero"
        transform = {1: "klt", 3: "kernel klt", 5: "klt", 7: "kernel klt"}.get(model[6])
        if transform is not None:
            facts["transform"] = transform
        if version > 1:
            facts["layouts"] = True
        return facts


@dataclass
class _Study:
    """What was decided about one part, and the plan that was made last where it is kept."""

    of: TrellisStudy
    planned: tuple[float, TrellisPlan] | None = None  # at this step


def _names(part: Part) -> str:
    return ", ".join(map(repr, part.names)) or "a tensor"


def _float32(data: bytes) -> float:
    return float(memoryview(data).cast("f")[0])
