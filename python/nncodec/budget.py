"""The budget arguments of lossy codecs: ``step``, ``snr_db``, ``rel_mse``, ``bits_per_weight``, ``ratio``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec.calibration import Calibration
from nncodec.sides import Hessian, Sides, sides_of_layer, sides_of_matrix
from nncodec.tensors import Leaf, leaf

__all__ = ["BUDGETS", "Budget", "NoBudgetError", "check_budget", "read_budget"]

BUDGETS = ("step", "snr_db", "rel_mse", "bits_per_weight", "ratio")


class NoBudgetError(ValueError):
    """There is a codec that needs a budget, and none was given."""


@dataclass(frozen=True)
class Budget:
    """Which budget, how much, and by tensor name the weights of the squared error, or what error feedback needs."""

    name: str
    value: float
    importance: Mapping[str, Any]
    hessian: Hessian

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

    def has_sides(self, target: Leaf) -> bool:
        """Whether a tensor is in ``hessian``."""
        return target.name in self.hessian

    def sides(self, target: Leaf) -> Sides | None:
        """What error feedback needs of a tensor; None where ``hessian`` does not know it."""
        if not self.has_sides(target):
            return None
        name, shape = f"hessian[{target.name!r}]", target.shape
        if isinstance(self.hessian, Calibration):
            layer = self.hessian[target.name]
            if layer.shape != shape:
                raise ValueError(f"{name} is of a weight of shape {layer.shape}, the tensor has {shape}")
            return sides_of_layer(layer, self.hessian.examples)
        found = leaf(name, self.hessian[target.name])
        if not found.dtype.is_float or found.dtype.size < 2:
            raise TypeError(f"{name} has type {found.dtype.name}; expected floats")
        columns = math.prod(shape[1:]) if len(shape) > 1 else 0
        groups = found.shape[0] if len(found.shape) == 3 else 1
        if columns == 0 or found.shape[-2:] != (columns, columns) or groups == 0 or shape[0] % groups:
            raise ValueError(
                f"{name} has shape {found.shape}; a tensor of shape {shape} needs the ({columns}, {columns}) second "
                "moment of its inputs, or one for each group of rows"
            )
        matrix = found.data().view(found.dtype.numpy()).reshape(found.shape).astype(np.float64)
        if not np.isfinite(matrix).all() or not np.array_equal(matrix, matrix.swapaxes(-1, -2)):
            raise ValueError(f"{name} is not symmetric and finite")
        if (matrix.diagonal(axis1=-2, axis2=-1) < 0).any():
            raise ValueError(f"{name} is not positive definite: it has negative squares")
        return sides_of_matrix(matrix, shape[0])


def read_budget(arguments: Mapping[str, Any], *, budgeted: bool, lossy: bool = False) -> Budget | None:
    """Check the budget arguments of a call; exactly one if there is a codec that needs one, else none.

    Where lossy codecs need none, importance alone comes back as a budget called "options".
    """
    given = dict(arguments)
    importance = given.pop("importance", None)
    importance = {} if importance is None else importance
    hessian = given.pop("hessian", None)
    hessian = {} if hessian is None else hessian
    for name in given:
        if name not in BUDGETS:
            raise TypeError(f"unexpected argument {name!r}; budgets are {', '.join(BUDGETS)}")
    given = {name: value for name, value in given.items() if value is not None}
    if not isinstance(importance, Mapping):
        raise TypeError("importance must be a mapping of tensor names to arrays")
    if not isinstance(hessian, Mapping):
        raise TypeError("hessian must be a Calibration or a mapping of tensor names to arrays")
    if not budgeted:
        if given or hessian or (importance and not lossy):
            told = next(iter(given), "hessian" if hessian else "importance")
            raise ValueError(f"{told}: a budget needs a lossy codec that takes one")
        return Budget("options", 0.0, importance, {}) if importance else None
    needed = f"a lossy codec needs exactly one of {', '.join(BUDGETS)}"
    if not given:
        raise NoBudgetError(needed)
    if len(given) != 1:
        raise ValueError(f"{needed}, not {len(given)} ({', '.join(given)})")
    ((name, value),) = given.items()
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {value!r}") from None
    check_budget(name, number)
    return Budget(name, number, importance, hessian)


def check_budget(name: str, value: float) -> None:
    """Raise ValueError if this is no budget at all; whether it can be met is seen when it is tried."""
    if name not in BUDGETS:
        raise ValueError(f"budget {name!r} is unknown: one of {', '.join(BUDGETS)}")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
    if name == "rel_mse" and value >= 1:
        raise ValueError(f"rel_mse must be below 1, which is the error of nothing but zeros, not {value!r}")
