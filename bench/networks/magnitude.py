"""Global magnitude pruning, what every other pruning is compared with: no compensation, no retraining."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn

from bench.networks.common import NETWORKS, row, subject
from bench.suite import Options, Row
from nncodec.train.base import codec_mapping
from nncodec.train.sparsity import keep_largest
from nncodec.train.steps import compressible

__all__ = ["SPARSITIES", "pruned", "rows"]

SPARSITIES = {
    "lenet300": (0.8, 0.9, 0.95, 0.97, 0.98, 0.99),
    "lenet5_mnist": (0.8, 0.9, 0.95, 0.98),
    "resnet20_cifar10": (0.8, 0.9, 0.95),
}


def rows(options: Options) -> Iterator[Row]:
    for name in NETWORKS:
        for sparsity in SPARSITIES[name]:
            entry = f"magnitude/{name}/{100 * sparsity:g}"
            if not options.wants(entry):
                continue
            of = subject(name, options)
            if of is None:
                return
            model = pruned(of.model, sparsity)
            yield row(entry, of, model, codec_mapping(dict.fromkeys(compressible(model), "lossless")))


@torch.no_grad()
def pruned(model: nn.Module, sparsity: float) -> nn.Module:
    """A copy without the smallest weights of all linear and convolution layers together."""
    model = deepcopy(model)
    weights = [module.weight for module in compressible(model).values()]
    keep = keep_largest(torch.cat([w.abs().reshape(-1) for w in weights]), 1 - sparsity)
    for weight, mask in zip(weights, keep.split([w.numel() for w in weights]), strict=True):
        weight *= mask.reshape(weight.shape)
    return model
