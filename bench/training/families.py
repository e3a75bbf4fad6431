"""Low rank, distillation and compact filters, trained: what takes longer than a benchmark should.

    python -m bench.training.families enc resnet20_cifar10 --out bench/results
    python -m bench.training.families distill --out bench/results
    python -m bench.training.families circulant --out bench/results

``enc``: accuracy at shares of the multiplications without a gradient step, uniform ranks and the paper's search beside
the default, then trained on at half of them with the network as teacher. ``distill``: a small student of MNIST on few
images with and without a teacher, three seeds. ``circulant``: the first layer of LeNet-300-100 block-circulant. Each
writes a JSON with its command; ``--device cuda`` will do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.datasets import data_dir
from bench.train_codebooks import Batches, Data, cifar, mnist, network, top1
from bench.training.distilled import distilled_loss
from bench.training.precision import trains_in_bfloat16
from bench.training.windows import Windows, add_options, chosen_windows
from nncodec.train import ENC, Compact, distill
from nncodec.train.distillation import watching
from nncodec.train.steps import cosine, epoch, sgd
from nncodec.train.structures import BlockCirculant

SHARES = (0.75, 0.6, 0.5, 0.4, 0.3)
METHODS: dict[str, dict[str, Any]] = {
    "uniform": {"search": "uniform", "form": "paper", "metric": "pca", "factors": "svd"},
    "map": {"search": "map", "form": "paper", "metric": "pca", "factors": "svd"},
    "uniform, curvature": {"search": "uniform", "form": "paper", "metric": "pca"},
    "exact": {},
}
STUDENT = {"images": 1000, "epochs": 20, "hidden": 32, "lr": 0.05}


def plain(data: Data, size: int = 128) -> list[tuple[Tensor, Tensor]]:
    """The training images as they are, in order."""
    return list(zip(*(part.split(size) for part in data.train), strict=True))


def enc(
    name: str, data: Data, folder: Path, given: argparse.Namespace, windows: Windows | None
) -> dict[str, Any]:
    model = network(name, data, folder).to(given.device).eval()
    examples = plain(Data((data.train[0][: given.examples], data.train[1][: given.examples]), data.test))
    found: dict[str, Any] = {"network": name, "top1": top1(model, data), "untrained": {}}
    shares = given.shares or SHARES
    for share in shares:
        for method, options in METHODS.items():
            if given.methods and method not in given.methods:
                continue
            start = time.process_time()
            result = ENC(share, examples=given.examples, **options).fit(model, examples, F.cross_entropy)
            row = {
                "cost": result.history[0]["cost"],
                "top1": top1(result.model, data),
                "cpu_seconds": time.process_time() - start,
            }
            found["untrained"][f"{method} {share:g}"] = row
            print(method, share, row, flush=True)
    if given.epochs:
        batches: Any
        loss: Any
        if windows is None:
            batches, loss = Batches(data, 128), distill(model)
        else:
            batches = windows.lasting(given.epochs).loader(
                folder, *data.train, batch=128, compiled=not given.no_compile
            )
            loss = distilled_loss(0.9, 4.0)
        if given.bfloat16:
            trains_in_bfloat16(type(model), given.compile)
        method = ENC(0.5, examples=given.examples, epochs=given.epochs, lr=given.lr)
        result = method.fit(model, _Calibrated(examples, batches), loss)
        found["trained"] = {
            "cost": result.history[0]["cost"],
            "top1": top1(result.model, data),
            "epochs": given.epochs,
            "images": len(data.train[1]),
            "history": result.history,
        }
        print("trained", found["trained"]["top1"], flush=True)
    return found


class _Calibrated:
    """Images as they are in the first pass, which measures, and augmented ones in those that train."""

    def __init__(self, examples: list[tuple[Tensor, Tensor]], batches: Any) -> None:
        self.examples, self.batches, self.passes = examples, batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        self.passes += 1
        return iter(self.examples if self.passes == 1 else self.batches)


def distillation(data: Data, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    teacher = network("lenet5_mnist", data, folder).to(given.device).eval()
    found: dict[str, Any] = {"teacher": top1(teacher, data), "student": STUDENT, "seeds": []}
    for seed in range(3):
        alone, taught = (top1(trained_student(data, by, seed), data) for by in (None, teacher))
        found["seeds"].append({"seed": seed, "alone": alone, "taught": taught, "gain": taught - alone})
        print(found["seeds"][-1], flush=True)
    return found


def trained_student(data: Data, teacher: nn.Module | None, seed: int) -> nn.Module:
    """A student on the first of the images, alone or with a teacher."""
    few = Data((data.train[0][: STUDENT["images"]], data.train[1][: STUDENT["images"]]), data.test)
    torch.manual_seed(seed)
    student = Student(int(STUDENT["hidden"])).to(data.train[0].device)
    loss = F.cross_entropy if teacher is None else distill(teacher)
    with watching(loss, student):
        _train(student, few, loss)
    return student


class Student(nn.Module):
    """One hidden layer; takes raw pixels 0...255 of shape (n, 28, 28)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, hidden), nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(images.flatten(1) / 255 - 0.1307)))


def _train(model: nn.Module, data: Data, loss: Any) -> None:
    epochs, lr = int(STUDENT["epochs"]), float(STUDENT["lr"])
    optimizer = sgd(model.parameters(), lr)
    for number in range(epochs):
        model.train()
        epoch(
            model, Batches(data, 50), loss, optimizer,
            rate=lambda share, number=number: cosine(lr, (number + share) / epochs),
        )  # fmt: skip


def circulant(data: Data, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    model = network("lenet300", data, folder).to(given.device).eval()
    result = Compact({"fc1.weight": BlockCirculant(4)}, epochs=2, lr=0.02).fit(
        model, Batches(data, 128), distill(model)
    )
    projected = Compact({"fc1.weight": BlockCirculant(4)}, epochs=0).fit(model, plain(data), F.cross_entropy)
    return {
        "top1": top1(deepcopy(model), data),
        "projected": top1(projected.model, data),
        "trained": top1(result.model, data),
        "epochs": 2,
        "numbers": result.history[0]["numbers"],
        "weights": sum(p.numel() for p in model.parameters()),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("enc", "distill", "circulant"))
    parser.add_argument("network", nargs="?", default="resnet20_cifar10")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--examples", type=int, default=2048, help="images that ENC measures on")
    parser.add_argument("--train", type=int, default=50000, help="CIFAR-10 images to train on")
    parser.add_argument("--test", type=int, help="test images; all of them, unless given")
    parser.add_argument("--epochs", type=int, default=10, help="of training after ENC; 0: none")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--bfloat16", action="store_true", help="train ENC's network in mixed precision")
    parser.add_argument("--compile", action="store_true", help="with --bfloat16: faster after a minute")
    add_options(parser)
    parser.add_argument("--shares", type=float, nargs="*", help="of the multiplications")
    parser.add_argument("--methods", nargs="*", help=", ".join(METHODS))
    given = parser.parse_args(arguments)
    folder = data_dir(given.data)
    if folder is None:
        parser.error("no data folder: give --data DIR or set NNCODEC_DATA")
    if given.device == "cpu":
        torch.set_num_threads(1)
    if given.what == "enc":
        data = (
            cifar(folder, given.device, given.train)
            if "cifar10" in given.network
            else mnist(folder, given.device)
        )
        data.test = (data.test[0][: given.test], data.test[1][: given.test])
        found = enc(given.network, data, folder, given, chosen_windows(parser, given, None))
        name = f"enc_{given.network}"
    else:
        found = (distillation if given.what == "distill" else circulant)(
            mnist(folder, given.device), folder, given
        )
        name = {"distill": "distillation_mnist", "circulant": "circulant_lenet300"}[given.what]
    found["command"] = "python -m bench.training.families " + " ".join(arguments or sys.argv[1:])
    found["torch"] = torch.__version__
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
