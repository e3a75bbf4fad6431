"""The codecs. Each lives in a module of its own; importing this package registers them all."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from nncodec.codecs.base import CODECS, Codec, LossyCodec

__all__ = ["CODECS", "Codec", "LossyCodec"]

# A new codec is a new module in this folder, and nothing else: its class is registered and public by being
# here.
for _module in iter_modules(__path__):
    if _module.name != "base":
        import_module(f"{__name__}.{_module.name}")
for _codec in CODECS.values():
    globals()[_codec.__name__] = _codec
    __all__ += [_codec.__name__]
