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
from bench.training.distilled import distilled_loss
from bench.training.precision import trains_in_bfloat16
from bench.training.taught import Taught, learn_shifted
from nncodec.codecs import Weightless as FilterCodec
from nncodec.train import MLPrune, Weightless
from nncodec.train.steps import compressible

HELD = 5000
TEMPERATURE = 2.0
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


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

    def __init__(self, images: Tensor, labels: Tensor, size: int) -> None:
        self._images, self._labels, self._size = images, labels, size

    def __len__(self) -> int:
        return len(self._images) // self._size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self._images)).to(self._images.device)
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


def dense_lenet300(batches: Batches, epochs: int, device: torch.device) -> nn.Module:
    """Trained from scratch: nobody publishes its weights."""
    torch.manual_seed(1)
    model = LeNet300().to(device)
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


OPTIONS: dict[str, dict[str, Any]] = {
    "lenet5_mnist": {
        "density": {"conv1.weight": 0.4, "conv2.weight": 0.035, "ip1.weight": 0.0038, "ip2.weight": 0.06},
        "learning_rate": 0.004,
    },
    "lenet300_mnist": {
        "density": {"fc1.weight": 0.018, "fc2.weight": 0.05, "fc3.weight": 0.3},
        "learning_rate": 0.03,
    },
}


def layer_rows(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each layer: what the filter takes, and what exact coders take for the same clustered weights."""
    return [
        {
            **{
                key: row[key]
                for key in ("layer", "elements", "weights", "cell_bits", "false_positives", "codec", "bytes")
            },
            "density": row["weights"] / row["elements"],
            "times_smaller": 4 * row["elements"] / row["bytes"],
            **{key: row[key] for key in row if key.endswith("_bytes") and key != "lossy_bytes"},
            "filter_wins": row["codec"] == "weightless"
            and row["bytes"] <= min(row[key] for key in row if key.endswith("_bytes")),
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
        device = torch.device(given.device)
        mnist = [read_idx(data / "mnist" / f"{part}-ubyte.gz").to(device) for part in PARTS]
        self.images, self.labels, self.test, self.test_labels = mnist
        self.labels, self.test_labels = self.labels.long(), self.test_labels.long()
        if given.network == "lenet5_mnist":
            self.model = lenet5(data).to(device)
        else:
            seen = Batches(self.images[:-HELD], self.labels[:-HELD], 128)
            self.model = dense_lenet300(seen, given.dense_epochs, device)
        self.dense_error = error(self.model, self.test, self.test_labels)
        if given.bfloat16:
            trains_in_bfloat16(type(self.model))
        self.model.to(memory_format=torch.channels_last)  # twice as fast
        self.options = dict(OPTIONS[given.network])
        self.taught = self._batches()
        if given.teach_epochs:
            torch.manual_seed(0)
            learn_shifted(self.model, self.taught, given.teach_epochs)
            print(
                f"taught: {error(self.model, self.test, self.test_labels):.2f} % of errors", file=sys.stderr
            )
            self.taught = self._batches()
        if given.weights is not None:
            self._start_pruned(given.weights)
        self.codec: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []

    def _batches(self) -> Taught:
        """Training images with what the network says of them now."""
        images, labels = self.images[:-HELD], self.labels[:-HELD]
        return Taught(images, labels, self.model, self.given.copies, self.given.batch, self.given.shift)

    def _start_pruned(self, weights: int) -> None:
        """Begin with the weights that MLPrune leaves, and with its densities."""
        total = sum(module.weight.numel() for module in compressible(self.model).values())
        method = MLPrune(
            sparsity=1 - weights / total, steps=8, price="bits", examples=1000, iterations=40, gamma=1e-5
        )
        self.model = method.fit(
            self.model, self.taught, distilled_loss(self.given.distill, TEMPERATURE)
        ).model
        self.options["density"] = {
            name: float(module.weight.count_nonzero()) / module.weight.numel()
            for name, module in compressible(self.model).items()
        }

    def fit(self) -> None:
        given = self.given
        held = self.images[-HELD:], self.labels[-HELD:]
        method = Weightless(
            **self.options,
            clusters=given.clusters,
            cell_bits=(5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
            tolerance=given.tolerance,
            score=lambda net: 100 - error(net, *held),
            smallest=True,
            bias_density=given.bias_density,
            seeds=given.seeds,
            prune_epochs=given.prune_epochs,
            ramp=given.ramp,
            splice=given.splice,
            optimizer=given.optimizer,
            retrain_epochs=given.retrain_epochs,
            checkpoint=given.checkpoint,
            progress=lambda done, total: print(
                f"{done}/{total} {time.process_time() - self.start:.0f} s", file=sys.stderr
            ),
        )
        result = method.fit(self.model, self.taught, distilled_loss(given.distill, TEMPERATURE))
        self.model = result.model.to(memory_format=torch.contiguous_format)
        self.codec, self.history = dict(result.codec), result.history

    def outcome(self, arguments: list[str]) -> dict[str, Any]:
        """Encode, decode, test what was decoded."""
        state = {name: value.detach().cpu().numpy() for name, value in self.model.state_dict().items()}
        catch_all = self.codec.pop("*")
        blob = nncodec.encode(state, self.codec | {"*": catch_all})
        back = nncodec.decode(blob)
        assert all(np.array_equal(back[name], value) for name, value in state.items())
        raw = sum(value.nbytes for value in state.values())
        exact_filters = {name: FilterCodec(exact=True) for name in compressible(self.model)} | {
            "*": "lossless"
        }
        layers = layer_rows(self.history)
        return {
            "command": "python -m bench.training.weightless " + " ".join(arguments),
            "environment": environment(),
            "options": self.options,
            "raw_bytes": raw,
            "file_bytes": len(blob),
            "ratio": raw / len(blob),
            "bytes_in_exact_filters": len(nncodec.encode(state, exact_filters)),
            "dense_test_error": self.dense_error,
            "held_error": error(self.model, self.images[-HELD:], self.labels[-HELD:]),
            "test_error": error(self.model, self.test, self.test_labels),
            "best_layer": max(row["times_smaller"] for row in layers),
            "layers": layers,
            "history": self.history,
            "cpu_seconds": round(time.process_time() - self.start),
        }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.training.weightless", description=__doc__)
    parser.add_argument("network", choices=OPTIONS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision")
    parser.add_argument("--checkpoint", type=Path, help="a file to go on from")
    parser.add_argument("--copies", type=int, default=0, help="shifted copies of the training set")
    parser.add_argument("--shift", type=int, default=2, help="pixels that they are shifted by at most")
    parser.add_argument(
        "--teach-epochs", type=int, default=0, help="of the dense network on them, to begin with"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dense-epochs", type=int, default=8, help="of LeNet-300-100 before pruning")
    parser.add_argument("--prune-epochs", type=int, default=20)
    parser.add_argument("--ramp", type=float, default=0.6, help="share of them in which the density falls")
    parser.add_argument(
        "--splice", type=float, default=1.0, help="share in which pruned weights may come back"
    )
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    parser.add_argument("--retrain-epochs", type=int, default=1)
    parser.add_argument(
        "--distill", type=float, default=0.7, help="share of the loss: the dense network's outputs"
    )
    parser.add_argument(
        "--weights", type=int, help="begin with what MLPrune leaves when so many stay, and with its densities"
    )
    parser.add_argument("--density", action="append", default=[], metavar="LAYER=SHARE")
    parser.add_argument("--learning-rate", type=float, help="while pruning; a tenth while retraining")
    parser.add_argument("--bias-density", type=float, default=0.15)
    parser.add_argument(
        "--tolerance", type=float, default=0.1, help="per cent of accuracy that a layer may cost"
    )
    parser.add_argument("--clusters", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=64)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for text in given.density:
        layer, _, share = text.partition("=")
        if layer not in OPTIONS[given.network]["density"]:
            parser.error(f"--density: there is no layer {layer!r}")
        OPTIONS[given.network]["density"][layer] = float(share)
    if given.learning_rate is not None:
        OPTIONS[given.network]["learning_rate"] = given.learning_rate
    work = Work(given)
    work.fit()
    text = json.dumps(work.outcome(arguments or sys.argv[1:]), indent=1)
    print(text)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"weightless_{given.network}.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
