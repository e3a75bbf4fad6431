"""The budget arguments of lossy codecs: ``step``, ``snr_db``, ``rel_mse``, ``bits_per_weight``, ``ratio``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec.tensors import Leaf, leaf

__all__ = ["BUDGETS", "Budget", "read_budget"]

BUDGETS = ("step", "snr_db", "rel_mse", "bits_per_weight", "ratio")


@dataclass(frozen=True)
class Budget:
    """Which budget, how much, and the weights of the squared error by tensor name."""

    name: str
    value: float
    importance: Mapping[str, Any]

    def weights(self, target: Leaf) -> NDArray[np.float32] | None:
        """Weights of a tensor's squared error, flat, one per element; None for all 1."""
        given = self.importance.get(target.name)
        if given is None:
            return None
        found = leaf(f"importance[{target.name!r}]", given)
        if not found.dtype.is_float or found.dtype.size < 2:
            raise TypeError(f"importance[{target.name!r}] has type {found.dtype.name}; expected floats")
        values = found.data().view(found.dtype.numpy()).reshape(found.shape)
        try:
            values = np.broadcast_to(values, target.shape)
        except ValueError:
            raise ValueError(
                f"importance[{target.name!r}] has shape {found.shape}, the tensor has {target.shape}"
            ) from None
        flat: NDArray[np.float32] = np.require(values, np.float32, ["C", "A"]).reshape(-1)
        if not np.isfinite(flat).all() or (flat < 0).any():
            raise ValueError(f"importance[{target.name!r}] has values that are negative or not finite")
        return flat


def read_budget(arguments: Mapping[str, Any], *, budgeted: bool) -> Budget | None:
    """Check the budget arguments of a call; exactly one if there is a codec that needs one, else none."""
    given = dict(arguments)
    importance = given.pop("importance", None)
    importance = {} if importance is None else importance
    for name in given:
        if name not in BUDGETS:
            raise TypeError(f"unexpected argument {name!r}; budgets are {', '.join(BUDGETS)}")
    given = {name: value for name, value in given.items() if value is not None}
    if not isinstance(importance, Mapping):
        raise TypeError("importance must be a mapping of tensor names to arrays")
    if not budgeted:
        if given or importance:
            raise ValueError(
                f"{next(iter(given), 'importance')}: a budget needs a lossy codec that takes one"
            )
        return None
    if len(given) != 1:
        said = f", not {len(given)} ({', '.join(given)})" if given else ""
        raise ValueError(f"a lossy codec needs exactly one of {', '.join(BUDGETS)}{said}")
    ((name, value),) = given.items()
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {value!r}") from None
    if not math.isfinite(number) or (number <= 0 and name != "snr_db"):
        raise ValueError(
            f"{name} must be {'finite' if name == 'snr_db' else 'positive and finite'}, not {value!r}"
        )
    return Budget(name, number, importance)
