"""What methods have in common while they train: devices, forward calls, layers, epochs of gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nncodec.modules import evaluating

__all__ = [
    "Descent",
    "alone",
    "call",
    "check_descent",
    "compressible",
    "cosine",
    "count_examples",
    "descent",
    "device_of",
    "epoch",
    "evaluating",
    "first_examples",
    "length",
    "mean_loss",
    "moved",
    "pairs",
    "sgd",
]

Descent = Literal["sgd", "adam"]
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def moved(value: Any, device: torch.device) -> Any:
    """The tensors of a batch on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(moved(item, device) for item in value)
    return value


def call(model: nn.Module, inputs: Any) -> Any:
    """The model on what a loader gives: a tensor, positional or keyword arguments."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple | list):
        return model(*inputs)
    return model(inputs)


def alone(model: nn.Module, module: nn.Module) -> bool:
    """Whether no other module has this one's weight."""
    weight: Tensor = module.weight
    return sum(any(p is weight for p in m.parameters(recurse=False)) for m in model.modules()) == 1


def compressible(model: nn.Module, patterns: Sequence[str] = ("*",)) -> dict[str, nn.Module]:
    """Linear and convolution layers, in the model's order, by the name of their weight; shared weights once.

    Layers whose weight is computed (``torch.nn.utils.parametrize``, weight normalisation) are not among them: there is
    no tensor to change, nor one of that name in the state dict. ``patterns`` are globs over these names. Raises
    ValueError where none is left, or where a pattern matches none.
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        computed = module._parameters.get("weight") is None
        if isinstance(module, _LAYERS) and not computed and id(module.weight) not in seen:
            seen.add(id(module.weight))
            found[f"{prefix}.weight" if prefix else "weight"] = module
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in found):
            raise ValueError(f"layers: pattern {pattern!r} matches no linear or convolution weight")
    kept = {name: m for name, m in found.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
    if not kept:
        raise ValueError("layers: there must be a pattern")
    return kept


def pairs(loader: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The batches of a loader; TypeError for one that is no pair of inputs and targets."""
    for number, batch in enumerate(loader):
        sequence = isinstance(batch, tuple | list)
        if not sequence or len(batch) != 2:
            kind = type(batch).__name__ + (f" of {len(batch)}" if sequence else "")
            raise TypeError(f"loader must give pairs (inputs, targets), but batch {number} is a {kind}")
        yield batch[0], batch[1]


def first_examples(loader: Iterable[Any], count: int) -> Iterator[tuple[Any, Any]]:
    """Batches from the start of the loader until there are so many examples."""
    seen = 0
    for inputs, targets in pairs(loader):
        yield inputs, targets
        seen += count_examples(targets)
        if seen >= count:
            return


def count_examples(targets: Any) -> int:
    """How many examples a batch has, whose targets are a tensor or several."""
    while isinstance(targets, tuple | list | Mapping) and targets:
        targets = next(iter(targets.values() if isinstance(targets, Mapping) else targets))
    return len(targets) if isinstance(targets, Tensor) and targets.ndim else 1


def length(loader: Iterable[Any]) -> int:
    """How many batches a loader has; 0 where it cannot say.

    A DataLoader of an iterable data set has a ``__len__`` that raises TypeError.
    """
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        return 0


def mean_loss(
    model: nn.Module, batches: Iterable[tuple[Any, Any]], loss: Callable[[Any, Any], Tensor]
) -> float:
    """Mean of the batches' losses, in the modes the modules are in."""
    device = device_of(model)
    with torch.no_grad():
        values = [loss(call(model, moved(x, device)), moved(y, device)) for x, y in pairs(batches)]
    if not values:
        raise ValueError("loader is empty")
    return float(torch.stack(values).mean())


def cosine(start: float, progress: float) -> float:
    """A learning rate that falls from ``start`` to 0 along half a cosine while ``progress`` goes from 0 to 1."""
    return start * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def _trained(parameters: Iterable[Tensor]) -> list[Tensor]:
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        raise ValueError("model has no parameter that requires a gradient: nothing can be trained")
    return trained


def sgd(
    parameters: Iterable[Tensor], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> torch.optim.SGD:
    """Stochastic gradient descent with Nesterov's momentum, where there is any. ValueError if nothing can learn."""
    return torch.optim.SGD(
        _trained(parameters),
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=momentum > 0,
    )


def check_descent(kind: str) -> None:
    """ValueError for what is no optimiser of ours."""
    if kind not in ("sgd", "adam"):
        raise ValueError(f"optimizer must be 'sgd' or 'adam', got {kind!r}")


def descent(
    kind: Descent, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser of a method's options: :func:`sgd`, or Adam, which has no ``momentum`` of its own choice.

    ValueError if nothing can learn.
    """
    if kind == "sgd":
        return sgd(parameters, lr, momentum, weight_decay)
    return torch.optim.Adam(_trained(parameters), lr=lr, weight_decay=weight_decay)


def epoch(
    model: nn.Module,
    loader: Iterable[tuple[Any, Any]],
    loss: Callable[[Any, Any], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    rate: Callable[[float], float] | None = None,
    before: Callable[[], object] | None = None,
    after: Callable[[], object] | None = None,
) -> float:
    """One pass over the loader; the mean loss.

    ``rate`` gives the learning rate from the share of the epoch that is done (0 throughout for a loader that has no
    length); ``before`` runs before each forward pass, ``after`` after each step.
    """
    device = device_of(model)
    total = torch.zeros((), device=device)
    steps = length(loader)
    done = 0
    for inputs, targets in pairs(loader):
        if rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = rate(done / steps if steps else 0.0)
        if before is not None:
            before()
        value = loss(call(model, moved(inputs, device)), moved(targets, device))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        if after is not None:
            after()
        total += value.detach()
        done += 1
    if not done:
        raise ValueError("loader is empty: give a DataLoader or a list of batches")
    return float(total) / done
