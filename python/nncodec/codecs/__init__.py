"""The codecs. Each lives in a module of its own, imported when its class is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nncodec.codecs.base import Codec, LossyCodec
from nncodec.codecs.registry import CLASSES, CODECS

if TYPE_CHECKING:
    from nncodec.codecs.codebook import Codebook
    from nncodec.codecs.lossless import Lossless
    from nncodec.codecs.lowrank import LowRank
    from nncodec.codecs.stored import Stored
    from nncodec.codecs.ternary import Ternary
    from nncodec.codecs.transform import Transform
    from nncodec.codecs.trellis import Trellis
    from nncodec.codecs.uniform import Uniform
    from nncodec.codecs.universal import Universal
    from nncodec.codecs.weightless import Weightless
else:

    def __getattr__(name: str) -> Any:
        if name not in CLASSES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return CODECS[CLASSES[name]]


__all__ = [
    "CODECS",
    "Codebook",
    "Codec",
    "Lossless",
    "LossyCodec",
    "LowRank",
    "Stored",
    "Ternary",
    "Transform",
    "Trellis",
    "Uniform",
    "Universal",
    "Weightless",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
