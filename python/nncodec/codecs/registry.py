"""Which codecs there are. Each module is imported when its codec is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nncodec.codecs.base import Codec

__all__ = ["CLASSES", "CODECS", "Registry", "codec_by_id"]

# Name, which is also that of the module in this folder; id; options class. Ids are those of docs/format.md.
_ROWS = (
    ("stored", 0, "Stored"),
    ("lossless", 1, "Lossless"),
    ("uniform", 2, "Uniform"),
    ("trellis", 3, "Trellis"),
    ("universal", 4, "Universal"),
    ("codebook", 5, "Codebook"),
    ("transform", 6, "Transform"),
    ("weightless", 7, "Weightless"),
    ("ternary", 8, "Ternary"),
    ("lowrank", 9, "LowRank"),
)
_CLASS_OF_NAME = {name: class_name for name, _, class_name in _ROWS}
_NAME_OF_ID = {codec_id: name for name, codec_id, _ in _ROWS}
CLASSES = {class_name: name for name, _, class_name in _ROWS}


class Registry(Mapping[str, "type[Codec]"]):
    """Codecs by name. Names are known from the start, classes are imported on demand."""

    def __getitem__(self, name: str) -> type[Codec]:
        return _load(name)

    def __contains__(self, name: object) -> bool:
        return name in _CLASS_OF_NAME

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASS_OF_NAME)

    def __len__(self) -> int:
        return len(_CLASS_OF_NAME)


@cache
def _load(name: str) -> type[Codec]:
    class_name = _CLASS_OF_NAME[name]
    codec: type[Codec] = getattr(import_module(f"nncodec.codecs.{name}"), class_name)
    return codec


CODECS = Registry()


def codec_by_id(codec_id: int) -> type[Codec] | None:
    """The codec with this id, or None."""
    name = _NAME_OF_ID.get(codec_id)
    return None if name is None else CODECS[name]
