"""Methods one after the other, and the file that comes out: prune, then quantise, then encode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nncodec.modules import evaluating
from nncodec.train.base import History, Loader, Loss, Method, Result
from nncodec.train.exact import smallest_file

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["Pipeline", "PipelineResult", "Stage"]


@dataclass(frozen=True)
class Stage:
    """One row of a pipeline's table.

    Attributes
    ----------
    name : str
        ``"original"``, then the methods' names.
    bytes : int
        Of the file that holds the weights as they are after this stage, exactly.
    ratio : float
        How many times smaller that is than the original's tensors.
    nonzero : float
        Share of the elements of all parameters that are not 0.
    score : float or None
        What the caller's ``score`` says of the network.
    """

    name: str
    bytes: int
    ratio: float
    nonzero: float
    score: float | None


@dataclass(frozen=True)
class PipelineResult(Result):
    """Also the file, and the table.

    Attributes
    ----------
    file : bytes
        What ``nncodec.encode`` makes of the model.
    stages : tuple of Stage
        The original first.
    """

    file: bytes = b""
    stages: tuple[Stage, ...] = ()

    def table(self) -> str:
        """The stages as lines of text."""
        scores = ["" if s.score is None else f"{s.score:.4g}" for s in self.stages]
        width = max(len(s.name) for s in self.stages)
        lines = [f"{'stage':{width}}  {'bytes':>12}  {'ratio':>8}  {'nonzero':>8}  {'score':>8}"]
        for stage, score in zip(self.stages, scores, strict=True):
            lines.append(
                f"{stage.name:{width}}  {stage.bytes:12,}  {stage.ratio:8.1f}  {stage.nonzero:8.2%}  {score:>8}"
            )
        return "\n".join(lines)


class Pipeline:
    """Chain methods; each starts from the network that the one before it left.

    ``Pipeline([MLPrune(sparsity=0.98), StraightThrough(clusters=5, sparse=True)], score=accuracy)`` has the interface
    of a method: ``.fit(model, loader, loss)``.

    Parameters
    ----------
    stages : sequence of Method
        In this order. Their ``progress``, ``checkpoint`` and ``device`` are replaced by those given here.
    score : callable, optional
        Model to a number for the table, such as the accuracy on held-out examples.
    folder : path, optional
        Where each stage keeps its checkpoint, so that the whole can be interrupted and goes on from its last unit.
    progress : callable or True, optional
        Called as ``progress(units_done, units_in_all)`` of each stage; True shows a bar for each.
    path : path, optional
        The file is also written here.
    device : optional
        Where to train; default: where the model is.
    """

    def __init__(
        self,
        stages: Sequence[Method],
        *,
        score: Callable[[nn.Module], float] | None = None,
        folder: str | PathLike[str] | None = None,
        progress: Callable[[int, int], object] | bool | None = None,
        path: str | PathLike[str] | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if not stages:
            raise ValueError("stages: there must be one")
        for stage in stages:
            if not isinstance(stage, Method):
                raise TypeError(f"stages must be methods of nncodec.train, got {stage!r}")
        self.stages = tuple(stages)
        self.score = score
        self.folder = None if folder is None else Path(folder)
        self.progress = progress
        self.path = path
        self.device = device

    def fit(self, model: nn.Module, loader: Loader, loss: Loss) -> PipelineResult:
        """Run all stages. The caller's model is left as it was."""
        import nncodec  # the engine is needed for files alone

        work = deepcopy(model)
        if self.device is not None:
            work = work.to(self.device)
        raw = sum(value.numel() * value.element_size() for value in work.state_dict().values())
        history: History = []
        importance: Mapping[str, Any] = {}
        rows = [self._row("original", work, raw, len(nncodec.encode(work.state_dict())))]
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        codec: Mapping[str, str | Codec] = {}
        blob = b""
        for number, stage in enumerate(self.stages):
            name = type(stage).__name__
            checkpoint = None if self.folder is None else self.folder / f"{number}-{name}.nncz"
            ready = replace(stage, progress=self.progress, checkpoint=checkpoint, device=None, inplace=True)
            result = ready.fit(work, loader, loss)
            history += [{"stage": number, "method": name} | row for row in result.history]
            importance = result.importance or importance
            codec = _exact(work, result.codec)
            blob = nncodec.encode(work.state_dict(), codec)
            rows.append(self._row(name, work, raw, len(blob)))
        if self.path is not None:
            nncodec.save_file(work.state_dict(), self.path, codec)
        return PipelineResult(work, codec, history, importance, blob, tuple(rows))

    def _row(self, name: str, model: nn.Module, raw: int, size: int) -> Stage:
        parameters = list(model.parameters())
        nonzero = sum(int(p.count_nonzero()) for p in parameters) / max(1, sum(p.numel() for p in parameters))
        with evaluating(model):
            score = None if self.score is None else float(self.score(model))
        return Stage(name, size, raw / size, nonzero, score)


def _exact(model: nn.Module, last: Mapping[str, str | Codec]) -> dict[str, str | Codec]:
    """The smallest exact file, or what the last stage says of it."""
    import nncodec

    state = model.state_dict()
    return min((smallest_file(state), dict(last)), key=lambda codec: len(nncodec.encode(state, codec)))
