"""The one interface of all training methods: options, copies, seeds, progress, checkpoints.

A method is a frozen dataclass of options derived from :class:`Method`. It makes a :class:`Run`, whose work is cut into
units (an epoch, a round). All that a unit reads is the model, the run's state and random numbers seeded by the unit's
number; so a run that was interrupted goes on from its last unit to the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields
from glob import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from nncodec.train.distillation import watching
from nncodec.train.steps import device_of

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["History", "Loader", "Loss", "Method", "Result", "Run", "codec_mapping"]

# Batches (inputs, targets); iterated once an epoch, so a DataLoader or a list, not a generator.
Loader: TypeAlias = Iterable[Any]
Loss: TypeAlias = Callable[
    [Any, Any], Tensor
]  # (what the model returns, targets) to the mean loss of the batch
History: TypeAlias = list[dict[str, Any]]

_KIND, _VERSION = "nncodec training", 1


@dataclass(frozen=True)
class Result:
    """What training gives.

    Attributes
    ----------
    model : torch.nn.Module
        With the compressed weights, on the device of training, its modules in the modes they came in.
    codec : mapping
        For ``nncodec.encode(result.model.state_dict(), codec=result.codec)``, which stores exactly those weights.
    history : list of dict
        A row per unit of training: numbers and strings.
    importance : mapping
        For ``nncodec.encode(..., importance=result.importance)`` with a lossy codec, from methods that measure it.
    """

    model: nn.Module
    codec: Mapping[str, str | Codec]
    history: History
    importance: Mapping[str, Any] = field(default_factory=dict)


class Run(ABC):
    """One training under way.

    Attributes
    ----------
    model, loader, loss
        The model is the run's own and already on its device.
    """

    def __init__(self, model: nn.Module, loader: Loader, loss: Loss) -> None:
        self.model = model
        self.loader = loader
        self.loss = loss

    @property
    @abstractmethod
    def units(self) -> int:
        """How many units of work there are; the same from start to end."""

    @abstractmethod
    def unit(self, index: int) -> dict[str, Any]:
        """Do one unit, 0 to ``units - 1``; a row for the history. Random numbers come from torch's generators."""

    @abstractmethod
    def codec(self) -> Mapping[str, str | Codec]:
        """What stores the weights exactly, after the last unit."""

    def importance(self) -> Mapping[str, Any]:
        """What each weight's squared error matters, if the method knows."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a unit reads besides model and options: a nested checkpoint of tensors, numbers and strings."""
        return {}

    def rebuild(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (most methods leave the layers alone)
        """Give the model the layers it had when :meth:`state` was made; before weights and state are taken back."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave; tensors may come on the wrong device."""
        if state:
            raise ValueError(f"{type(self).__name__} has no state, the checkpoint has {sorted(state)}")


@dataclass(frozen=True)
class Method(ABC):
    """Base of every method. Options of the method come first, these are by keyword only.

    Parameters
    ----------
    seed : int
        Decides every random number drawn while training, the shuffling of a ``DataLoader`` without a generator of its
        own included. The generators of torch are left as they were.
    device : optional
        Where to train; default: where the model is.
    progress : callable or True, optional
        Called as ``progress(units_done, units_in_all)``; True shows a bar (needs tqdm).
    checkpoint : path, optional
        A file that is written after each unit and, if it is there, resumed from: to the same bits as without the
        interruption, if loader and loss have no state of their own. ValueError if it is of another method, of other
        options or for another model.
    inplace : bool
        Train the caller's model; otherwise it is left as it was.
    """

    seed: int = field(default=0, kw_only=True)
    device: torch.device | str | None = field(default=None, kw_only=True)
    progress: Callable[[int, int], object] | bool | None = field(default=None, kw_only=True)
    checkpoint: str | PathLike[str] | None = field(default=None, kw_only=True)
    inplace: bool = field(default=False, kw_only=True)

    @abstractmethod
    def _begin(self, model: nn.Module, loader: Loader, loss: Loss) -> Run:
        """A run at its start. Random numbers are seeded."""

    def fit(self, model: nn.Module, loader: Loader, loss: Loss) -> Result:
        """Train.

        Parameters
        ----------
        model : torch.nn.Module
            A trained network.
        loader : iterable of (inputs, targets)
            Iterated once an epoch: a ``DataLoader`` or a list of batches. Inputs are what the model takes: a tensor,
            a tuple of positional or a mapping of keyword arguments.
        loss : callable
            ``loss(model(inputs), targets)``, the mean over the batch; or what :func:`nncodec.train.distill` makes of
            one.

        Raises
        ------
        TypeError
            For a model that is no module, a loader that can't be iterated, or batches that are no pairs.
        ValueError
            For an empty loader, a model without layers that the method changes, NaN or infinite parameters.
        """
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
        if not isinstance(loader, Iterable):
            raise TypeError(f"loader must give batches of (inputs, targets), got {type(loader).__name__}")
        work = model if self.inplace else deepcopy(model)
        if self.device is not None:
            work = work.to(self.device)
        modes = [(module, module.training) for module in work.modules()]
        learns = [(p, p.requires_grad) for p in work.parameters()]
        cuda = device_of(work)
        with (
            torch.random.fork_rng([cuda] if cuda.type == "cuda" else []),
            watching(loss, work),
        ):
            _check_finite(work)
            torch.manual_seed(_mixed(self.seed, 0))
            run = self._begin(work, loader, loss)
            history = self._resume(run)
            report = _Reporter(self.progress, run.units, len(history))
            for index in range(len(history), run.units):
                torch.manual_seed(_mixed(self.seed, index + 1))
                history.append(run.unit(index))
                self._save(run, history)
                report(index + 1)
            report.close()
        for module, training in modes:
            module.training = training
        for p, flag in learns:  # what a method froze on its way is the caller's again
            p.requires_grad_(flag)
        return Result(work, run.codec(), history, run.importance())

    def _options(self) -> str:
        own = {f.name for f in fields(Method)} - {"seed"}
        return repr({f.name: getattr(self, f.name) for f in fields(self) if f.name not in own})

    def _save(self, run: Run, history: History) -> None:
        if self.checkpoint is None:
            return
        from nncodec.api import save_file  # the engine is needed for files alone

        content = {
            "kind": _KIND,
            "version": _VERSION,
            "method": type(self).__name__,
            "options": self._options(),
            "model": dict(run.model.state_dict()),
            "state": run.state(),
            "history": history,
        }
        save_file(content, self.checkpoint)

    def _resume(self, run: Run) -> History:
        if self.checkpoint is None or not Path(self.checkpoint).exists():
            return []
        from nncodec.api import load_file

        content = load_file(self.checkpoint, framework="pt")
        if not isinstance(content, Mapping) or content.get("kind") != _KIND:
            raise ValueError(f"checkpoint {self.checkpoint!s} is no training checkpoint")
        for what, mine in (
            ("version", _VERSION),
            ("method", type(self).__name__),
            ("options", self._options()),
        ):
            if content.get(what) != mine:
                raise ValueError(
                    f"checkpoint {self.checkpoint!s} has {what} {content.get(what)}, this training {mine}"
                )
        run.rebuild(content["state"])
        own = run.model.state_dict()
        stored = content["model"]
        if {name: value.shape for name, value in own.items()} != {n: v.shape for n, v in stored.items()}:
            raise ValueError(f"checkpoint {self.checkpoint!s} is of another model")
        run.model.load_state_dict(stored)
        run.restore(content["state"])
        history: History = list(content["history"])
        return history


def _check_finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter.detach()).all()):
            raise ValueError(f"model: parameter {name!r} has NaN or infinite elements")


def codec_mapping(choices: Mapping[str, str | Codec]) -> dict[str, str | Codec]:
    """A mapping for ``encode`` from exact names; all other tensors are lossless."""
    return {escape(name): codec for name, codec in choices.items()} | {"*": "lossless"}


class _Reporter:
    """``progress=``, for units."""

    def __init__(self, progress: object, total: int, done: int) -> None:
        self._call = progress if callable(progress) else None
        self._total = total
        self._bar: Any = None
        if progress is True:
            from importlib import import_module

            self._bar = import_module("tqdm").tqdm(total=total, initial=done, unit="unit")

    def __call__(self, done: int) -> None:
        if self._bar is not None:
            self._bar.update(1)
        if self._call is not None:
            self._call(done, self._total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _mixed(seed: int, index: int) -> int:
    """Seeds that differ for all pairs one is likely to use (a multiplicative hash, 63 bits)."""
    return (seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 1) % (1 << 63)
