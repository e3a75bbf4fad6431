"""A codec for neural-network weights."""

from nncodec._core import __version__ as __version__
from nncodec.api import decode, encode, iter_file, load_file, open, recover, save_file
from nncodec.calibration import Calibration, calibrate
from nncodec.errors import DecodeError, LimitError, NNCodecError, VersionError
from nncodec.norms import calibrate_without_data
from nncodec.reader import File, TensorInfo
from nncodec.streaming import Recovered
from nncodec.writer import Writer

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
]
