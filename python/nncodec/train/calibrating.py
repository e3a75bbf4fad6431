"""Examples to calibrate on, drawn from a loader so that every class is there whatever the loader's order."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from nncodec.train.base import Loader
from nncodec.train.steps import count_examples, pairs

__all__ = ["stratified", "warn_of_missing", "warn_of_size"]


def stratified(loader: Loader, count: int, batch: int = 500) -> list[tuple[Any, Any]]:
    """At most ``count`` examples of one pass over the loader, in random order, as batches of (inputs, targets).

    Where inputs are a tensor and targets a class per example, every class gets an equal share as far as it has
    examples. Otherwise whole batches are drawn. Random numbers come from torch's generator; memory is that of a few
    times ``count`` examples.

    Raises ValueError for an empty loader, TypeError for batches that are no pairs.
    """
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    others: list[tuple[float, Any]] = []
    held = 0
    keys = torch.zeros(0)
    for x, y in pairs(loader):
        if not _classes(x, y) or others:
            others.append((float(torch.rand(())), (x, y)))
            if len(others) > 64:
                others = _enough(others, count)
            continue
        inputs.append(x)
        labels.append(y)
        keys = torch.cat((keys, torch.rand(len(y))))
        held += len(y)
        if held >= 3 * count:
            x, y, keys = _chosen(torch.cat(inputs), torch.cat(labels), keys, count)
            inputs, labels, held = [x], [y], len(y)
    if others:
        return [pair for _, pair in _enough(others, count)]
    if not inputs:
        raise ValueError("loader is empty: give a DataLoader or a list of batches")
    x, y, _ = _chosen(torch.cat(inputs), torch.cat(labels), keys, count)
    order = torch.randperm(len(y)).to(y.device)
    parts = -(-len(y) // batch)  # of one size, or averages over batches would not be those over examples
    return list(zip(x[order].tensor_split(parts), y[order].tensor_split(parts), strict=True))


def warn_of_missing(outputs: Any, batches: Iterable[tuple[Any, Any]]) -> None:
    """Warn where a classifier has classes that no example is of: their weights would count for little."""
    targets = [y for x, y in batches if _classes(x, y)]
    if not targets or not isinstance(outputs, Tensor) or outputs.ndim != 2:
        return
    found = torch.cat([y.reshape(-1) for y in targets]).unique()
    missing = outputs.shape[1] - len(found)
    if missing > 0:
        warnings.warn(
            f"calibration: {missing} of {outputs.shape[1]} classes have no example among those drawn from the loader; "
            "what the network needs for them may be lost",
            UserWarning,
            stacklevel=2,
        )


def warn_of_size(made: int, wanted: float) -> None:
    """Warn that a file is larger than it was to be: there is more than weights in it, or each layer needs one."""
    warnings.warn(
        f"size: the file has {made} bytes instead of {math.floor(wanted)}; no fewer were reached",
        UserWarning,
        stacklevel=2,
    )


def _classes(inputs: Any, targets: Any) -> bool:
    return (
        isinstance(inputs, Tensor)
        and isinstance(targets, Tensor)
        and targets.ndim == 1
        and not targets.is_floating_point()
        and len(targets) == len(inputs)
    )


def _chosen(x: Tensor, y: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each class the share with the smallest keys; what small classes leave goes to the others."""
    if len(y) <= count:
        return x, y, keys
    device = y.device
    order = keys.argsort(stable=True).to(device)
    order = order[y[order].argsort(stable=True)]  # by class, then by key
    _, sizes = y[order].unique_consecutive(return_counts=True)
    starts = sizes.cumsum(0) - sizes
    rank = torch.arange(len(y), device=device) - starts.repeat_interleave(sizes)
    keep = order[rank.argsort(stable=True)[:count]].sort().values
    return x[keep], y[keep], keys[keep.cpu()]


def _enough(batches: list[tuple[float, Any]], count: int) -> list[tuple[float, Any]]:
    """Those of the smallest keys that have so many examples."""
    kept: list[tuple[float, Any]] = []
    seen = 0
    for key, pair in sorted(batches, key=lambda item: item[0]):
        if seen >= count:
            break
        kept.append((key, pair))
        seen += count_examples(pair[1])
    return kept
