"""Indexing a tensor in a file without decoding all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nncodec.dtypes import BY_NAME

if TYPE_CHECKING:
    from nncodec.reader import File

__all__ = ["TensorSlice"]


class TensorSlice:
    """What :meth:`File.get_slice` gives; indexed as the tensor would be, ``slice[a:b, ...]``."""

    def __init__(self, file: File, name: str) -> None:
        self._file = file
        self._name = name
        self._shape, self._dtype = file.shape_and_type(name)

    def get_shape(self) -> list[int]:
        """Shape of the whole tensor."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """Element type as safetensors names it (``"F32"``), or as torch does where safetensors has no name."""
        return BY_NAME[self._dtype].safetensors or self._dtype

    def __getitem__(self, index: Any) -> Any:
        """A tensor of its own memory. Only ranges of the first dimension save work; the rest is indexed after
        decoding.
        """
        first, *rest = index if isinstance(index, tuple) and index else (index,)
        bounds = _range(first, self._shape)
        if bounds is not None:
            rows = self._file.rows(self._name, *bounds)
            if rows is not None:
                inner = slice(None) if isinstance(first, slice) else 0
                within = (inner, *rest)
                return _own(rows[within])
        return _own(self._file.get_tensor(self._name)[index])


def _range(index: Any, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The rows that an index of the first dimension asks for, if they are a run of at least one."""
    if not shape or isinstance(index, bool):
        return None
    if isinstance(index, int):
        place = index + shape[0] if index < 0 else index
        return (place, place + 1) if 0 <= place < shape[0] else None
    if isinstance(index, slice):
        start, stop, step = index.indices(shape[0])
        return (start, stop) if step == 1 and start < stop else None
    return None


def _own(value: Any) -> Any:
    """The same values without the rest of the memory they were decoded into."""
    return value.clone() if hasattr(value, "clone") else value.copy()
