"""What every estimator takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimator", "Information"]


@dataclass(frozen=True)
class Information:
    """Estimates for one layer, in bits.

    Attributes
    ----------
    i_xt : float
        I(X;T), information that the activations T hold about the input X.
    i_ty : float or None
        I(T;Y), information that they hold about the label; None where no labels were given.
    saturated : bool
        Whether ``i_xt`` is within 0.1 bit of log2 of the number of different inputs, the most that so many inputs can
        show: the layer is then too wide, or the scale too fine, for the estimate to say anything.
    i_xt_lower, i_ty_lower : float or None
        The same from the lower bound, for density estimates. (A difference of two bounds, as ``i_ty`` is, is
        itself no bound.)
    """

    i_xt: float
    i_ty: float | None
    saturated: bool
    i_xt_lower: float | None = None
    i_ty_lower: float | None = None


class Estimator(ABC):
    """Base of all estimators; subclasses are frozen dataclasses of options."""

    def estimate(self, activations: Any, labels: Any = None, *, inputs: Any = None) -> Information:
        """Estimate I(X;T) and I(T;Y) of one layer.

        Parameters
        ----------
        activations : numpy.ndarray or torch.Tensor
            T, one row per sample; (n, ...), finite, any real dtype. Dimensions after the first are flattened.
        labels : numpy.ndarray or torch.Tensor, optional
            Y, (n,), anything that sorts (integers, strings, floats, lists of them), or a row per sample (n, ...).
        inputs : numpy.ndarray or torch.Tensor, optional
            What tells inputs apart: an id (n,) or the inputs themselves (n, ...). Default: all inputs differ. Needed
            where an input occurs several times and the layer is noisy: what differs between its samples tells nothing
            of it.

        Returns
        -------
        Information
            In bits.

        Raises
        ------
        ValueError
            If an argument has another number of samples, none, or NaN; for infinite activations.
        """
        t = _as_rows(activations, "activations")
        if not np.isfinite(t).all():
            raise ValueError(f"activations hold {int((~np.isfinite(t)).sum())} NaN or infinite values")
        n = len(t)
        y = None if labels is None else _as_ids(labels, "labels", n)
        x = None if inputs is None else _as_ids(inputs, "inputs", n)
        return self._estimate(t, y, x)

    @abstractmethod
    def _estimate(
        self, t: NDArray[np.float64], y: NDArray[np.intp] | None, x: NDArray[np.intp] | None
    ) -> Information:
        """Estimate from checked arguments: t (n, d) float64, y and x (n,) ids from 0 on."""


def _as_array(values: Any) -> NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() and values.element_size() < 4:  # bfloat16 and float8 are not numpy's
            values = values.float()
        values = values.numpy()
    return np.asarray(values)


def _as_rows(values: Any, name: str) -> NDArray[np.float64]:
    array = _as_array(values)
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(f"{name} must hold at least one sample, got shape {array.shape}")
    if "float" in array.dtype.name and array.dtype.kind != "f":  # the types of ml_dtypes
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be real numbers, got {array.dtype}")
    return np.ascontiguousarray(array.reshape(len(array), -1), np.float64)


def _as_ids(values: Any, name: str, n: int) -> NDArray[np.intp]:
    array = _as_array(values)
    if array.ndim == 0 or len(array) != n:
        raise ValueError(f"{name} must have one entry per sample ({n}), got shape {array.shape}")
    if array.dtype.kind in "fc":
        if np.isnan(array).any():
            raise ValueError(f"{name} hold {int(np.isnan(array).sum())} NaN")
        array = array + 0.0  # -0.0 is 0.0, also byte by byte
    if array.ndim == 1:
        return np.unique(array, return_inverse=True)[1].reshape(n)
    return row_ids(np.ascontiguousarray(array.reshape(n, -1)))


def row_ids(rows: NDArray[Any]) -> NDArray[np.intp]:
    """An id from 0 on for each row of (n, d): equal for equal rows."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows), np.intp)
    rows = np.ascontiguousarray(rows)
    words = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).reshape(len(rows))
    return np.unique(words, return_inverse=True)[1].reshape(len(rows))


def is_saturated(i_xt: float, n: int, x: NDArray[np.intp] | None) -> bool:
    """Whether an estimate is as high as so many inputs let it be."""
    different = n if x is None else int(x.max()) + 1
    return bool(i_xt > np.log2(different) - 0.1)
