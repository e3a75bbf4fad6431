"""What two zeros are worth to codec `trellis` on pruned networks.

`python -m bench.research.pruned_networks`: networks of the data folder, pruned by magnitude with one threshold; whole
files with eight states at equal relative error: bytes with the alphabet that the encoder chooses, and what one zero
and codec `uniform` take more. Last a layer with `hessian`, whose inputs are correlated, at 16 dB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import nncodec
from bench.datasets import networks, read_safetensors
from nncodec.codecs import Trellis, Uniform

_NETWORKS = ("resnet20_cifar10", "lenet5_mnist", "stories260k")
_LEFT = (0.5, 0.2, 0.03)
_ERRORS = (0.03, 0.01, 0.003, 0.001)
_CODECS = (Trellis(states=8), Trellis(states=8, alphabet="plain"), Uniform())

Tensors = dict[str, NDArray[Any]]


def _pruned(tensors: Tensors, left: float) -> Tensors:
    matrices = {name: w for name, w in tensors.items() if w.ndim > 1}
    threshold = np.quantile(np.concatenate([np.abs(w).ravel() for w in matrices.values()]), 1 - left)
    return tensors | {name: np.where(np.abs(w) < threshold, 0, w) for name, w in matrices.items()}


def _more(sizes: list[int]) -> str:
    return " ".join(f"{100 * (size / sizes[0] - 1):+6.1f} %" for size in sizes[1:])


def main() -> None:
    """Print one line per network, density and error."""
    files, message = networks(None)
    if not files:
        raise SystemExit(message)
    for network in _NETWORKS:
        whole = dict(read_safetensors(files[network]))
        for left in _LEFT:
            tensors = _pruned(whole, left)
            for error in _ERRORS:
                sizes = [len(nncodec.encode(tensors, codec, rel_mse=error)) for codec in _CODECS]
                print(
                    f"{network:17s} {left:4.0%} {error:6g} {sizes[0]:8d}  one zero, uniform: {_more(sizes)}"
                )
    rng = np.random.default_rng(0)
    for left in _LEFT[:2]:
        layer = _pruned({"w": rng.standard_normal((300, 400)).astype(np.float32)}, left)
        inputs = rng.standard_normal((1600, 400)) @ rng.standard_normal((400, 400)) * 0.1
        hessian = {"w": (inputs.T @ inputs / len(inputs)).astype(np.float32)}
        sizes = [len(nncodec.encode(layer, codec, hessian=hessian, snr_db=16)) for codec in _CODECS[:2]]
        print(f"hessian, 300 x 400 {left:4.0%}  {sizes[0]:8d}  one zero: {_more(sizes)}")


if __name__ == "__main__":
    main()
