"""The element types of the bitstream, and their names in numpy, ml_dtypes, torch and safetensors.

Codes are fixed by docs/format.md#element-types.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

__all__ = ["BY_CODE", "BY_NAME", "DType", "from_numpy", "from_torch", "item_size"]

# Key of numpy dtype metadata that names the type behind an integer view, where ml_dtypes is not installed.
METADATA_KEY = "nncodec.dtype"


@dataclass(frozen=True)
class DType:
    """One element type.

    Attributes
    ----------
    code : int
        What the bitstream writes.
    name : str
        Name in torch, and in numpy or ml_dtypes where they have it.
    size : int
        Bytes per element.
    safetensors : str
        Name in safetensors files; empty where that format has none.
    """

    code: int
    name: str
    size: int
    safetensors: str = ""

    @property
    def is_float(self) -> bool:
        """Whether elements are real floating-point numbers."""
        return self.code < 16

    def numpy(self) -> np.dtype[Any]:
        """The numpy type of this name, from ml_dtypes if need be, else an integer type that carries the name.

        The latter is ``np.dtype(np.uint16, metadata={"nncodec.dtype": "bfloat16"})`` for bfloat16; arrays of it are
        encoded as bfloat16 again.
        """
        dtype: np.dtype[Any] = _numpy(self.code)
        return dtype

    def torch(self) -> Any:
        """The torch type of this name. Imports torch; raises TypeError where this torch lacks the type."""
        import torch

        dtype = getattr(torch, self.name, None)
        if dtype is None:
            raise TypeError(f"torch {torch.__version__} has no type {self.name}")
        return dtype


BY_CODE: Mapping[int, DType] = {
    row.code: row
    for row in (
        DType(1, "float64", 8, "F64"),
        DType(2, "float32", 4, "F32"),
        DType(3, "float16", 2, "F16"),
        DType(4, "bfloat16", 2, "BF16"),
        DType(5, "float8_e4m3fn", 1, "F8_E4M3"),
        DType(6, "float8_e5m2", 1, "F8_E5M2"),
        DType(7, "float8_e4m3fnuz", 1, "F8_E4M3FNUZ"),
        DType(8, "float8_e5m2fnuz", 1, "F8_E5M2FNUZ"),
        DType(9, "float8_e8m0fnu", 1, "F8_E8M0"),
        DType(10, "float4_e2m1fn_x2", 1),
        DType(16, "int64", 8, "I64"),
        DType(17, "int32", 4, "I32"),
        DType(18, "int16", 2, "I16"),
        DType(19, "int8", 1, "I8"),
        DType(20, "uint64", 8, "U64"),
        DType(21, "uint32", 4, "U32"),
        DType(22, "uint16", 2, "U16"),
        DType(23, "uint8", 1, "U8"),
        DType(32, "bool", 1, "BOOL"),
        DType(48, "complex128", 16),
        DType(49, "complex64", 8, "C64"),
        DType(50, "complex32", 4),
    )
}
BY_NAME: Mapping[str, DType] = {row.name: row for row in BY_CODE.values()}

# What numpy itself has; its own names are the same.
_NATIVE = frozenset(name for name in BY_NAME if hasattr(np, name)) - {"bool"}
# What ml_dtypes calls the rest. It has no type for two 4-bit floats in a byte.
_ML_DTYPES = frozenset(
    ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
)


def item_size(code: int) -> int:
    """Bytes per element of a type code."""
    return BY_CODE[code].size


@cache
def _numpy(code: int) -> np.dtype[Any]:
    row = BY_CODE[code]
    if row.name == "bool":
        return np.dtype(np.bool_)
    if row.name in _NATIVE:
        return np.dtype(row.name)
    if row.name in _ML_DTYPES:
        try:
            import ml_dtypes
        except ImportError:
            pass
        else:
            if hasattr(ml_dtypes, row.name):  # float8_e8m0fnu came with 0.5
                dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, row.name))
                return dtype
    return np.dtype(f"u{row.size}", metadata={METADATA_KEY: row.name})


def from_numpy(dtype: np.dtype[Any]) -> DType | None:
    """The element type of a numpy dtype of either byte order; None if the bitstream has none."""
    metadata = dtype.metadata
    if metadata is not None and METADATA_KEY in metadata:
        row = BY_NAME.get(metadata[METADATA_KEY])
        return row if row is not None and row.size == dtype.itemsize else None
    return _from_plain(dtype)


@lru_cache(maxsize=64)
def _from_plain(dtype: np.dtype[Any]) -> DType | None:
    """Of a dtype without metadata: numpy leaves that out when it compares."""
    if dtype.kind in "biufc" and dtype.name in BY_NAME:
        return BY_NAME[dtype.name]
    ml_dtypes = sys.modules.get("ml_dtypes")  # an array of its types exists only if it is loaded
    if ml_dtypes is not None and dtype.name in _ML_DTYPES and dtype == getattr(ml_dtypes, dtype.name, None):
        return BY_NAME[dtype.name]
    return None


def from_torch(dtype: Any) -> DType | None:
    """The element type of a torch dtype; None if the bitstream has none."""
    return BY_NAME.get(str(dtype).removeprefix("torch."))
