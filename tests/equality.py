"""Whether two checkpoints are the same, bit for bit; needs no torch where none is imported."""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np


def equal(a, b) -> bool:
    """Equality of values, types and order, all the way down; NaN equals NaN of the same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        if isinstance(a, defaultdict) and a.default_factory is not b.default_factory:
            return False
        return len(a) == len(b) and all(
            equal(k, q) and equal(v, w) for (k, v), (q, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, complex):
        return equal(a.real, b.real) and equal(a.imag, b.imag)
    if isinstance(a, float):
        return a.hex() == b.hex()
    return a == b
