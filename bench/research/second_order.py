"""Size at equal function with and without second-order information, by ideal code lengths.

``python -m bench.research.second_order minilm --cosine 0.9878`` and ``... resnet20_cifar10 --divergence 0.01``.
One number, the step, is searched; how it is divided between layers, rows and columns is the method's:

========== ==========================================================================================================
plain      one step everywhere
layer      one step per layer: input and output moments by their mean diagonal
diagonal   a step per row and column: diagonals, no feedback
inputs     feedback along the inputs, steps by the root's diagonal; rows by the diagonal of the output side
both       feedback along inputs and outputs
========== ==========================================================================================================

Embeddings: rows weighed by how often the calibration read them (plus half a count), columns as outputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.datasets import data_dir, minilm, read_safetensors
from bench.research.feedback import code_length, factor, quantise
from bench.tasks import task
from nncodec.calibration import Calibration, LayerMoments, calibrate
from nncodec.train.kfac import likelihood

METHODS = ("plain", "layer", "diagonal", "inputs", "both")
RAW_BITS = 27  # of a float32 that is coded without loss
UNCOVERED_STEP = (
    0.4  # of the standard deviation: weights that the calibration does not know, at about 3.3 bits
)
Tensors = dict[str, NDArray[Any]]


def flat(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same trace, spread evenly."""
    diagonal = matrix if matrix.ndim == 1 else np.diagonal(matrix)
    return np.full(len(diagonal), diagonal.mean())


def sides(layer: LayerMoments, examples: int, method: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Moments of the output and of the input side, per example; of embeddings columns and rows."""
    if layer.is_embedding:
        inputs = (layer.input + 0.5) / (layer.input.sum() + 0.5 * len(layer.input))
    else:
        inputs = layer.input[0] / layer.vectors
    outputs = layer.output / examples
    if method == "plain":
        return np.ones(len(outputs)), np.ones(len(inputs))
    return (flat(outputs), flat(inputs)) if method == "layer" else (outputs, inputs)


def compress(
    tensors: Tensors, calibration: Calibration, method: str, step: float, damping: tuple[float, float]
) -> tuple[Tensors, float]:
    """All tensors quantised, and the bits they take."""
    found, bits = dict(tensors), 0.0
    for name, value in tensors.items():
        if not np.issubdtype(value.dtype, np.floating):
            continue
        if value.ndim < 2:
            bits += RAW_BITS * value.size
            continue
        matrix = value.reshape(len(value), -1)
        layer = calibration.get(name)
        if layer is None:
            unit = UNCOVERED_STEP * float(matrix.std())
            levels = np.rint(matrix / unit).astype(np.int32)
            found[name] = (levels * np.float32(unit)).reshape(value.shape)
            bits += code_length(levels)
            continue
        outputs, inputs = sides(layer, calibration.examples, method)
        # Output moments come from few samples of noisy derivatives: they need more damping.
        input_side = factor(inputs, damping[0], feedback=method in ("inputs", "both"))
        output_side = factor(
            outputs, damping[1], feedback=method == "both" or (method == "inputs" and layer.is_embedding)
        )
        if layer.is_embedding:  # rows of an embedding are its inputs
            coded = quantise(matrix, input_side, output_side, step)
        else:
            coded = quantise(matrix, output_side, input_side, step)
        found[name] = coded.values.reshape(value.shape)
        bits += code_length(coded.levels)
    return found, bits


def search(
    run: Callable[[float], tuple[float, float]], target: float, step: float
) -> tuple[float, float, float]:
    """Step, loss and size where the loss is the target within 7 % (0.05 bits per weight), or the nearest of six."""
    trials: list[tuple[float, float, float]] = []
    for _ in range(6):
        loss, size = run(step)
        trials.append((step, loss, size))
        if abs(log2(loss / target)) < 0.1:
            break
        step *= min(max((target / loss) ** 0.5, 0.05), 4.0)
    return min(trials, key=lambda trial: abs(log2(trial[1] / target)))


def divergence(model: torch.nn.Module, data: Path, count: int = 2000) -> Callable[[torch.nn.Module], float]:
    """Mean Kullback-Leibler divergence of predictions on test images from those of ``model`` as it is now."""
    from bench.tasks.cifar import test_images

    images = test_images(data, count)[0].split(250)

    @torch.inference_mode()
    def predictions(net: torch.nn.Module) -> torch.Tensor:
        return torch.cat([net(x) for x in images]).log_softmax(1)

    wanted = predictions(model)
    return lambda net: float((wanted.exp() * (wanted - predictions(net))).sum(1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--examples", type=int, help="for calibration (MiniLM 2400, images 512)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--cosine", type=float, default=0.9878)
    parser.add_argument("--divergence", type=float, default=0.01)
    parser.add_argument("--damping", type=float, nargs=2, default=(0.01, 0.03), help="inputs, outputs")
    given = parser.parse_args()
    data = data_dir(given.data)
    if data is None:
        parser.error("no data folder: give --data or set NNCODEC_DATA")
    chosen = task(given.network)
    if chosen.calibration is None:
        parser.error(f"{given.network} has no calibration examples")
    path, why = (
        minilm() if given.network == "minilm" else (data / "weights" / f"{given.network}.safetensors", "")
    )
    if path is None:
        parser.error(why or "no network")
    tensors = {name: np.array(value) for name, value in read_safetensors(path).items()}
    elements = sum(value.size for value in tensors.values() if np.issubdtype(value.dtype, np.floating))
    model = chosen.build(tensors)
    sentences = given.network == "minilm"
    head = None if sentences else likelihood
    batches = chosen.calibration(data, given.examples or (2400 if sentences else 512))
    calibration = calibrate(model, batches, output=head)
    drift = None if sentences else divergence(model, data)
    target = 1 - given.cosine if sentences else given.divergence

    def loss(values: Mapping[str, Any]) -> float:
        net = chosen.build(values)
        return max(drift(net) if drift else 1 - chosen.evaluate(net, data, None)["cosine"], 1e-9)

    for method in given.methods:

        def run(step: float, method: str = method) -> tuple[float, float]:
            values, bits = compress(tensors, calibration, method, step, tuple(given.damping))
            return loss(values), bits / elements

        start = 0.05 if method == "plain" else (24 * target / elements) ** 0.5
        step, reached, size = search(run, target, start)
        print(
            f"{given.network} {method:9} loss {reached:.3e} at {size:.3f} bits per weight, step {step:.3g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
