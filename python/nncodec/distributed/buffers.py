"""Torch tensors as the flat buffers that the kernels take; no copies on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["DTYPE_CODES", "bits_of", "dtype_code"]

# Element types that the kernels take: torch's to the codes of docs/format.md.
DTYPE_CODES = {torch.float32: 2, torch.float16: 3, torch.bfloat16: 4}


def dtype_code(dtype: torch.dtype) -> int:
    """Raise TypeError for what the kernels do not take."""
    if dtype not in DTYPE_CODES:
        raise TypeError(f"3LC takes float32, float16 and bfloat16 tensors, not {dtype}")
    return DTYPE_CODES[dtype]


def bits_of(tensor: torch.Tensor) -> NDArray[np.generic]:
    """The memory of a contiguous CPU tensor, seen as floats or, for 16-bit types, as integers."""
    flat = tensor.detach().reshape(-1) if tensor.is_contiguous() else None
    if flat is None or flat.device.type != "cpu":
        raise ValueError("tensor must be contiguous and on the CPU")
    seen: NDArray[np.generic] = (flat if flat.dtype == torch.float32 else flat.view(torch.int16)).numpy()
    return seen
