"""What a checkpoint alone says about its layers' inputs and outputs, where it has batch normalisation.

A convolution followed by batch normalisation has its output's mean and variance, averaged over the training data, in
the checkpoint. With them and the weights

* an output channel's error counts with ``(gamma / sigma)^2``: that much of it is left after normalisation;
* the means of the input channels solve ``running_mean = W mean``, their variances ``running_var = diag(W C W^T)``, by
  regularised least squares. The means matter most: an error that they meet shifts the whole output (bias correction:
  Nagel et al. 2019).

What comes out has the form of a :class:`nncodec.Calibration`, which is what examples would give more exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncodec.calibration import Calibration, LayerMoments
from nncodec.tensors import leaf

__all__ = ["calibrate_without_data"]

Array = NDArray[np.float64]

_PARTS = ("weight", "bias", "running_mean", "running_var")
_EPSILON = 1e-5
# Regularisation of means and variances, times the mean diagonal of their normal equations.
_MEAN_RIDGE, _VARIANCE_RIDGE = 0.03, 0.1
_LEAST_VARIANCE = 0.2  # of the mean variance
# How much more an error common to all positions of an image counts: calibrations of small classifiers find 2 to 23.
_COHERENCE = 10.0
_NEIGHBOURS = 0.5  # correlation of neighbouring pixels
# By how much a global average pooling lessens errors of its input: what differs within an image, not between images.
_POOLED = 4.0


@dataclass(frozen=True)
class _Norm:
    """One batch normalisation; all (channels,)."""

    name: str
    gamma: Array
    mean: Array
    variance: Array


def calibrate_without_data(tensors: Mapping[str, Any]) -> Calibration:
    """Guess from batch normalisation what a calibration on examples would find.

    Deterministic on one kind of machine. Covered are weights of two or more dimensions; empty for a checkpoint without
    batch normalisation, which has nothing to guess from.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor or numpy.ndarray
        A state dict. Which normalisation belongs to which convolution is found from names, shapes and statistics,
        in the order of the mapping (numbers in alphabetical order count as numbers).

    Returns
    -------
    Calibration
        For ``encode(..., "trellis", hessian=...)``.

    Raises
    ------
    ValueError
        For NaN or infinite values in weights or normalisations.
    """
    norms = _norms(tensors)
    if not norms:
        return Calibration({}, 1)
    names = _in_order([name for name, value in tensors.items() if np.ndim(value) >= 2])
    weights = {name: value for name in names if (value := _values(name, tensors[name])) is not None}
    pairs = _pairs({name: w for name, w in weights.items() if w.ndim > 2}, norms)
    if not pairs:
        return Calibration({}, 1)
    layers: dict[str, LayerMoments] = {}
    energies = []
    last = list(pairs)[-1]
    classified = any(w.ndim == 2 and w.shape[1] == len(weights[last]) for w in weights.values())
    for number, (name, norm) in enumerate(pairs.items(), 1):
        w = weights[name]
        bias = _values(name, tensors.get(name.removesuffix("weight") + "bias", np.zeros(len(w))))
        mean, rest = _inputs(w, norm.mean - (0 if bias is None else bias), norm.variance)
        # An error passes through all layers that follow; what is left of it is shared by those before.
        output = norm.gamma**2 / norm.variance * (len(pairs) / number)
        coherence = _COHERENCE
        if name == last and classified:
            output, coherence = output / _POOLED, coherence * _POOLED
        common = np.outer(mean, mean)[None]
        layers[name] = LayerMoments(w.shape, rest + common, mean[None], output, 1, common, coherence)
        energies.append(float((norm.gamma**2).sum()))
    for name, w in weights.items():
        energy = float((w * w).sum())
        if name not in layers and energy > 0:
            size = int(np.prod(w.shape[1:]))
            layers[name] = LayerMoments(
                w.shape,
                np.eye(size)[None],
                np.zeros((1, size)),
                np.full(len(w), float(np.mean(energies)) / energy),
                1,
            )
    return Calibration(layers, 1)


def _values(name: str, value: Any) -> Array | None:
    """As float64 of the same shape; None for what is no float. ValueError for NaN and infinities."""
    found = leaf(name, value)
    if not found.dtype.is_float or found.dtype.size < 2:
        return None
    if found.dtype.name == "bfloat16":  # the upper half of a float32
        raw = (found.data().view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        raw = found.data().view(found.dtype.numpy())
    values: Array = raw.astype(np.float64).reshape(found.shape)
    if not np.isfinite(values).all():
        raise ValueError(f"{name!r} has NaN or infinite elements: nothing can be learnt from it")
    return values


def _in_order(names: Sequence[str]) -> list[str]:
    """As given; but names in alphabetical order by the numbers in them."""
    if list(names) != sorted(names):
        return list(names)
    return sorted(names, key=lambda n: [(p.isdigit(), int(p) if p.isdigit() else p) for p in _pieces(n)])


def _pieces(name: str) -> list[str]:
    return re.findall(r"\d+|\D+", name)


def _norms(tensors: Mapping[str, Any]) -> list[_Norm]:
    suffix = ".running_var"
    stems = _in_order([n.removesuffix(suffix) for n in tensors if n.endswith(suffix)])
    found = []
    for stem in stems:
        variance, mean = (
            _values(f"{stem}.{p}", tensors.get(f"{stem}.{p}")) if f"{stem}.{p}" in tensors else None
            for p in ("running_var", "running_mean")
        )
        if variance is None or mean is None or variance.ndim != 1 or mean.shape != variance.shape:
            continue
        gamma = _values(f"{stem}.weight", tensors[f"{stem}.weight"]) if f"{stem}.weight" in tensors else None
        if gamma is None or gamma.shape != variance.shape:
            gamma = np.ones_like(variance)
        found.append(_Norm(stem, gamma, mean, np.maximum(variance, 0) + _EPSILON))
    return found


def _pairs(convolutions: Mapping[str, Array], norms: Sequence[_Norm]) -> dict[str, _Norm]:
    """Which normalisation follows which convolution: the best alignment of both sequences, each in its order.

    A pair has the same number of channels. It scores by what its names share and by how well the lengths of the rows
    explain the deviations of the channels.
    """
    names = list(convolutions)
    best = np.zeros((len(names) + 1, len(norms) + 1))
    score = np.full((len(names), len(norms)), -np.inf)
    for i, name in enumerate(names):
        for j, norm in enumerate(norms):
            if len(convolutions[name]) == len(norm.variance):
                score[i, j] = 1 + _likeness(name, norm.name) + _explained(convolutions[name], norm)
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + score[i, j])
    pairs: dict[str, _Norm] = {}
    i, j = len(names), len(norms)
    while i > 0 and j > 0:
        if best[i, j] == best[i - 1, j - 1] + score[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs[names[i]] = norms[j]
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return dict(reversed(pairs.items()))


def _likeness(weight: str, norm: str) -> float:
    """0 to 1: the share of their modules' paths that is the same, and whether they end in the same number."""
    a, b = weight.split(".")[:-1], norm.split(".")
    shared = sum(x == y for x, y in zip(a[:-1], b[:-1], strict=False))
    path = shared / max(len(a) - 1, len(b) - 1, 1) if max(len(a), len(b)) > 1 else 1.0
    numbers = [re.findall(r"\d+$", x[-1]) for x in (a, b) if x]
    return 0.7 * path + 0.3 * (len(numbers) == 2 and numbers[0] == numbers[1])


def _explained(w: Array, norm: _Norm) -> float:
    """Correlation of the logarithms of the rows' energies and of the channels' variances."""
    energy = np.log((w.reshape(len(w), -1) ** 2).sum(1) + 1e-30)
    variance = np.log(norm.variance)
    energy, variance = energy - energy.mean(), variance - variance.mean()
    product = float(np.sqrt((energy**2).sum() * (variance**2).sum()))
    return float((energy * variance).sum()) / product if product > 0 else 0.0


def _inputs(w: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Mean (k,) and covariance (k, k) of the input vectors, k = channels x kernel size, from those of the outputs."""
    outputs, channels = w.shape[:2]
    kernel = w.shape[2:]
    size = int(np.prod(kernel))
    sigma = np.sqrt(variance)
    flat = w.reshape(outputs, channels, size)
    means = _ridge(flat.sum(2) / sigma[:, None], mean / sigma, _MEAN_RIDGE)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in kernel), indexing="ij"), -1).reshape(size, -1)
    distance = np.abs(places[:, None] - places[None]).sum(2)
    correlation = _NEIGHBOURS**distance
    powers = ((flat @ correlation) * flat).sum(2) / variance[:, None]
    variances = _ridge(powers, np.ones(outputs), _VARIANCE_RIDGE)
    variances = np.maximum(variances, _LEAST_VARIANCE * max(float(variances.mean()), 1e-12))
    return np.repeat(means, size), np.kron(np.diag(variances), correlation)


def _ridge(a: Array, b: Array, strength: float) -> Array:
    """x of least ``|a x - b|^2 + r |x - x0|^2``, x0 the best constant, if that is positive, else 0."""
    total = a.sum(1)
    square = float(total @ total)
    constant = max(float(total @ b) / square, 0.0) if square > 0 else 0.0
    normal = a.T @ a
    n = len(normal)
    ridge = strength * float(np.trace(normal)) / n + 1e-30
    solved: Array = np.linalg.solve(normal + ridge * np.eye(n), a.T @ b + ridge * constant)
    return solved
