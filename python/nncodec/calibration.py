"""What a network's weights are worth, learnt by running it: the second moments of what its layers read and cause.

For a layer ``y = W x`` an error ``D`` of its weights changes the network's output by about

    sum over outputs r, s and inputs i, j:  G[r, s] * D[r, i] * A[i, j] * D[s, j]

with ``A`` the second moment of the inputs ``x`` and ``G`` that of the derivatives of the network's output with respect
to ``y`` (the Gauss-Newton matrix in Kronecker form: Martens and Grosse 2015; the input side alone: LeCun et al. 1990,
Frantar et al. 2022). Both need examples of inputs, and no labels. torch is imported when needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["Calibration", "LayerMoments", "calibrate"]

_KIND, _VERSION = "nncodec calibration", 1
# Embedding rows that never came up are still read one day: each row is counted this often more (Laplace's rule).
UNSEEN = 1.0
# Added to second moments, times their mean diagonal: what examples did not show may matter one day. Output moments come
# from one noisy derivative per vector and need more.
INPUT_DAMPING, OUTPUT_DAMPING = 0.01, 0.3


@dataclass(frozen=True)
class LayerMoments:
    """Moments of one weight tensor of shape ``shape``, summed over the calibration examples.

    Attributes
    ----------
    shape : tuple of int
        Of the weight: (outputs, inputs / groups, *kernel), or (rows, columns) of an embedding.
    input : numpy.ndarray
        float64. ``sum(x x^T)`` per group, (groups, k, k) with k = inputs / groups * kernel size, in the order of
        ``weight[r].ravel()``; for an embedding how often each row was read, (rows,).
    mean : numpy.ndarray
        float64. ``sum(x)``, (groups, k); empty for an embedding.
    output : numpy.ndarray
        float64. ``sum(g g^T)`` of the derivatives g of the projected output, (outputs, outputs), or (columns, columns)
        for an embedding; (outputs,) where only its diagonal is known; empty where it was not asked for.
    vectors : int
        How many input vectors there were.
    common : numpy.ndarray
        float64, of convolutions. ``sum(m m^T)``, of shape ``input``, m the mean of an example's input vectors, once for
        each of them: what the positions of an example have in common. Empty where that is not known.
    coherence : float
        Of convolutions: sum of the squares of derivatives summed over an example's positions, over the sum of the
        derivatives' squares. An error common to all positions counts so much more than one that differs between them:
        as often as there are positions, before a global average pooling.
    """

    shape: tuple[int, ...]
    input: NDArray[np.float64]
    mean: NDArray[np.float64]
    output: NDArray[np.float64]
    vectors: int
    common: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0, 0)))
    coherence: float = 1.0

    @property
    def moments(self) -> NDArray[np.float64]:
        """Second moments of inputs per vector, (groups, k, k), what positions have in common weighed by coherence."""
        total = self.input
        if self.common.size and self.coherence > 1:
            total = total + (self.coherence - 1) * self.common
        return np.asarray(total / max(self.vectors, 1))

    @property
    def is_embedding(self) -> bool:
        """Whether the weight is looked up row by row."""
        return self.input.ndim == 1

    def importance(self, examples: int) -> NDArray[np.float32]:
        """Weight of each element's squared error: the diagonal of the matrix above, per example.

        Shape ``shape``; all zero where the calibration never came by. A little of the mean is mixed in: an input that
        no example used must not be coded at random.
        """
        if self.is_embedding:
            rows = (self.input + UNSEEN) / (self.input.sum() + UNSEEN * len(self.input))
            columns = (
                np.diagonal(self.output) if self.output.size else np.full(self.shape[1], float(self.vectors))
            )
            return np.asarray(rows[:, None] * columns / examples, np.float32)
        # G is a sum over vectors already, so the input side is a mean.
        inputs = np.diagonal(self.input, axis1=1, axis2=2) / max(self.vectors, 1)
        inputs = _damped(inputs, INPUT_DAMPING)
        outputs = _diagonal(self.output) if self.output.size else np.full(self.shape[0], float(self.vectors))
        outputs = _damped(outputs, OUTPUT_DAMPING)
        per_group = np.repeat(inputs, self.shape[0] // len(inputs), axis=0)
        return np.asarray((outputs[:, None] * per_group / examples).reshape(self.shape), np.float32)


def _damped(squares: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Nearer to their mean, which stays."""
    return np.asarray((squares + share * squares.mean()) / (1 + share))


def _diagonal(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    return moment if moment.ndim == 1 else np.diagonal(moment)


class Calibration(Mapping[str, LayerMoments]):
    """State-dict name of a weight to its :class:`LayerMoments`; made by :func:`calibrate`.

    Attributes
    ----------
    examples : int
        How many examples (first axis of the network's output) went in.
    """

    def __init__(self, layers: Mapping[str, LayerMoments], examples: int) -> None:
        self._layers = dict(layers)
        self.examples = examples

    def __getitem__(self, name: str) -> LayerMoments:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __repr__(self) -> str:
        return f"<Calibration of {len(self)} weights on {self.examples} examples>"

    def importance(self, power: float = 1.0) -> dict[str, NDArray[np.float32]]:
        """For ``encode(..., importance=...)``: name to an array of the weight's shape.

        Scaled so that the mean over all weights covered is 1: weights that the calibration does not cover, which have
        importance 1, so count as average ones.

        Parameters
        ----------
        power : float
            Exponent applied to each weight's importance, more than 0 and at most 1. Second derivatives speak of small
            errors: where they are near 0, a coarse step may take half of a layer to 0, and then it matters after all.
            At 2.3 bits a weight, 0.75 saved four of seven residual networks from that, and gained the others nothing
            or cost them up to two points of accuracy (docs/codecs/transform.md).

        Raises
        ------
        ValueError
            For a power that is not in (0, 1].
        """
        if not 0 < power <= 1:
            raise ValueError(f"power must be more than 0 and at most 1, got {power!r}")
        found = {name: layer.importance(self.examples) for name, layer in self.items()}
        if power < 1:
            found = {name: array ** np.float32(power) for name, array in found.items()}
        total = sum(float(array.sum(dtype=np.float64)) for array in found.values())
        if total == 0:
            return {}
        scale = np.float32(sum(array.size for array in found.values()) / total)
        return {name: array * scale for name, array in found.items()}

    def save(self, path: str | PathLike[str]) -> None:
        """Write an ``.nncz`` file: a nested checkpoint, lossless."""
        layers = {
            name: {
                "shape": list(layer.shape),
                "input": layer.input,
                "mean": layer.mean,
                "output": layer.output,
                "vectors": layer.vectors,
                "common": layer.common,
                "coherence": layer.coherence,
            }
            for name, layer in self.items()
        }
        content = {"kind": _KIND, "version": _VERSION, "examples": self.examples, "layers": layers}
        from nncodec.api import save_file  # the API knows calibrations

        save_file(content, path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Calibration:
        """Read what :meth:`save` wrote. ValueError for another file or a newer version."""
        from nncodec.api import load_file

        content = load_file(path, framework="np")
        if not isinstance(content, Mapping) or content.get("kind") != _KIND:
            raise ValueError(f"{path!s} holds no calibration")
        if content["version"] > _VERSION:
            raise ValueError(
                f"{path!s} is of version {content['version']}; this release reads up to {_VERSION}"
            )
        layers = {
            name: LayerMoments(
                tuple(entry["shape"]),
                entry["input"],
                entry["mean"],
                entry["output"],
                entry["vectors"],
                entry.get("common", np.empty((0, 0, 0))),
                entry.get("coherence", 1.0),
            )
            for name, entry in content["layers"].items()
        }
        return cls(layers, content["examples"])


def calibrate(
    model: torch.nn.Module,
    batches: Iterable[Any],
    *,
    device: torch.device | str | None = None,
    progress: Callable[[int, int | None], object] | bool | None = None,
    sensitivity: bool = True,
    output: Callable[[Any], torch.Tensor] | None = None,
    seed: int = 0,
) -> Calibration:
    """Run a model on examples and collect the moments of its linear, convolution and embedding layers.

    Deterministic on one kind of machine. The model is left as it was: mode, weights, gradients, hooks, device.

    Parameters
    ----------
    model : torch.nn.Module
        Run in evaluation mode. Covered are ``nn.Linear``, ``nn.Conv1d/2d/3d`` and ``nn.Embedding`` modules that are
        called; not the insides of ``nn.MultiheadAttention``, recurrent and transposed layers, which have no importance
        afterwards. A weight that several modules share gets the sum, under its first name; one that is an embedding and
        a layer too, the sum over the layers.
    batches : iterable
        What the model takes: a tensor, a tuple of positional or a mapping of keyword arguments. A few hundred examples
        of the kind that the network will see. For a loader that gives labels too: ``(x for x, _ in loader)``.
    device : optional
        Where to run; a copy of the model goes there if it is elsewhere.
    progress : callable or True, optional
        Called as ``progress(batches_done, batches_in_all or None)``; True shows a bar (needs tqdm).
    sensitivity : bool
        Collect the output side too, which takes one backward pass per batch. Without it all layers count alike
        per unit of their own output.
    output : callable, optional
        From what the model returns to the tensor whose squared error shall be small, first axis the examples. Default:
        the model's output, if it is a tensor. For a classifier, ``lambda z: 2 * (z.log_softmax(-1) / 2).exp()`` makes
        it the Kullback-Leibler divergence of the predictions.
    seed : int
        Of the random signs that the output is projected on.

    Returns
    -------
    Calibration

    Raises
    ------
    TypeError
        Where the output is no tensor and ``output`` is not given.
    ValueError
        For no batches, or a model without a covered layer.
    """
    from nncodec.moments import Collector  # torch is optional

    try:
        total = len(batches)  # type: ignore[arg-type]
    except TypeError:  # a generator, or a DataLoader of an iterable data set
        total = None
    with Collector(model, device, sensitivity, output, seed) as collector:
        for done, batch in enumerate(_reported(batches, total, progress), 1):
            collector.run(batch)
            if callable(progress):
                progress(done, total)
        return Calibration(*collector.result())


def _reported(batches: Iterable[Any], total: int | None, progress: object) -> Iterable[Any]:
    if progress is not True:
        return batches
    from importlib import import_module

    bar: Iterable[Any] = import_module("tqdm").tqdm(batches, total=total, unit="batch")
    return bar
