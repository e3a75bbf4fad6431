"""Follows a network through its training: estimates per layer and epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nncodec.information.binning import EBAB
from nncodec.information.density import AdaptiveKDE
from nncodec.information.estimate import Estimator

__all__ = ["InformationPlane"]

_COLUMNS = ("epoch", "layer", "estimator", "i_xt", "i_ty", "saturated", "i_xt_lower", "i_ty_lower")


class InformationPlane:
    """Records I(X;T) and I(T;Y) of the layers of a network while it is trained.

    Parameters
    ----------
    model : torch.nn.Module
        The network. It is hooked only while :meth:`record` runs, in evaluation mode, and left as it was.
    inputs : torch.Tensor
        Samples on which activations are taken, (n, ...), the same at each call.
    labels : torch.Tensor or numpy.ndarray, optional
        Their labels, (n,).
    layers : sequence of str, optional
        Names of the modules whose outputs are T, as in ``model.named_modules()``; "" is the output of the network.
        Default: all activation functions that are modules, and the output. A module that runs several times in a pass
        is recorded as ``name``, ``name#2``, ...
    estimators : mapping of str to Estimator, optional
        Default: EBAB and AdaptiveKDE with their defaults.
    batch_size : int
        Samples per forward pass. Each layer must give one row per sample.

    Attributes
    ----------
    history : list of dict
        One row per epoch, layer and estimator: epoch, layer, estimator and the fields of :class:`Information`.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    >>> plane = InformationPlane(model, torch.eye(2), torch.tensor([0, 1]), estimators={"ebab": EBAB()})
    >>> plane.record(epoch=0)
    >>> [(row["layer"], row["i_xt"]) for row in plane.history]
    [('1', 1.0), ('', 1.0)]
    """

    def __init__(
        self,
        model: Any,
        inputs: Any,
        labels: Any = None,
        *,
        layers: Sequence[str] | None = None,
        estimators: Mapping[str, Estimator] | None = None,
        batch_size: int = 1024,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}")
        modules = dict(model.named_modules())
        self._named = tuple(layers or ())
        if layers is None:
            layers = [name for name, module in modules.items() if _is_activation(module)] + [""]
        if estimators is not None and not estimators:
            raise ValueError("estimators must name at least one")
        unknown = [name for name in layers if name not in modules]
        if unknown:
            raise ValueError(f"layers: the model has no module {unknown[0]!r}")
        self.history: list[dict[str, Any]] = []
        self._model, self._inputs, self._labels = model, inputs, labels
        self._layers = {name: modules[name] for name in layers}
        self._estimators = (
            dict(estimators) if estimators is not None else {"ebab": EBAB(), "akde": AdaptiveKDE()}
        )
        self._batch_size = batch_size

    def record(self, epoch: int) -> None:
        """Take the activations now and add their estimates to ``history``; all of them, or none where one fails.

        ValueError where there are no samples, or a layer that was asked for is not called.
        """
        if not len(self._inputs):
            raise ValueError("inputs must hold at least one sample")
        taken = self._activations()
        missing = [name for name in self._named if name not in taken]
        if missing:
            raise ValueError(f"layers: the model does not call {missing[0]!r}")
        self.history += [
            {
                "epoch": epoch,
                "layer": layer,
                "estimator": name,
                **asdict(estimator.estimate(values, self._labels)),
            }
            for layer, values in taken.items()
            for name, estimator in self._estimators.items()
        ]

    def save(self, path: str | Path) -> None:
        """Write the history as JSON: a list of columns, and a row per entry."""
        rows = [[row[column] for column in _COLUMNS] for row in self.history]
        Path(path).write_text(json.dumps({"columns": _COLUMNS, "rows": rows}), encoding="utf-8")

    def plot(self, estimator: str | None = None, axes: Any = None) -> Any:
        """Draw the information plane with matplotlib: a path per layer, darker with each epoch. Returns the axes."""
        from nncodec.information.plot import draw_plane

        name = next(iter(self._estimators)) if estimator is None else estimator
        if name not in self._estimators:
            raise ValueError(f"estimator must be one of {sorted(self._estimators)}, got {name!r}")
        return draw_plane([row for row in self.history if row["estimator"] == name], axes)

    def _activations(self) -> dict[str, Any]:
        import torch

        taken: dict[str, list[Any]] = {}
        calls: dict[str, int] = {}
        rows = 0

        def hook_for(name: str) -> Any:
            def hook(module: Any, arguments: Any, output: Any) -> None:
                if not isinstance(output, torch.Tensor):
                    raise TypeError(f"layer {name!r} gives {type(output).__name__}, not a tensor")
                calls[name] = calls.get(name, 0) + 1
                key = name if calls[name] == 1 else f"{name}#{calls[name]}"
                if output.ndim == 0 or len(output) != rows:
                    shape = tuple(output.shape)
                    raise ValueError(f"layer {name!r} gives {shape}, not one row for each of {rows} samples")
                # A copy: a later layer may work in place.
                taken.setdefault(key, []).append(output.detach().reshape(rows, -1).to("cpu", copy=True))

            return hook

        modes = {module: module.training for module in self._model.modules()}
        handles = [module.register_forward_hook(hook_for(name)) for name, module in self._layers.items()]
        try:
            self._model.eval()
            with torch.no_grad():
                for at in range(0, len(self._inputs), self._batch_size):
                    calls.clear()
                    batch = self._inputs[at : at + self._batch_size]
                    rows = len(batch)
                    self._model(batch)
        finally:
            for handle in handles:
                handle.remove()
            for module, training in modes.items():
                module.training = training
        return {name: torch.cat(parts) for name, parts in taken.items()}


def _is_activation(module: Any) -> bool:
    return (
        type(module).__module__ == "torch.nn.modules.activation"
        and type(module).__name__ != "MultiheadAttention"
    )
