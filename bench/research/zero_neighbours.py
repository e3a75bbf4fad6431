"""What neighbours tell about zeros of pruned networks, beside the scales of row and column.

`python -m bench.research.zero_neighbours`: networks of the data folder, pruned by magnitude to 90 % and 97 % zeros.
Bits per weight of the zero flags: one probability per matrix; one per class of row x column occupancy (half octaves);
the same with the flags of two neighbours (left, above), and of five. Five bits are counted for each probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.datasets import networks, read_safetensors

_NETWORKS = ("resnet44_cifar10", "lenet5_mnist", "stories260k", "g2p_en_gru")
_FEWEST = 2000  # elements of a matrix that counts
_BITS_PER_PROBABILITY = 5


def _bits(keys: NDArray[np.int64], flags: NDArray[np.int64]) -> float:
    _, key = np.unique(keys, return_inverse=True)
    n = np.bincount(key).astype(float)
    p = np.clip(np.bincount(key, weights=flags) / n, 1e-12, 1 - 1e-12)
    return float((-n * (p * np.log2(p) + (1 - p) * np.log2(1 - p))).sum() + _BITS_PER_PROBABILITY * len(n))


def _of_matrix(flags: NDArray[np.int64]) -> NDArray[np.float64]:
    mean = flags.mean()
    rows = flags.mean(axis=1, keepdims=True) + 0.02 * mean
    columns = flags.mean(axis=0, keepdims=True) + 0.02 * mean
    of_class = np.clip(np.round(2 * np.log2(rows * columns / mean)), -40, 10).astype(np.int64) + 100
    padded = np.pad(flags, ((1, 0), (2, 1)))
    left, above = padded[1:, 1:-2], padded[:-1, 2:-1]
    others = padded[1:, :-3] + padded[:-1, 3:] + padded[:-1, 1:-2]
    keys = (0 * of_class, of_class, 8 * of_class + left + above, 8 * of_class + left + above + others)
    return np.array([_bits(key.ravel(), flags.ravel()) for key in keys])


def main() -> None:
    """Print one line per network and sparsity."""
    files, why = networks(None)
    if why is not None:
        print(why)
    for name in _NETWORKS:
        if name not in files:
            continue
        tensors = read_safetensors(files[name])
        matrices = [
            np.abs(x.astype(np.float32)).reshape(len(x), -1)
            for x in tensors.values()
            if x.ndim >= 2 and x.dtype.kind == "f" and x.size > _FEWEST
        ]
        for sparsity in (0.90, 0.97):
            threshold = np.quantile(np.concatenate([m.ravel() for m in matrices]), sparsity)
            kept = [(m > threshold).astype(np.int64) for m in matrices]
            kept = [flags for flags in kept if flags.any()]
            total = sum((_of_matrix(flags) for flags in kept), np.zeros(4)) / sum(f.size for f in kept)
            parts = zip(("matrix", "class", "+2", "+5"), total, strict=True)
            print(name, sparsity, ", ".join(f"{what} {bits:.4f}" for what, bits in parts))


if __name__ == "__main__":
    main()
