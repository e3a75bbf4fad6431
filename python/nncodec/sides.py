"""The two sides of a layer's output error, ready for error feedback: roots of second moments and steps that suit them.

With A = L^T L the second moment of a layer's inputs and G = S^T S that of its output side, an error D of the weights
costs ``|S D L^T|^2``. When later weights make up for earlier ones, only ``(S[i, i] L[j, j] D'[i, j])^2`` of each
weight's own rounding D' remains, so equal cost asks for a step of ``1 / (S[i, i] L[j, j])``: one per row times one per
column (reverse water-filling; WaterSIC, arXiv 2603.04956). The kernels are in cpp/quantize/feedback.hpp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec._core import fixed_log2, lower_root
from nncodec.calibration import INPUT_DAMPING, OUTPUT_DAMPING, UNSEEN, Calibration, LayerMoments

__all__ = ["Hessian", "Sides", "sides_of_layer", "sides_of_matrix", "step_factors"]

Hessian = Calibration | Mapping[str, Any]

# Steps are multiples of a quarter of an octave (exponents of eighths): finer ones would cost what they save.
_UNIT = 2
_MOST = 120
_EIGHTHS = np.array(
    [1.0, 1.09050775, 1.1892071, 1.29683959, 1.41421354, 1.54221082, 1.68179286, 1.83400810], np.float32
)


@dataclass(frozen=True, eq=False)
class Sides:
    """Of one tensor seen as a matrix, first dimension in rows.

    Attributes
    ----------
    scale : float
        A power of two. The step of weight (i, j) is ``step * scale * 2 ** ((rows[i] + columns[j]) / 8)``.
    rows, columns : numpy.ndarray
        int8 exponents, -120 to 120.
    input : numpy.ndarray
        float32 (groups, columns, columns), strictly lower triangular: what the error of column k, in steps, adds to the
        target of column j > k, in steps.
    output : numpy.ndarray or None
        float32 (rows, rows), likewise for rows of one column.
    """

    scale: float
    rows: NDArray[np.int8]
    columns: NDArray[np.int8]
    input: NDArray[np.float32]
    output: NDArray[np.float32] | None

    def steps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Factors of rows (with the scale) and columns."""
        return step_factors(self.rows) * np.float32(self.scale), step_factors(self.columns)


def step_factors(exponents: NDArray[np.int8]) -> NDArray[np.float32]:
    """``2 ** (exponent / 8)``, as decoders make it."""
    wide = exponents.astype(np.int32)
    factors: NDArray[np.float32] = np.ldexp(_EIGHTHS[wide & 7], wide >> 3)
    return factors


def sides_of_layer(layer: LayerMoments, examples: int) -> Sides:
    """Of what :func:`nncodec.calibrate` collected; error is per example."""
    rows = layer.shape[0]
    if layer.is_embedding:
        # A row is read or not: no feedback between rows, a step that suits how often.
        share = (layer.input + UNSEEN) / (layer.input.sum() + UNSEEN * rows)
        columns = layer.output if layer.output.size else np.eye(layer.shape[1]) * layer.vectors
        return _sides(np.sqrt(share), None, (columns / examples)[None], OUTPUT_DAMPING)
    inputs = layer.moments
    if not layer.output.size:
        even = np.full(rows, math.sqrt(layer.vectors / examples))
        return _sides(even, None, inputs, INPUT_DAMPING)
    if layer.output.ndim == 1:
        weights = layer.output / examples
        return _sides(np.sqrt(weights + OUTPUT_DAMPING * weights.mean()), None, inputs, INPUT_DAMPING)
    groups = np.arange(rows) // (rows // len(inputs))
    # Rows of different groups read different inputs: they cannot make up for each other.
    root = _root(layer.output / examples * (groups[:, None] == groups), OUTPUT_DAMPING)
    return _sides(np.diagonal(root), root, inputs, INPUT_DAMPING)


def sides_of_matrix(matrix: NDArray[np.float64], rows: int) -> Sides:
    """Of a second moment of inputs (columns, columns) or (groups, columns, columns); rows count alike."""
    moments = matrix if matrix.ndim == 3 else matrix[None]
    return _sides(np.ones(rows), None, moments, INPUT_DAMPING)


def _root(moment: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """L with L^T L = moment + damping x its mean diagonal; of zeros: of the unit matrix."""
    n = len(moment)
    mean = float(np.diagonal(moment).mean())
    root = np.array(moment if mean > 0 else np.eye(n), np.float64, order="C")
    root[np.diag_indices(n)] += damping * (mean if mean > 0 else 1.0)
    lower_root(root, n)
    return root


def _sides(
    row_weights: NDArray[np.float64],
    output: NDArray[np.float64] | None,
    moments: NDArray[np.float64],
    damping: float,
) -> Sides:
    roots = [_root(moment, damping) for moment in moments]
    diagonals = np.array([np.diagonal(root) for root in roots])
    # Columns share their steps over the groups; a group's rows make up for its mean size.
    log_columns = np.array([[fixed_log2(float(x)) for x in diagonal] for diagonal in diagonals], np.int64)
    log_rows = np.array([fixed_log2(float(x)) for x in row_weights], np.int64)
    of_group = log_columns.sum(1) // log_columns.shape[1]
    log_rows = log_rows + np.repeat(of_group, len(log_rows) // len(of_group))
    log_columns = (log_columns - of_group[:, None]).sum(0) // len(of_group)
    rows, columns = _exponents(log_rows), _exponents(log_columns)
    octaves = int(np.median(rows)) // 8
    row_exponents, column_exponents = (
        np.clip(e, -_MOST, _MOST).astype(np.int8) for e in (rows - 8 * octaves, columns)
    )
    column_steps, row_steps = (step_factors(e).astype(np.float64) for e in (column_exponents, row_exponents))
    return Sides(
        math.ldexp(1.0, octaves),
        row_exponents,
        column_exponents,
        np.stack([_in_steps(root, column_steps) for root in roots]),
        None if output is None else _in_steps(output, row_steps),
    )


def _exponents(logs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of steps that are the inverse of what has these logarithms (2^-16)."""
    nearest: NDArray[np.int64] = -_UNIT * ((logs * (8 // _UNIT) + (1 << 15)) >> 16)
    return nearest


def _in_steps(root: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float32]:
    factors = np.tril(root, -1) / np.diagonal(root)[:, None]
    factors *= steps[None, :]
    factors /= steps[:, None]
    return np.ascontiguousarray(factors, np.float32)
