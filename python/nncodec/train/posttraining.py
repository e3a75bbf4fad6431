"""Prune and quantise in one solve, without a gradient step.

The anchored schedule of :class:`MLPrune`, carried on after pruning: weights are frozen at a level of their layer's grid
or codebook instead of at 0, those with the largest error first, while many free ones can make up for it, and curvature
is measured anew on the network as it is. Levels and threshold go together as in an entropy-constrained quantiser: what
costs less loss at 0 than a share of a step squared is pruned, and one number for the whole network sets both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from nncodec.train.anchored import Anchored, Fisher, curvature, rise
from nncodec.train.base import Loader, Loss, Method, Run
from nncodec.train.batchnorm import fold_statistics
from nncodec.train.calibrating import warn_of_size
from nncodec.train.clusters import cluster_count, lloyd, nearest, start
from nncodec.train.exact import smallest_file
from nncodec.train.kfac import Factors, as_matrix
from nncodec.train.mlprune import MLPrune, Pruning, check_calibration
from nncodec.train.rounding import round_to_powers
from nncodec.train.surgeon import lowest

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["PostTraining"]

_SEARCH = 20
_MARGIN = 0.99  # of the size, that levels are chosen for: what is frozen later changes it a little
_TRIMS = 6
_TAIL = 1.5  # after a share s of the steps, (1 - s) ** _TAIL of the weights are free


@dataclass(frozen=True)
class PostTraining(Method):
    """Compress a trained network from a few thousand examples, to a size or to a sparsity.

    ``loader`` must show every class; its order does not matter. Its targets and ``loss`` are not used, but for the
    empirical Fisher matrix.

    Parameters
    ----------
    target : float, optional
        How small; or ``sparsity``.
    unit : {"ratio", "bytes", "bits"}
        Of the target: bytes of the state dict over those of the file, bytes of the file, or its bits per element.
    sparsity : float, optional
        Share of the weights that are 0 in the end.
    clusters : int, optional
        At most so many values a layer, 0 among them: a codebook. None: a uniform grid per layer, whose step follows
        from the target.
    prune_steps, steps : int
        In which weights are pruned, and in which the others are frozen at their level.
    dead_zone : float
        A weight is worth a level other than 0 from so many steps of the grid on.
    fisher, gamma, cap, examples, iterations, layers
        As in :class:`MLPrune`.
    corrected : bool
        Layers aim for the outputs of the original network, on the inputs that they get by now; otherwise for their
        original weights.
    batchnorm : bool
        Measure the running statistics of batch normalisations anew, and fold them into weight and bias in the end.
    precision : float
        Embeddings, and float parameters of fewer than two dimensions, are rounded to multiples of a power of two, at
        most this share of their root mean square; 0: not. Other weights that are not among the layers stay as they are.
    embedding_precision : float, optional
        The same for embeddings alone, which may be most of a file; None: as ``precision``.
    """

    target: float | None = None
    unit: Literal["ratio", "bytes", "bits"] = "ratio"
    sparsity: float | None = None
    clusters: int | None = None
    prune_steps: int = 8
    steps: int = 12
    dead_zone: float = 0.65
    fisher: Fisher = "true"
    gamma: float = 1e-4
    cap: float = 1.0
    examples: int = 2000
    iterations: int = 60
    corrected: bool = True
    batchnorm: bool = True
    precision: float = 1 / 32
    layers: tuple[str, ...] = ("*",)
    embedding_precision: float | None = None

    def __post_init__(self) -> None:
        if (self.target is None) == (self.sparsity is None):
            raise ValueError("give target or sparsity, one of them")
        if self.target is not None and not 0 < self.target < float("inf"):
            raise ValueError(f"target must be positive, got {self.target!r}")
        if self.unit not in ("ratio", "bytes", "bits"):
            raise ValueError(f"unit must be 'ratio', 'bytes' or 'bits', got {self.unit!r}")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity must be at least 0 and below 1, got {self.sparsity!r}")
        if self.clusters is not None:
            cluster_count(None, self.clusters)
        if not 0 < self.dead_zone <= 2:
            raise ValueError(f"dead_zone must be above 0 and at most 2, got {self.dead_zone!r}")
        if not 0 <= self.precision < float("inf"):
            raise ValueError(f"precision must be at least 0, got {self.precision!r}")
        if self.embedding_precision is not None and not 0 <= self.embedding_precision < float("inf"):
            raise ValueError(f"embedding_precision must be at least 0, got {self.embedding_precision!r}")
        if not 0 < self.cap <= 1:
            raise ValueError(f"cap must be above 0 and at most 1, got {self.cap!r}")
        if self.prune_steps < 1:
            raise ValueError("prune_steps must be at least 1")
        check_calibration(self.steps, self.examples, self.iterations, self.gamma, self.fisher)

    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        return _Quantising(self, model, loader, loss)

    def _pruning(self) -> MLPrune:
        """The first half. Its sparsity is not used where there is a target."""
        return MLPrune(
            sparsity=self.sparsity or 0.0,
            steps=self.prune_steps,
            fisher=self.fisher,
            gamma=self.gamma,
            cap=self.cap,
            examples=self.examples,
            iterations=self.iterations,
            batchnorm=self.batchnorm,
            compensation="corrected" if self.corrected else "anchored",
            layers=self.layers,
        )


class _Quantising(Pruning):
    """Units: the steps of pruning, those of quantising, and one in which values settle and the rest is rounded."""

    def __init__(self, method: PostTraining, model: nn.Module, loader: Loader, loss: Loss) -> None:
        super().__init__(method._pruning(), model, loader, loss)
        self.options = method
        self.alive = {name: torch.ones_like(layer.free) for name, layer in self.layers.items()}
        self.levels: dict[str, Tensor] = {}
        self.steps: dict[str, float] = {}
        self.correction = 1.0  # bytes of a real file over those foreseen
        self.growth = 1.0  # of the bytes foreseen, by compensation, which makes weights larger
        state = model.state_dict()
        self.raw = sum(value.numel() * value.element_size() for value in state.values())
        self.elements = sum(value.numel() for value in state.values())
        self.plan = [("prune", n, method.prune_steps) for n in range(method.prune_steps)]
        self.plan += [("quantise", n, method.steps) for n in range(method.steps)]
        self.plan += [("settle", 0, 1)]

    def unit(self, index: int) -> dict[str, Any]:
        kind, number, of = self.plan[index]
        if kind == "prune":
            row = self._prune(number, index)
            if number + 1 == of:
                with torch.no_grad():
                    self._make_levels()
            return row
        self.factors = curvature(self.model, self.calibration, self.options.fisher, self.loss, index)
        with torch.no_grad():
            damped = {name: self.factors[name].damped(self.options.gamma) for name in self.layers}
            self._shift(damped)
            return self._quantise(number, of, damped) if kind == "quantise" else self._settle(damped)

    # --- sizes

    @property
    def limit(self) -> float | None:
        """Bytes that the file may have."""
        target = self.options.target
        if target is None or self.options.unit == "bytes":
            return target
        return float(self.raw / target if self.options.unit == "ratio" else self.elements * target / 8)

    def _goal(self, scores: Mapping[str, Tensor]) -> int:
        """How many weights keep a level other than 0, and the step of each layer's grid."""
        every = torch.cat([score.reshape(-1) for score in scores.values()])
        ordered = every.sort(descending=True).values
        spread = {name: self._weight_of(name, scores[name]) for name in self.layers}
        limit = self.limit
        if limit is None:
            goal = super()._goal(scores)
            self._set_steps(ordered, goal, spread)
            return goal
        rest = self._rest()
        low, high = len(self.layers), self.kept()
        for _ in range(_SEARCH):
            middle = math.isqrt(low * high)
            if middle in (low, high):
                break
            self._set_steps(ordered, middle, spread)
            masks = {name: score >= ordered[middle - 1] for name, score in scores.items()}
            if rest + self.correction * self.growth * self._foreseen(masks) <= limit:
                low = middle
            else:
                high = middle
        self._set_steps(ordered, low, spread)
        # Once more, with what the codecs make of it.
        masks = {name: score >= ordered[low - 1] for name, score in scores.items()}
        made = {name: self._placed(name, masks[name]) for name in self.layers}
        real = self._sizes(False)(made) - rest
        foreseen = self._foreseen(masks)
        self.correction = min(max(real / max(foreseen, 1.0), 0.3), 3.0)
        return low

    def _compensate(self, damped: Mapping[str, Factors]) -> float:
        if self.limit is None:
            return super()._compensate(damped)
        kept = {name: layer.free for name, layer in self.layers.items()}
        before = self._foreseen(kept)
        residual = super()._compensate(damped)
        self.growth = min(max(self._foreseen(kept) / before, 1.0), 2.0)
        return residual

    def _weight_of(self, name: str, scores: Tensor) -> float:
        """Twice the loss over the weight squared, on average over what is left of a layer."""
        layer = self.layers[name]
        squares = (layer.weight.double() ** 2)[layer.free].sum()
        return float(2 * scores[layer.free].double().sum() / squares) if float(squares) > 0 else 0.0

    def _set_steps(self, ordered: Tensor, goal: int, spread: Mapping[str, float]) -> None:
        """Grids on which the price of the cheapest weight that stays is that of the dead zone."""
        threshold = float(ordered[max(goal, 1) - 1].clamp_min(torch.finfo(torch.float32).tiny))
        for name, weight in spread.items():
            largest = float(self.layers[name].weight.abs().max())
            step = math.sqrt(2 * threshold / weight) / self.options.dead_zone if weight > 0 else largest
            self.steps[name] = min(max(step, largest / 500), max(largest, 1e-30))

    def _rounded(self, name: str, survivors: Tensor) -> Tensor:
        """Weights that are to stay, on the grid or codebook; none becomes 0."""
        if self.options.clusters is not None:
            book = self._book(survivors)
            return book[nearest(survivors, book)] if len(survivors) else survivors
        level = (survivors / self.steps[name]).round()
        level = torch.where(level == 0, survivors.sign(), level)
        return level * self.steps[name]

    def _book(self, survivors: Tensor) -> Tensor:
        assert self.options.clusters is not None
        count = self.options.clusters - 1
        book = start(survivors, count, False)
        return lloyd(survivors, book, torch.ones_like(book, dtype=torch.bool))

    def _foreseen(self, kept: Mapping[str, Tensor]) -> float:
        """Bytes of all layers at the entropy of their levels, with four for each level."""
        total = 0.0
        for name, layer in self.layers.items():
            survivors = layer.weight[kept[name]]
            counts = self._rounded(name, survivors).unique(return_counts=True)[1].double()
            zeros = counts.new_tensor([max(1, layer.weight.numel() - len(survivors))])
            counts = torch.cat((zeros, counts))
            total += float((counts * torch.log2(counts.sum() / counts)).sum()) / 8 + 4 * len(counts)
        return total

    def _placed(self, name: str, kept: Tensor) -> Tensor:
        """A layer's weights on its grid, those that are not kept at 0."""
        weight = self.layers[name].weight
        made = torch.zeros_like(weight)
        made[kept] = self._rounded(name, weight[kept]).to(made.dtype)
        return made

    def _finished(self) -> dict[str, Any]:
        """The state dict as it would be, were this the end."""
        model = deepcopy(self.model)
        self._finish(model)
        found: dict[str, Any] = model.state_dict()
        return found

    def _rest(self) -> int:
        """Bytes of a file without these layers."""
        import nncodec  # the engine is needed for files alone

        state = self._finished()
        for name in self.layers:
            del state[name]
        return len(nncodec.encode(state, smallest_file(state, thorough=False)))

    def _sizes(self, thorough: bool) -> Callable[[Mapping[str, Tensor]], int]:
        """A function from the layers' weights to the bytes of the file, by the codecs that suit the first it gets."""
        import nncodec  # the engine is needed for files alone

        state = self._finished()
        codec: dict[str, str | Codec] = {}

        def size(weights: Mapping[str, Tensor]) -> int:
            state.update({name: weight.detach() for name, weight in weights.items()})
            if not codec:
                codec.update(smallest_file(state, thorough=thorough))
            return len(nncodec.encode(state, codec))

        return size

    # --- quantising

    def _make_levels(self) -> None:
        """The values of each layer, ascending, without 0; what is pruned stays at 0."""
        limit = self.limit
        if limit is not None and self.options.clusters is None:
            self._widen(limit * _MARGIN)
        for name, layer in self.layers.items():
            self.alive[name] = layer.free.clone()
            survivors = layer.weight[layer.free]
            if self.options.clusters is not None:
                self.levels[name] = self._book(survivors) if len(survivors) else survivors.float()
            else:
                step = self.steps[name]
                most = max(1, math.ceil(2 * float(layer.weight.abs().max()) / step))
                whole = torch.arange(1, most + 1, device=survivors.device, dtype=torch.float32)
                self.levels[name] = torch.cat((-whole.flip(0), whole)) * step

    def _widen(self, limit: float) -> None:
        """Steps larger by a common factor, for compensation has made the weights larger since they were chosen."""
        steps = dict(self.steps)
        size = self._sizes(True)

        def fits(factor: float) -> bool:
            self.steps = {name: step * factor for name, step in steps.items()}
            return (
                size({name: self._placed(name, layer.free) for name, layer in self.layers.items()}) <= limit
            )

        low, high = 1.0, 1.0
        while not fits(high) and high < 4:
            low, high = high, high * 1.1
        while high > 1 and high - low > 0.01:
            middle = (low + high) / 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        self.steps = {name: step * high for name, step in steps.items()}

    def _near(self, name: str) -> Tensor:
        levels, weight = self.levels[name], self.layers[name].weight
        if not len(levels):
            return torch.zeros_like(weight)
        return levels[nearest(weight, levels)].to(weight.dtype)

    def _quantise(self, step: int, of: int, damped: Mapping[str, Factors]) -> dict[str, Any]:
        """Freeze those of the largest weighted error, and let the others make up for it."""
        free = self.kept()
        total = sum(int(alive.sum()) for alive in self.alive.values())
        left = round(total * (1 - (step + 1) / of) ** _TAIL)
        scores = {
            name: torch.where(
                layer.free,
                -((layer.weight - self._near(name)) ** 2) * layer.of_weights(damped[name].diagonal()),
                torch.inf,
            )
            for name, layer in self.layers.items()
        }
        every = torch.cat([score.reshape(-1) for score in scores.values()])
        chosen = torch.zeros_like(every, dtype=torch.bool)
        chosen[every.argsort(stable=True)[: free - left]] = True
        parts = chosen.split([score.numel() for score in scores.values()])
        residual = 0.0
        for (name, layer), part in zip(self.layers.items(), parts, strict=True):
            now = part.reshape(layer.weight.shape) & layer.free
            layer.weight.copy_(torch.where(now, self._near(name), layer.weight))
            layer.free &= ~now
            residual = max(residual, layer.compensate(damped[name], self.options.iterations))
        if self.options.batchnorm:
            self._normalise()
        return {
            "quantise": step,
            "free": self.kept() / self.weights,
            "predicted_rise": rise(self.layers, damped),
            "residual": residual,
        }

    def _settle(self, damped: Mapping[str, Factors]) -> dict[str, Any]:
        """Values of levels and biases to where the loss is least, fewer weights if the file is too large, the rest."""
        self._fit(damped)
        for name, layer in self.layers.items():
            _move_values(layer, damped[name], self.options.clusters is not None)
            layer.compensate(damped[name], self.options.iterations)  # biases
        if self.options.batchnorm:
            self._normalise()
        self._finish(self.model)
        self._trim(damped)
        self._check_size()
        nonzero = sum(int(layer.weight.count_nonzero()) for layer in self.layers.values())
        return {
            "settle": 0,
            "sparsity": 1 - nonzero / self.weights,
            "values": {name: int(layer.weight.unique().numel()) for name, layer in self.layers.items()},
            "predicted_rise": rise(self.layers, damped),
        }

    def _fit(self, damped: Mapping[str, Factors]) -> None:
        """Prune what is worth least until the file fits; no other weight is free to make up for it."""
        limit = self.limit
        if limit is None:
            return
        scores = self._by_worth(damped)
        size = self._sizes(True)

        def fits(count: int) -> bool:
            gone = lowest(scores, count, 1.0)
            return limit >= size(
                {name: layer.weight.masked_fill(gone[name], 0.0) for name, layer in self.layers.items()}
            )

        low = sum(int((layer.weight == 0).sum()) for layer in self.layers.values())
        step = tolerance = max(1, (self.weights - low) // 500)
        if fits(low):
            return
        high = low + step
        while high < self.weights and not fits(high):
            low, step = high, 2 * step
            high = low + step
        while high - low > tolerance:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        self._zero(lowest(scores, high, 1.0))

    def _trim(self, damped: Mapping[str, Factors]) -> None:
        """The last bytes over the limit, now that the file is known."""
        import nncodec  # the engine is needed for files alone

        limit = self.limit
        for _ in range(_TRIMS if limit is not None else 0):
            assert limit is not None
            state = self.model.state_dict()
            size = len(nncodec.encode(state, smallest_file(state)))
            if size <= limit:
                return
            scores = self._by_worth(damped)
            nonzero = sum(int(layer.weight.count_nonzero()) for layer in self.layers.values())
            more = math.ceil(nonzero * min(0.2, 1.2 * (1 - limit / size)))
            self._zero(lowest(scores, self.weights - nonzero + more, 1.0))

    def _check_size(self) -> None:
        import nncodec  # the engine is needed for files alone

        limit = self.limit
        if limit is not None:
            size = len(nncodec.encode(self.model.state_dict(), self.codec()))
            if size > 1.01 * limit:
                warn_of_size(size, limit)

    def _by_worth(self, damped: Mapping[str, Factors]) -> dict[str, Tensor]:
        """What each frozen weight would cost at 0; those that are there come first."""
        return {
            name: torch.where(
                layer.weight != 0, layer.weight**2 * layer.of_weights(damped[name].diagonal()), -torch.inf
            )
            for name, layer in self.layers.items()
        }

    def _zero(self, gone: Mapping[str, Tensor]) -> None:
        for name, layer in self.layers.items():
            layer.weight.masked_fill_(gone[name], 0.0)

    def _finish(self, model: nn.Module) -> None:
        """Fold statistics, round what is no weight of these layers."""
        if self.options.batchnorm:
            fold_statistics(model)
        precision = self.options.precision
        of_embeddings = self.options.embedding_precision
        if of_embeddings is None:
            of_embeddings = precision
        # By identity: an embedding may share a layer's weight, and then its name comes first.
        solved = {id(model.get_parameter(name)) for name in self.layers}
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        with torch.no_grad():
            for p in model.parameters():
                if id(p) in solved or not p.is_floating_point():
                    continue
                if id(p) in embeddings and of_embeddings:
                    round_to_powers(p, of_embeddings)
                elif id(p) not in embeddings and p.ndim < 2 and precision:
                    round_to_powers(p, precision)

    # --- outcome

    def state(self) -> dict[str, Any]:
        more = {
            "alive": self.alive,
            "levels": self.levels,
            "steps": self.steps,
            "correction": self.correction,
            "growth": self.growth,
        }
        return super().state() | more

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        for name, layer in self.layers.items():
            device = layer.weight.device
            self.alive[name] = state["alive"][name].to(device)
            if name in state["levels"]:
                self.levels[name] = state["levels"][name].to(device)
        self.steps = dict(state["steps"])
        self.correction, self.growth = state["correction"], state["growth"]

    def codec(self) -> Mapping[str, str | Codec]:
        return smallest_file(self.model.state_dict())


def _move_values(layer: Anchored, of: Factors, each: bool) -> None:
    """The least-squares values of a layer's levels, each for itself, or all by one factor (a grid stays one)."""
    weight = layer.weight
    values = weight[weight != 0].unique()
    if not len(values):
        return
    wanted = layer.target if layer.shifted is None else layer.of_weights(layer.shifted)
    if of.bias:  # a free bias takes what it can of any change: the Schur complement is left
        a = of.input
        rest = a[:, :-1, :-1] - a[:, :-1, -1:] * a[:, -1:, :-1] / a[:, -1:, -1:]
        of = Factors(rest, of.output, False)
    dtype = of.input.dtype
    target = as_matrix(of, wanted, None).to(dtype)
    parts = [(weight == value).to(dtype) for value in values] if each else [weight.to(dtype)]
    basis = [as_matrix(of, part, None) for part in parts]
    images = [of.product(matrix) for matrix in basis]
    left = torch.tensor([[float((a * b).sum()) for b in images] for a in basis], dtype=torch.float64)
    right = torch.tensor([float((target * b).sum()) for b in images], dtype=torch.float64)
    scale = left.diagonal().sqrt().clamp_min(1e-30)
    solved = torch.linalg.lstsq(left / scale[:, None] / scale, right / scale, driver="gelsd").solution / scale
    made = sum(float(solved[i]) * part for i, part in enumerate(parts))
    weight.copy_(torch.as_tensor(made).to(weight.dtype))
