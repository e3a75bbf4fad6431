"""Weightless: layer after layer is pruned, clustered, put into a filter, and frozen as it decodes.

After Reagen, Gupta, Adolf, Mitzenmacher, Rush, Wei and Brooks, "Weightless: Lossy weight encoding for deep neural
network compression", ICML 2018 (arXiv 1711.04686). The filter is codec ``weightless``: zeros of a layer are looked up,
too, and some come back as weights; the layers behind are retrained on what comes out. The fewer bits a cell has, the
more such false positives there are, so the bits are chosen by what the network still can do.

Pruning is that of Guo, Yao and Chen, "Dynamic network surgery", NIPS 2016: weights that are masked go on learning, and
may come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from nncodec.train.base import Loader, Loss, Method, Run, codec_mapping
from nncodec.train.exact import choices
from nncodec.train.steps import (
    Descent,
    call,
    check_descent,
    compressible,
    cosine,
    descent,
    device_of,
    epoch,
    evaluating,
    first_examples,
    length,
    moved,
)

if TYPE_CHECKING:  # the engine is needed for filters alone, the other methods run without it
    from nncodec.codecs import Codec
    from nncodec.codecs.weightless import Weightless as WeightlessCodec

__all__ = ["Weightless"]

_MASK_EVERY = 16  # steps
_SHARE_VALUE = 4  # biases that share a value, at least
_SCORED = 4096  # examples of the loader that stand for all where there is no score


@dataclass(frozen=True)
class Weightless(Method):
    """Prune all layers; then one after the other cluster, encode, freeze as decoded, and retrain those behind.

    Parameters
    ----------
    density : float or mapping of str to float
        Share of a layer's weights that are kept: one for all, or by glob patterns over names of weights, the first
        match wins.
    clusters : int
        Values that the weights of a layer have.
    cell_bits : sequence of int
        Candidates. The fewest are taken with which the score falls by ``tolerance`` at most when the layer is encoded;
        exact mode where it takes less, or where none of them will do.
    tolerance : float
        In units of the score.
    score : callable, optional
        ``score(model)``, the greater the better, such as the accuracy on held-out examples. None: minus the loss on
        the loader's first batches.
    layers : sequence of str
        Glob patterns over names of weights (``"fc*.weight"``) of linear and convolution layers.
    exact_below : int
        Layers of fewer weights are encoded exactly: their false positives would save nothing.
    smallest : bool
        What is stored exactly is left to codec ``lossless``, ``codebook`` or ``universal`` where one of them takes
        fewer bytes; it can't be looked up then. False: every layer is in a filter.
    bias_density : float, optional
        Biases of these layers are pruned to this share, clustered and encoded exactly (with ``smallest``, by codec
        ``lossless``, which puts them all in one record); None: they stay as they are.
    structure : {"ribbon", "bloomier"}
        Of the filter.
    seeds : int
        With more than one, so many seeds of the filter's hashes are tried, and the one taken whose false positives do
        the least harm: the sum of squared values, weighed by the squared gradients of the loss (the diagonal of the
        Fisher information).
    prune_epochs, retrain_epochs : int
        Of all layers at first; and after each layer that was encoded.
    ramp : float
        Share of the pruning epochs after which layers are as sparse as they will be; in the rest they settle.
    splice : float
        Share of the pruning epochs in which weights may come back; after it masks stay, and what is left is trained.
        Adam moves masked weights as fast as others, so that they displace useful ones again and again: take little
        more than ``ramp`` with it.
    optimizer : {"sgd", "adam"}
        Stochastic gradient descent, or Adam, with which sparse networks without normalisation learn in fewer epochs.
    learning_rate, momentum, weight_decay : float
        Of the optimiser (Adam takes no momentum); the rate falls along a cosine while pruning, and is a tenth while
        retraining.
    """

    density: float | Mapping[str, float] = 0.05
    clusters: int = 9
    cell_bits: Sequence[int] = (6, 7, 8, 9, 10, 11, 12)
    tolerance: float = 0.01
    score: Callable[[nn.Module], float] | None = field(default=None, repr=False)
    layers: Sequence[str] = ("*",)
    exact_below: int = 10_000
    smallest: bool = False
    bias_density: float | None = None
    structure: Literal["ribbon", "bloomier"] = "ribbon"
    seeds: int = 1
    prune_epochs: int = 10
    retrain_epochs: int = 2
    ramp: float = 0.7
    splice: float = 1.0
    optimizer: Descent = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        shares = self.density.values() if isinstance(self.density, Mapping) else (self.density,)
        for share in [*shares, *([] if self.bias_density is None else [self.bias_density])]:
            if not 0 < share <= 1:
                raise ValueError(f"density must be above 0 and at most 1, got {share!r}")
        if not self.cell_bits or list(self.cell_bits) != sorted(set(self.cell_bits)):
            raise ValueError(f"cell_bits must ascend, got {self.cell_bits!r}")
        if min(self.prune_epochs, self.retrain_epochs) < 0 or self.seeds < 1:
            raise ValueError("epochs must not be negative, and there must be a seed")
        if not 0 < self.ramp <= 1:
            raise ValueError(f"ramp must be above 0 and at most 1, got {self.ramp!r}")
        if not self.ramp <= self.splice <= 1:
            raise ValueError(f"splice must be at least ramp and at most 1, got {self.splice!r}")
        check_descent(self.optimizer)
        from nncodec.codecs.weightless import Weightless as WeightlessCodec

        for bits in self.cell_bits:
            WeightlessCodec(cell_bits=bits, clusters=self.clusters, structure=self.structure)

    def _options(self) -> str:
        return replace(self, score=None)._all_options()

    def _all_options(self) -> str:
        return super()._options()

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Run(self, model, loader, loss)


class _Run(Run):
    """Weights that are not frozen yet live twice: in the model, masked, and here, as if they were not."""

    def __init__(self, options: Weightless, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(model, loader, loss)
        self.options = options
        self.layers = compressible(model, options.layers)
        self.names = list(self.layers)
        parameters = dict(model.named_parameters())
        self.weights: dict[str, nn.Parameter] = {name: parameters[name] for name in self.names}
        if options.bias_density is not None:
            biases = [name.removesuffix("weight") + "bias" for name in self.names]
            self.weights |= {name: parameters[name] for name in biases if name in parameters}
        self.dense = {name: p.detach().clone() for name, p in self.weights.items()}
        self.masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in self.weights.items()}
        self._shown: list[tuple[Any, Any]] = []  # what one layer's cells are judged by
        # A filter and its bytes, or the exact codec that has the layer.
        self.frozen: dict[str, tuple[WeightlessCodec, tuple[bytes, ...]] | str | Codec] = {}

    @property
    def units(self) -> int:
        return self.options.prune_epochs + len(self.names) * (1 + self.options.retrain_epochs)

    def unit(self, index: int) -> dict[str, Any]:
        options = self.options
        if index < options.prune_epochs:
            return self._train(index / options.prune_epochs, 1 / options.prune_epochs)
        layer, step = divmod(index - options.prune_epochs, 1 + options.retrain_epochs)
        if step > 0:
            return self._train(1.0, 0.0)
        self._shown = list(first_examples(self.loader, _SCORED))
        row = self._encode(self.names[layer])
        bias = self.names[layer].removesuffix("weight") + "bias"
        if bias in self.dense:
            self._encode(bias)
        self._shown = []
        return row

    def codec(self) -> Mapping[str, str | Codec]:
        return codec_mapping(
            {
                name: replace(kept[0], encoded=kept[1]) if isinstance(kept, tuple) else kept
                for name, kept in self.frozen.items()
                if kept != "lossless"
            }
        )

    def state(self) -> dict[str, Any]:
        return {
            "dense": dict(self.dense),
            "masks": {name: self.masks[name] for name in self.dense},
            "frozen": {
                name: [kept[0].cell_bits, kept[0].exact, kept[0].seed, list(kept[1])]
                if isinstance(kept, tuple)
                else [_name(kept)]
                for name, kept in self.frozen.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        device = device_of(self.model)
        self.dense = {name: value.to(device) for name, value in state["dense"].items()}
        self.masks = {name: value.to(device) for name, value in state["masks"].items()}
        for name, kept in state["frozen"].items():
            self.weights[name].requires_grad_(False)
            if len(kept) == 1:  # the weights are in place already
                self.frozen[name] = next(c for c in choices(self.weights[name]) if _name(c) == kept[0])
            else:
                self.frozen[name] = self._codec(*kept[:3]), tuple(kept[3])

    # Pruning and training

    def _share(self, name: str) -> float:
        options = self.options
        if self.weights[name].ndim < 2:
            return 1.0 if options.bias_density is None else options.bias_density
        if not isinstance(options.density, Mapping):
            return options.density
        for pattern, share in options.density.items():
            if fnmatchcase(name, pattern):
                return share
        return 1.0

    def _mask(self, progress: float) -> None:
        """Keep the greatest; their share falls from 1 as the cube of what is left of the ramp."""
        if progress > self.options.splice and self.options.prune_epochs:
            return
        left = max(0.0, 1 - progress / self.options.ramp)
        for name, dense in self.dense.items():
            share = self._share(name)
            keep = max(1, round((share + (1 - share) * left**3) * dense.numel()))
            order = dense.abs().flatten()
            threshold = order.kthvalue(order.numel() - keep + 1).values
            self.masks[name] = dense.abs() >= threshold

    def _train(self, start: float, share: float) -> dict[str, Any]:
        """An epoch, ``start`` to ``start + share`` of the way of pruning."""
        options = self.options
        steps = length(self.loader)
        done = 0
        masked: dict[str, Tensor] = {}

        def before() -> None:
            nonlocal done
            with torch.no_grad():
                if done % _MASK_EVERY == 0:
                    self._mask(start + share * done / steps if steps else start)
                for name, dense in self.dense.items():
                    masked[name] = dense * self.masks[name]
                    self.weights[name].copy_(masked[name])
            done += 1

        def after() -> None:
            with torch.no_grad():
                for name, dense in self.dense.items():
                    dense += self.weights[name] - masked[name]

        trained = [p for p in self.model.parameters() if p.requires_grad]
        if not trained:  # all is encoded, and there was nothing else
            return {"step": "retrain", "weights": 0}
        optimizer = descent(
            options.optimizer, trained, options.learning_rate, options.momentum, options.weight_decay
        )
        self.model.train()

        def rate(done: float) -> float:
            if share == 0:
                return options.learning_rate / 10
            return max(cosine(options.learning_rate, start + share * done), options.learning_rate / 100)

        value = epoch(self.model, self.loader, self.loss, optimizer, rate=rate, before=before, after=after)
        with torch.no_grad():
            self._mask(start + share)
            for name, dense in self.dense.items():
                self.weights[name].copy_(dense * self.masks[name])
        kept = {name: int(self.masks[name].sum()) for name in self.dense}
        return {"step": "prune" if share else "retrain", "loss": value, "weights": sum(kept.values())}

    # Encoding

    def _codec(self, bits: int | None, exact: bool, seed: int) -> WeightlessCodec:
        from nncodec.codecs.weightless import Weightless as WeightlessCodec

        return WeightlessCodec(
            bits, self.options.structure, exact=exact, clusters=self.options.clusters, seed=seed
        )

    def _encode(self, name: str) -> dict[str, Any]:
        options, weight = self.options, self.weights[name]
        pruned = weight.detach().clone()
        exact = weight.numel() < options.exact_below
        in_full = self._codec(None, True, 0)
        if weight.ndim < 2:  # a value is worth its four bytes from some biases on
            ones = int(pruned.count_nonzero())
            in_full = replace(in_full, clusters=max(1, min(options.clusters, ones // _SHARE_VALUE)))
        chosen, encoded = self._try(name, pruned, in_full)
        exact_bytes = _size(encoded)
        sizes = _coded_bytes(name, weight.detach())
        order0_bytes = _order0_bytes(weight.detach())
        least = min(exact_bytes, *sizes.values()) if options.smallest else exact_bytes
        row: dict[str, Any] = {"step": "encode", "layer": name}
        if not exact:
            before = self._score()
            for bits in options.cell_bits:
                chosen = self._codec(bits, False, 0)
                if options.seeds > 1:
                    chosen, costs = self._harmless(name, pruned, chosen)
                    row |= {"harm_of_first_seed": costs[0], "harm": min(costs)}
                chosen, encoded = self._try(name, pruned, chosen)
                after = self._score()
                row |= {"score_exact": before, "score": after, "lossy_bytes": _size(encoded)}
                fits = after >= before - options.tolerance
                if fits or _size(encoded) >= least:
                    break
            if not fits or _size(encoded) >= least:  # it takes so many bits that false positives save nothing
                chosen, encoded = self._try(name, pruned, in_full)
        size, how = _size(encoded), "weightless"
        self.frozen[name] = chosen, encoded
        if options.smallest and chosen.exact and (least < size or weight.ndim < 2):
            # Biases are left to one codec, for then they share a record.
            how = min(sizes, key=sizes.__getitem__) if weight.ndim > 1 else "lossless"
            size = sizes[how]
            self.frozen[name] = next(c for c in choices(weight) if _name(c) == how)
        weight.requires_grad_(False)
        del self.dense[name]
        ones = int(pruned.count_nonzero())
        return row | {
            "elements": weight.numel(),
            "weights": ones,
            "cell_bits": encoded[0][1] if how == "weightless" else 0,
            "false_positives": int((weight != 0).sum()) - ones,
            "codec": how,
            "bytes": size,
            "exact_bytes": exact_bytes,
            **{f"{coder}_bytes": size for coder, size in sizes.items()},
            "order0_bytes": order0_bytes,
        }

    def _try(
        self, name: str, pruned: Tensor, codec: WeightlessCodec
    ) -> tuple[WeightlessCodec, tuple[bytes, ...]]:
        """Encode a weight and let the model have what decodes."""
        from nncodec.codecs.weightless import decoded
        from nncodec.tensors import leaf

        encoded = _encoded(codec, name, pruned)
        dtype = leaf(name, pruned).dtype
        numbers = torch.from_numpy(decoded(encoded, dtype.code, pruned.numel())).view(pruned.dtype)
        with torch.no_grad():
            self.weights[name].copy_(numbers.reshape(pruned.shape))
        return codec, encoded

    def _score(self) -> float:
        with evaluating(self.model), torch.no_grad():
            if self.options.score is not None:
                return float(self.options.score(self.model))
            device = device_of(self.model)
            losses = [
                float(self.loss(call(self.model, moved(x, device)), moved(y, device))) for x, y in self._shown
            ]
        return -sum(losses) / len(losses)

    def _harmless(
        self, name: str, pruned: Tensor, codec: WeightlessCodec
    ) -> tuple[WeightlessCodec, list[float]]:
        """The codec with the seed whose false positives cost least, and what those of each seed cost."""
        self._try(name, pruned, codec)
        importance = self._squared_gradients(name)
        costs = []
        for seed in range(self.options.seeds):
            self._try(name, pruned, replace(codec, seed=seed))
            wrong = self.weights[name].detach() * (pruned == 0)
            costs.append(float((importance * wrong.double() ** 2).sum()))
        return replace(codec, seed=int(np.argmin(costs))), costs

    def _squared_gradients(self, name: str) -> Tensor:
        weight = self.weights[name]
        device = device_of(self.model)
        total = torch.zeros_like(weight, dtype=torch.float64)
        with evaluating(self.model):
            for x, y in self._shown:
                value = self.loss(call(self.model, moved(x, device)), moved(y, device))
                (gradient,) = torch.autograd.grad(value, weight)
                total += gradient.double() ** 2
        return total


def _encoded(codec: Codec, name: str, weight: Tensor) -> tuple[bytes, ...]:
    """A weight's model and chunks."""
    from nncodec.codecs.base import Part
    from nncodec.tensors import leaf

    source = leaf(name, weight)
    made = codec.encode([Part(source.dtype.code, (source.shape,), source.data(), (name,))], None, 0)[0]
    return (made.model, *(bytes(chunk) for chunk in made.chunks))


def _name(codec: str | Codec) -> str:
    return codec if isinstance(codec, str) else codec.name


def _coded_bytes(name: str, weight: Tensor) -> dict[str, int]:
    """What exact coders take, by the codec's name."""
    from nncodec.codecs.lossless import Lossless

    coders = (Lossless() if isinstance(codec, str) else codec for codec in choices(weight))
    return {coder.name: _size(_encoded(coder, name, weight)) for coder in coders}


def _size(encoded: tuple[bytes, ...]) -> int:
    return sum(map(len, encoded))


def _order0_bytes(weight: Tensor) -> float:
    """What an ideal coder takes that knows how often each value is there, zero included, and nothing else."""
    counts = torch.unique(weight, return_counts=True)[1].double()
    return float(-(counts * torch.log2(counts / counts.sum())).sum()) / 8
