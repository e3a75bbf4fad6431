"""Scalar quantisation that makes later weights pay for the errors of earlier ones, with a step for each row and column.

With ``A = R^T R`` the second moment of a layer's inputs and ``G = S^T S`` that of its output derivatives (R, S upper
triangular), an error D of the weights costs ``|S D R^T|^2``. Taking the weights from last to first, each one is rounded
after adding what the errors so far imply, so that only ``S[i,i] R[j,j] D'[i,j]`` of its own rounding D' remains. Equal
cost for all weights (reverse water-filling) then asks for a step proportional to ``1 / (S[i,i] R[j,j])``: a step per
row times a step per column. Babai's nearest plane; on the input side with one step: Frantar et al. 2022 (GPTQ); with
steps per column and entropy coding: WaterSIC, arXiv 2603.04956.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Factor", "Quantised", "code_length", "factor", "quantise"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Factor:
    """One side of the cost: ``permutation`` of its indices, ``diagonal`` of the root and its rows divided by that."""

    permutation: NDArray[np.intp]
    diagonal: Matrix
    unit: Matrix | None  # (n, n) upper triangular with ones on the diagonal; None: diagonal side, no feedback


def factor(moment: Matrix, damping: float, *, feedback: bool = True) -> Factor:
    """Root of a second moment, (n, n) or its diagonal (n,); ``damping`` times its mean diagonal is added to it.

    Indices are put in the order of rising diagonal: those decided first (the last) matter most and have the most
    others left to correct them.
    """
    diagonal = moment if moment.ndim == 1 else np.diagonal(moment)
    n, ridge = len(diagonal), damping * diagonal.mean()
    if moment.ndim == 1 or not feedback:
        return Factor(np.arange(n), np.sqrt(diagonal + ridge), None)
    order = np.argsort(diagonal, kind="stable")
    root = np.linalg.cholesky(moment[np.ix_(order, order)] + ridge * np.eye(n)).T
    scale = np.diagonal(root).copy()
    return Factor(order, scale, root / scale[:, None])


@dataclass(frozen=True)
class Quantised:
    """Levels of the shape of the weights, and the values that they stand for."""

    levels: NDArray[np.int32]
    values: NDArray[np.float32]


def quantise(weights: Matrix, outputs: Factor, inputs: Factor, step: float) -> Quantised:
    """Levels of ``weights`` (rows, columns) at steps ``step / (outputs.diagonal x inputs.diagonal)``."""
    w = weights[np.ix_(outputs.permutation, inputs.permutation)].astype(np.float64)
    rows, columns = w.shape
    row_steps, column_steps = step / outputs.diagonal, 1 / inputs.diagonal
    levels = np.empty_like(w)
    errors = np.zeros((columns, rows))
    for j in reversed(range(columns)):
        wanted = w[:, j].copy()
        if inputs.unit is not None:
            wanted += inputs.unit[j, j + 1 :] @ errors[j + 1 :]
        steps = row_steps * column_steps[j]
        levels[:, j] = _column(wanted, steps, outputs.unit)
        errors[j] = w[:, j] - levels[:, j] * steps
    back = np.ix_(outputs.permutation, inputs.permutation)
    out_levels, values = np.empty((rows, columns), np.int32), np.empty((rows, columns), np.float32)
    out_levels[back] = levels
    values[back] = levels * (row_steps[:, None] * column_steps)
    return Quantised(out_levels, values)


def _column(wanted: Matrix, steps: Matrix, unit: Matrix | None) -> Matrix:
    """One column, its rows corrected by each other's errors where the output side has feedback."""
    if unit is None:
        return np.rint(wanted / steps)
    levels, left = np.empty_like(wanted), np.zeros_like(wanted)
    for i in reversed(range(len(wanted))):
        levels[i] = np.rint((wanted[i] + unit[i, i + 1 :] @ left[i + 1 :]) / steps[i])
        left[i] = wanted[i] - levels[i] * steps[i]
    return levels


def code_length(levels: NDArray[np.int32]) -> float:
    """Bits for (rows, columns) levels: classes of row scale x column scale, an ideal code in each, side information.

    Scales are logarithms rounded to a half or a quarter of an octave, at the entropy of their differences; each table
    costs 5 bits per level it uses, or what a parametric one loses (3 % and 16 bits), whichever is less.
    """
    magnitude = np.abs(levels).astype(np.float64)
    rows, columns = np.maximum(magnitude.mean(1), 0.005), np.ones(levels.shape[1])
    for _ in range(3):
        columns = np.maximum((magnitude / rows[:, None]).mean(0), 0.005)
        rows = np.maximum((magnitude / columns).mean(1), 0.005)
    return min(
        _length_in_classes(levels, np.log2(rows), np.log2(columns), per_octave) for per_octave in (2, 4)
    )


def _length_in_classes(levels: NDArray[np.int32], rows: Matrix, columns: Matrix, per_octave: int) -> float:
    row_class, column_class = (np.rint(per_octave * x).astype(np.int64) for x in (rows, columns))
    classes = row_class[:, None] + column_class
    classes -= classes.min()
    top = min(int(np.abs(levels).max()), 40)  # larger ones escape, at 12 bits more
    symbols = 2 * top + 1
    cells = classes * symbols + np.clip(levels, -top, top) + top
    counts = np.bincount(cells.ravel(), minlength=(int(classes.max()) + 1) * symbols).reshape(-1, symbols)
    totals = counts.sum(1)
    used = counts > 0
    share = counts / np.maximum(totals, 1)[:, None]
    body = -(counts * np.log2(share, where=used, out=np.zeros_like(share))).sum(1)
    tables = np.minimum(5.0 * used.sum(1), 0.03 * body + 16)[totals > 0].sum()
    escapes = 12 * np.count_nonzero(np.abs(levels) > top)
    return float(body.sum() + tables + escapes + _difference_bits(row_class) + _difference_bits(column_class))


def _difference_bits(values: NDArray[np.int64]) -> float:
    _, counts = np.unique(np.diff(values), return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if len(counts) else 0.0
