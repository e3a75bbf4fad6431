"""A codec for neural-network weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nncodec._core import __version__ as __version__
from nncodec.api import decode, encode, iter_file, load_file, open, recover, save_file
from nncodec.errors import DecodeError, LimitError, NNCodecError, VersionError
from nncodec.reader import File, TensorInfo

if TYPE_CHECKING:
    from nncodec import codecs as codecs
    from nncodec import distributed as distributed
    from nncodec import information as information
    from nncodec import report as report
    from nncodec import train as train
    from nncodec.calibration import Calibration, calibrate
    from nncodec.norms import calibrate_without_data
    from nncodec.streaming import Recovered
    from nncodec.synthetic import synthetic_batches
    from nncodec.writer import Writer
else:
    # Imported when first asked for: opening and decoding files needs none of them.
    _ON_DEMAND = {
        "Calibration": "calibration",
        "Recovered": "streaming",
        "Writer": "writer",
        "calibrate": "calibration",
        "calibrate_without_data": "norms",
        "synthetic_batches": "synthetic",
    }

    _SUBMODULES = ("codecs", "distributed", "information", "report", "train")

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in _SUBMODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
        globals()[name] = value
        return value


__all__ = [
    "Calibration",
    "DecodeError",
    "File",
    "LimitError",
    "NNCodecError",
    "Recovered",
    "TensorInfo",
    "VersionError",
    "Writer",
    "__version__",
    "calibrate",
    "calibrate_without_data",
    "decode",
    "encode",
    "iter_file",
    "load_file",
    "open",
    "recover",
    "save_file",
    "synthetic_batches",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
