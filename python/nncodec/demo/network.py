"""The forward pass of the demo's network in numpy: two 3x3 convolutions, one pooling, two dense layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["accuracy", "logits"]

Floats = NDArray[np.float32]


def _conv3x3(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """3x3 convolution with zero padding 1: (n, c, h, w) with (o, c, 3, 3) to (n, o, h, w), as one matrix product."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * 9)
    rows: Floats = columns @ weight.reshape(len(weight), -1).T + bias
    out: Floats = rows.reshape(n, h, w, -1).transpose(0, 3, 1, 2)
    return out


def _relu(x: Floats) -> Floats:
    positive: Floats = np.maximum(x, np.float32(0))
    return positive


def _max_pool2x2(x: Floats) -> Floats:
    n, c, h, w = x.shape
    pooled: Floats = x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    return pooled


def logits(weights: Mapping[str, Floats], images: NDArray[np.uint8]) -> Floats:
    """Scores of the ten digits, shape (n, 10), for images of shape (n, 8, 8) with pixels of 0 to 16."""
    x = images[:, None].astype(np.float32) / np.float32(16)
    x = _relu(_conv3x3(x, weights["conv1.weight"], weights["conv1.bias"]))
    x = _max_pool2x2(_relu(_conv3x3(x, weights["conv2.weight"], weights["conv2.bias"])))
    flat = x.reshape(len(x), -1)
    hidden = _relu(flat @ weights["fc1.weight"].T + weights["fc1.bias"])
    out: Floats = hidden @ weights["fc2.weight"].T + weights["fc2.bias"]
    return out


def accuracy(weights: Mapping[str, Floats], images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    """Fraction of the images whose greatest score is that of their label."""
    return float(np.mean(logits(weights, images).argmax(axis=1) == labels))
