"""What the entries share: networks with their data, and the row that a model makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import nncodec
from bench.datasets import data_dir
from bench.suite import Options, Row
from bench.train_codebooks import Batches, Data, cifar, mnist, network, top1

__all__ = ["NETWORKS", "Subject", "measured", "named", "row", "subject"]

NETWORKS = ("lenet300", "lenet5_mnist", "resnet20_cifar10")
_CIFAR_IMAGES = 10_000  # training images; all would only take memory here


@dataclass(frozen=True)
class Subject:
    """A trained network and its data.

    Attributes
    ----------
    model : nn.Module
        In evaluation mode; not to be changed.
    top1 : float
        Per cent of the test images it gets right.
    raw_bytes : int
        Of its float32 parameters and buffers.
    """

    name: str
    model: nn.Module
    data: Data
    top1: float
    raw_bytes: int

    def batches(self, size: int = 128) -> Batches:
        """Shuffled training batches, augmented where the network was trained so."""
        return Batches(self.data, size)

    def plain(self, size: int = 500) -> Batches:
        """Shuffled training batches of images as they are: for calibration."""
        return Batches(Data(self.data.train, self.data.test), size)


_KNOWN: dict[tuple[str, Path | None], Subject] = {}


def subject(name: str, options: Options) -> Subject | None:
    """A network of the data folder; None, with a note, where there is no such folder. Loaded once."""
    key = (name, options.data)
    if key not in _KNOWN:
        folder = data_dir(options.data)
        if folder is None:
            options.note("no data folder: give --data or set NNCODEC_DATA")
            return None
        torch.set_num_threads(options.threads)
        data = cifar(folder, "cpu", _CIFAR_IMAGES) if name.endswith("cifar10") else mnist(folder, "cpu")
        model = network(name, data, folder).eval()
        _KNOWN[key] = Subject(name, model, data, top1(model, data), _raw(model))
    return _KNOWN[key]


def row(entry: str, of: Subject, model: nn.Module, codec: Mapping[str, Any], **more: Any) -> Row:
    """Encode, decode, measure what was decoded.

    Parameters
    ----------
    entry : str
        ``method/network/setting``.
    codec : mapping
        As ``result.codec``; ValueError where it does not give the weights back to the bit.
    more
        Further columns.
    """
    state = {name: value.detach() for name, value in model.state_dict().items()}
    blob = nncodec.encode(state, codec)
    back = nncodec.decode(blob)
    if not all(torch.equal(back[name], value) for name, value in state.items()):
        raise ValueError(f"{entry}: the codec changed a weight")
    return measured(entry, of, model, len(blob), **more)


def measured(entry: str, of: Subject, model: nn.Module, size: int, **more: Any) -> Row:
    """The row of a model that came out of a file of so many bytes."""
    return {
        **named(entry),
        "original": of.top1,
        "accuracy": top1(model, of.data),
        "bytes": size,
        "ratio": of.raw_bytes / size,
        "weights": density(model),
        **more,
    }


def named(entry: str) -> Row:
    """The first columns: ``method/network/setting``, whole and in parts."""
    return {"entry": entry, **dict(zip(("method", "network", "setting"), entry.split("/"), strict=True))}


def density(model: nn.Module) -> float:
    """Share of the linear and convolution weights that are not 0."""
    weights = list(_weights(model))
    return sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)


def _weights(model: nn.Module) -> Iterator[torch.Tensor]:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield module.weight


def _raw(model: nn.Module) -> int:
    return sum(4 * value.numel() for value in model.state_dict().values() if value.is_floating_point())
