"""A codec for neural-network weights."""

from nncodec._core import __version__ as __version__
from nncodec.errors import DecodeError, LimitError, NNCodecError, VersionError

__all__ = ["DecodeError", "LimitError", "NNCodecError", "VersionError", "__version__"]
