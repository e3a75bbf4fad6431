"""Weightless on MNIST: LeNet-300-100 and LeNet-5, every layer beside exact coders. It trains for minutes.

    python -m bench.training.weightless lenet5_mnist --out bench/results
    python -m bench.training.weightless lenet300_mnist --out bench/results

The outcome is a JSON: the command, the options, a row per layer, the file, the test error. Score and choice of cells
use the last 5,000 training images, the test images are seen once, at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nncodec
from bench.datasets import data_dir
from bench.report import environment
from bench.tasks.digits import LeNet5, read_idx
from nncodec.train import Weightless

HELD = 5000


class LeNet300(nn.Module):
    """784-300-100-10 with ReLU; takes raw pixels 0...255 of shape (n, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.fc1(images.flatten(1).float() / 256))
        return self.fc3(F.relu(self.fc2(x)))


class Batches:
    """Examples in a new random order each time."""

    def __init__(self, images: Tensor, labels: Tensor, size: int, count: int) -> None:
        self._images, self._labels, self._size, self._count = images, labels, size, min(count, len(images))

    def __len__(self) -> int:
        return self._count // self._size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self._images))[: self._count]
        for places in order.split(self._size)[: len(self)]:
            yield self._images[places], self._labels[places]


def error(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Per cent of wrong answers."""
    with torch.inference_mode():
        right = sum(
            int((model(x).argmax(1) == y).sum())
            for x, y in zip(images.split(1000), labels.split(1000), strict=True)
        )
    return 100 - 100 * right / len(images)


def dense_lenet300(batches: Batches, epochs: int) -> nn.Module:
    """Trained from scratch: nobody publishes its weights."""
    torch.manual_seed(1)
    model = LeNet300()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for number in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - number / epochs)
        for x, y in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model


def lenet5(data: Path) -> nn.Module:
    """Caffe's, trained."""
    model = LeNet5()
    model.load_state_dict(_read(data / "weights" / "lenet5_mnist.safetensors"))
    return model


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))


class Head(nn.Module):
    """What LeNet-5 does with the features of its convolutions."""

    def __init__(self, model: LeNet5) -> None:
        super().__init__()
        self.ip1, self.ip2 = model.ip1, model.ip2

    def forward(self, features: Tensor) -> Tensor:
        return self.ip2(F.relu(self.ip1(features.float())))


def features(model: LeNet5, images: Tensor) -> Tensor:
    """What comes out of the convolutions, as the file's weights make it, in half precision."""
    with torch.inference_mode():
        parts = []
        for x in images.split(1000):
            y = F.max_pool2d(model.conv1(x[:, None].float() / 256), 2)
            parts.append(F.max_pool2d(model.conv2(y), 2).flatten(1).half())
    return torch.cat(parts).clone()


# One stage after the other: once the convolutions are frozen, what they give is computed once.
STAGES: dict[str, list[dict[str, Any]]] = {
    "lenet5_mnist": [
        {
            "layers": ("conv*",),
            "density": {"conv1.weight": 0.5, "conv2.weight": 0.04},
            "learning_rate": 0.004,
        },
        {"layers": ("ip*",), "density": {"ip1.weight": 0.0035, "ip2.weight": 0.07}, "learning_rate": 0.02},
    ],
    "lenet300_mnist": [
        {"density": {"fc1.weight": 0.018, "fc2.weight": 0.05, "fc3.weight": 0.3}, "learning_rate": 0.05}
    ],
}


def layer_rows(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each layer: what the filter takes, and what exact coders take for the same clustered weights."""
    return [
        {
            **{
                key: row[key]
                for key in ("layer", "elements", "weights", "cell_bits", "false_positives", "bytes")
            },
            "density": row["weights"] / row["elements"],
            "times_smaller": 4 * row["elements"] / row["bytes"],
            **{key: row[key] for key in ("exact_bytes", "lossless_bytes", "order0_bytes")},
            "filter_wins": row["bytes"] < min(row["lossless_bytes"], row["order0_bytes"]),
        }
        for row in history
        if row["step"] == "encode"
    ]


class Work:
    """The network under training, the data, what has been stored so far."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.start = time.process_time()
        data = data_dir(given.data)
        self.images = read_idx(data / "mnist" / "train-images-idx3-ubyte.gz")
        self.labels = read_idx(data / "mnist" / "train-labels-idx1-ubyte.gz").long()
        self.test = read_idx(data / "mnist" / "t10k-images-idx3-ubyte.gz")
        self.test_labels = read_idx(data / "mnist" / "t10k-labels-idx1-ubyte.gz").long()
        batches = self.batches(self.images, len(self.images))
        self.model = (
            lenet5(data) if given.network == "lenet5_mnist" else dense_lenet300(batches, given.dense_epochs)
        )
        self.dense_error = error(self.model, self.test, self.test_labels)
        self.codec: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []

    def batches(self, inputs: Tensor, count: int) -> Batches:
        return Batches(inputs[:-HELD], self.labels[:-HELD], 128, count)

    def fit(self, number: int, options: dict[str, Any]) -> None:
        """One stage."""
        given = self.given
        model, inputs, count = self.model, self.images, given.images
        epochs = given.prune_epochs
        if number > 0:
            assert isinstance(self.model, LeNet5)
            model, inputs, count = Head(self.model), features(self.model, self.images), len(self.images)
            epochs = given.head_epochs
        method = Weightless(
            **options,
            clusters=given.clusters,
            cell_bits=(5, 6, 7, 8, 9, 10, 11),
            tolerance=given.tolerance,
            score=lambda net: 100 - error(net, inputs[-HELD:], self.labels[-HELD:]),
            bias_density=given.bias_density,
            seeds=given.seeds,
            prune_epochs=epochs,
            retrain_epochs=given.retrain_epochs,
            inplace=True,
            progress=lambda done, total: print(
                f"stage {number}: {done}/{total} {time.process_time() - self.start:.0f} s", file=sys.stderr
            ),
        )
        result = method.fit(model, self.batches(inputs, count), F.cross_entropy)
        self.codec = {**self.codec, **result.codec}
        self.history += result.history

    def outcome(self, arguments: list[str]) -> dict[str, Any]:
        """Encode, decode, test what was decoded."""
        state = {name: value.detach().numpy() for name, value in self.model.state_dict().items()}
        catch_all = self.codec.pop("*")
        blob = nncodec.encode(state, self.codec | {"*": catch_all})
        back = nncodec.decode(blob)
        assert all(np.array_equal(back[name], value) for name, value in state.items())
        raw = sum(value.nbytes for value in state.values())
        layers = layer_rows(self.history)
        return {
            "command": "python -m bench.training.weightless " + " ".join(arguments),
            "environment": environment(),
            "stages": STAGES[self.given.network],
            "raw_bytes": raw,
            "file_bytes": len(blob),
            "ratio": raw / len(blob),
            "dense_test_error": self.dense_error,
            "test_error": error(self.model, self.test, self.test_labels),
            "best_layer": max(row["times_smaller"] for row in layers),
            "layers": layers,
            "history": self.history,
            "cpu_seconds": round(time.process_time() - self.start),
        }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.training.weightless", description=__doc__)
    parser.add_argument("network", choices=STAGES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--images", type=int, default=55_000, help="training images an epoch, of whole networks"
    )
    parser.add_argument("--dense-epochs", type=int, default=8, help="of LeNet-300-100 before pruning")
    parser.add_argument("--prune-epochs", type=int, default=10)
    parser.add_argument("--head-epochs", type=int, default=16, help="of LeNet-5's dense layers")
    parser.add_argument("--retrain-epochs", type=int, default=1)
    parser.add_argument("--density", action="append", default=[], metavar="LAYER=SHARE")
    parser.add_argument("--bias-density", type=float, default=0.3)
    parser.add_argument(
        "--tolerance", type=float, default=0.3, help="per cent of accuracy that a layer may cost"
    )
    parser.add_argument("--clusters", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=64)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for text in given.density:
        layer, _, share = text.partition("=")
        for stage in STAGES[given.network]:
            if layer in stage["density"]:
                stage["density"][layer] = float(share)
    work = Work(given)
    for number, options in enumerate(STAGES[given.network]):
        work.fit(number, options)
    text = json.dumps(work.outcome(arguments or sys.argv[1:]), indent=1)
    print(text)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"weightless_{given.network}.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
