"""Knowledge distillation: a loss that asks the student for the teacher's outputs, for any method of this package.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (arXiv:1503.02531): with logits z of the
student and t of the teacher, ``(1 - alpha) * loss(z, y) + alpha * T^2 * KL(softmax(t / T) || softmax(z / T))``. The
factor T^2 keeps the size of the gradients. Inner features are matched as in FitNets (Romero et al., arXiv:1412.6550) or
by attention maps (Zagoruyko and Komodakis, arXiv:1612.03928), which ask for no equal number of channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nncodec.train.steps import call, moved

__all__ = ["Distillation", "distill", "watching"]

Loss = Callable[[Any, Any], Tensor]


def distill(
    teacher: nn.Module,
    loss: Loss | None = None,
    *,
    temperature: float = 4.0,
    alpha: float = 0.9,
    features: Sequence[str] | Mapping[str, str] = (),
    feature_weight: float = 1.0,
    match: Literal["mse", "attention"] = "mse",
) -> Distillation:
    """A loss for ``METHOD(...).fit(model, loader, distill(teacher, loss))``.

    Parameters
    ----------
    teacher : torch.nn.Module
        Takes what the student takes. It is copied as it is now, and used in evaluation mode.
    loss : callable, optional
        ``loss(outputs, targets)``; default: cross-entropy. Not called where alpha is 1.
    temperature : float
        T. The outputs of both networks must be logits of shape (examples, classes, ...).
    alpha : float
        Share of the soft loss, 0 to 1.
    features : sequence or mapping of str
        Names of modules of the student, or of those to modules of the teacher, whose outputs shall be alike. They must
        be called once in a forward pass, and still be there while the student is trained.
    feature_weight : float
        Of the sum of their differences.
    match : {"mse", "attention"}
        The mean squared difference in units of the teacher's mean square, or the squared distance of the unit-length
        maps of channels' mean squares.

    Raises
    ------
    ValueError
        For options out of range, or a name that is no module of the teacher.
    """
    return Distillation(
        teacher,
        loss or F.cross_entropy,
        temperature=temperature,
        alpha=alpha,
        features=dict(features) if isinstance(features, Mapping) else {name: name for name in features},
        feature_weight=feature_weight,
        match=match,
    )


def watching(loss: Loss, model: nn.Module) -> AbstractContextManager[None]:
    """What a method trains its model in: where the loss wants to see the model's inputs, it does."""
    return loss.watching(model) if isinstance(loss, Distillation) else nullcontext()


class Distillation:
    """The loss that :func:`distill` makes. Methods enter :meth:`watching` themselves; a loop of one's own must."""

    def __init__(
        self,
        teacher: nn.Module,
        loss: Loss,
        *,
        temperature: float,
        alpha: float,
        features: Mapping[str, str],
        feature_weight: float,
        match: Literal["mse", "attention"],
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be 0 to 1, got {alpha!r}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        if not 0 <= feature_weight < float("inf"):
            raise ValueError(f"feature_weight must not be negative, got {feature_weight!r}")
        if match not in ("mse", "attention"):
            raise ValueError(f"match must be 'mse' or 'attention', got {match!r}")
        self.teacher = deepcopy(teacher).eval().requires_grad_(False)
        self.loss = loss
        self.temperature = temperature
        self.alpha = alpha
        self.features = dict(features)
        self.feature_weight = feature_weight
        self.match = match
        self._inputs: Any = None
        self._seen: dict[str, Any] = {}
        for name in self.features.values():
            _submodule(self.teacher, name, "teacher")

    @contextmanager
    def watching(self, student: nn.Module) -> Iterator[None]:
        """Context in which each forward pass of the student leaves its inputs and features here."""

        # Hooks of plain functions: a copy of the student keeps them, so they look whom they are called for.
        def inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if module is student:
                self._inputs = kwargs if kwargs else args
                self._seen.clear()

        handles = [student.register_forward_pre_hook(inputs, with_kwargs=True)]
        for name in self.features:
            tapped = _submodule(student, name, "student")

            def output(
                module: nn.Module, _: Any, value: Any, name: str = name, tapped: nn.Module = tapped
            ) -> None:
                if module is tapped:
                    self._seen[name] = value

            handles.append(tapped.register_forward_hook(output))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._inputs = None
            self._seen.clear()

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """The loss of the student's last forward pass; RuntimeError if it was not watched."""
        if self._inputs is None:
            raise RuntimeError(
                "distill: the student's inputs are not known; use `with loss.watching(model):`"
            )
        with torch.no_grad():
            known, wanted = self._taught(self._inputs, outputs)
        value = self.alpha * self.temperature**2 * soft_divergence(outputs, known, self.temperature)
        if self.alpha < 1:
            value = value + (1 - self.alpha) * self.loss(outputs, targets)
        for name in self.features:
            if name not in self._seen:
                raise RuntimeError(f"distill: module {name!r} of the student did not run")
            value = value + self.feature_weight * _difference(self._seen[name], wanted[name], self.match)
        return value

    def _taught(self, inputs: Any, outputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Output and features of the teacher."""
        self.teacher.to(outputs.device)
        wanted: dict[str, Tensor] = {}
        handles = []
        for name, of_teacher in self.features.items():

            def output(_: nn.Module, __: Any, value: Tensor, name: str = name) -> None:
                wanted[name] = value

            handles.append(self.teacher.get_submodule(of_teacher).register_forward_hook(output))
        try:
            known: Tensor = call(self.teacher, moved(inputs, outputs.device))
        finally:
            for handle in handles:
                handle.remove()
        return known, wanted


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) in nats, classes along axis 1, mean over everything else."""
    if student.shape != teacher.shape:
        raise ValueError(f"student gives {tuple(student.shape)}, teacher {tuple(teacher.shape)}")
    each = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction="none",
        log_target=True,
    )
    return each.sum(1).mean()


def _difference(student: Tensor, teacher: Tensor, match: str) -> Tensor:
    if match == "attention":
        if student.shape[2:] != teacher.shape[2:] or student.ndim < 3:
            raise ValueError(
                f"attention maps need equal positions, got {tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        maps = (F.normalize((x**2).mean(1).flatten(1), dim=1) for x in (student, teacher))
        return (next(maps) - next(maps)).pow(2).sum(1).mean()
    if student.shape != teacher.shape:
        raise ValueError(
            f"features of {tuple(student.shape)} and {tuple(teacher.shape)}: use match='attention'"
        )
    return F.mse_loss(student, teacher) / teacher.pow(2).mean().clamp(min=torch.finfo(teacher.dtype).tiny)


def _submodule(model: nn.Module, name: str, whose: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise ValueError(f"features: {name!r} is no module of the {whose}") from None
