"""What a layer should compute on the inputs that it gets by now, so that its outputs are those of the original network.

Where earlier layers have changed, a layer reads other inputs than it did. Least squares around its original weights
keeps the function of the layer; least squares around ``W E[x y^T] E[y y^T]^-1``, with x the original inputs and y those
of now, keeps its outputs, and so takes back a part of the errors before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nncodec.moments import every_position, patches
from nncodec.train.kfac import Factors
from nncodec.train.steps import call, device_of, evaluating, moved

__all__ = ["cross_moments", "shifted_target"]


@torch.no_grad()  # type: ignore[untyped-decorator]
def cross_moments(
    original: nn.Module, model: nn.Module, names: Iterable[str], batches: Iterable[Any], enough: int
) -> dict[str, Tensor]:
    """E[x y^T] by name of the weight: (groups, k, k), one more with a bias.

    Layers that run more than once in a forward pass have none. ``enough`` as in :func:`nncodec.train.kfac.factors`.
    """
    device = device_of(model)
    seen: dict[str, list[Tensor]] = {}
    sums: dict[str, Tensor] = {}
    turn = 0

    def vectors(module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
        x = inputs[0]
        if isinstance(module, nn.Linear):
            found = x.reshape(1, -1, x.shape[-1])
        else:
            found = patches(module, x, every_position(module, x, enough), turn)
        if module.bias is not None:
            found = torch.cat((found, torch.ones_like(found[:, :, :1])), 2)
        return found.float()

    def run(of: nn.Module, inputs: Any) -> dict[str, list[Tensor]]:
        caught: dict[str, list[Tensor]] = {name: [] for name in wanted}
        handles = []
        for name in wanted:
            module = of.get_submodule(name.rpartition(".")[0])

            def hook(module: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                caught[name].append(vectors(module, args))

            handles.append(module.register_forward_pre_hook(hook))
        try:
            with evaluating(of):
                call(of, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return caught

    wanted = list(names)
    count: dict[str, int] = {}
    for inputs, _ in batches:
        here = moved(inputs, device)
        seen = run(original, here)
        now = run(model, here)
        for name in list(wanted):
            if len(seen[name]) != 1 or len(now[name]) != 1 or seen[name][0].shape != now[name][0].shape:
                wanted.remove(name)
                sums.pop(name, None)
                continue
            product = (seen[name][0].transpose(1, 2) @ now[name][0]).double()
            sums[name] = sums[name] + product if name in sums else product
            count[name] = count.get(name, 0) + now[name][0].shape[1]
        turn += 1
    return {name: value / count[name] for name, value in sums.items()}


def shifted_target(of: Factors, damped: Factors, cross: Tensor, target: Tensor) -> Tensor:
    """W E[x y^T] E[y y^T]^-1, damped towards W, in the factors' shape."""
    added = damped.input.double() - of.input.double()
    right = (cross + added).transpose(1, 2) @ target.double().transpose(1, 2)
    return torch.linalg.solve(damped.input.double(), right).transpose(1, 2).to(target.dtype)
