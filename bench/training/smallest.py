"""LeNet-5 on MNIST as small as it gets: pruned, retrained, put on a few values, encoded. It trains for some minutes.

    python -m bench.training.smallest --bfloat16 --out bench/results

Few units are kept, those of greatest norm: which weights are not zero costs some two bits for each of them in a thin
network, and about ten in the whole one. They learn from the original network, whose word on shifted images is better
after some epochs on these, and are then pruned in rounds of masked retraining (MLPrune, by bits). What is left goes
onto a codebook per layer with straight-through gradients, weights settling in their clusters as it goes on, and biases
onto a coarse grid. The file holds the thin network; the size with zeros for the units that are gone is told beside it.
The last 5,000 training images are held out; test images are seen at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.datasets import data_dir, read_safetensors
from bench.report import environment
from bench.tasks import task
from bench.tasks.digits import LeNet5, read_idx
from bench.training.distilled import distilled_loss
from bench.training.exactly import encoded, kept
from bench.training.precision import trains_in_bfloat16
from bench.training.taught import Taught, learn, learn_shifted
from nncodec.train import MLPrune, Round, StraightThrough
from nncodec.train.steps import compressible

HELD = 5000
TEMPERATURE = 3.0


class Thin(LeNet5):
    """LeNet-5 with some of its channels and units."""

    def __init__(self, conv1: int, conv2: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, conv1, 5)
        self.conv2 = nn.Conv2d(conv1, conv2, 5)
        self.ip1 = nn.Linear(16 * conv2, hidden)
        self.ip2 = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = images[:, None].float() / 256
        x = x.contiguous(memory_format=torch.channels_last)  # pooling is twice as fast
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        return self.ip2(F.relu(self.ip1(x.flatten(1))))


@torch.no_grad()
def chosen(model: LeNet5, conv1: int, conv2: int, hidden: int) -> Thin:
    """The network of so many units of each layer: those whose weights, in and out, have the greatest norms."""
    second = model.ip1.weight.view(len(model.ip1.weight), -1, 16)  # hidden, conv2's channels, places

    def greatest(count: int, into: Tensor, out: Tensor) -> Tensor:
        return (into.flatten(1).norm(dim=1) * out.flatten(1).norm(dim=1)).topk(count).indices.sort().values

    first = greatest(conv1, model.conv1.weight, model.conv2.weight.transpose(0, 1))
    third = greatest(hidden, model.ip1.weight, model.ip2.weight.T)
    channels = greatest(conv2, model.conv2.weight, second.transpose(0, 1))
    made = Thin(conv1, conv2, hidden)
    made.conv1.weight.copy_(model.conv1.weight[first])
    made.conv1.bias.copy_(model.conv1.bias[first])
    made.conv2.weight.copy_(model.conv2.weight[channels][:, first])
    made.conv2.bias.copy_(model.conv2.bias[channels])
    made.ip1.weight.copy_(second[third][:, channels].flatten(1))
    made.ip1.bias.copy_(model.ip1.bias[third])
    made.ip2.weight.copy_(model.ip2.weight[:, third])
    made.ip2.bias.copy_(model.ip2.bias)
    return made


@torch.no_grad()
def whole(thin: Thin) -> LeNet5:
    """The network of the original's shapes that computes the same; units that are gone are zeros at the end."""
    model = LeNet5()
    for name, small in thin.named_parameters():
        p = model.get_parameter(name)
        p.zero_()
        p[tuple(slice(n) for n in small.shape)] = small
    return model.eval()


@torch.inference_mode()
def error(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Per cent of wrong answers."""
    model.eval()
    pairs = zip(images.split(1000), labels.split(1000), strict=True)
    return 100 - 100 * sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs) / len(labels)


def described(thin: Thin, held: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return {"weights": kept(thin), "held_error": error(thin, *held)}


def put_down(path: Path | None, done: int, thin: Thin, teacher: LeNet5, rows: list[dict[str, Any]]) -> None:
    if path is not None:
        models = {"model": thin.state_dict(), "teacher": teacher.state_dict()}
        torch.save({"done": done, **models, "rows": rows}, path)


def taken_up(path: Path, thin: Thin, teacher: LeNet5) -> tuple[int, list[dict[str, Any]]]:
    """What :func:`put_down` wrote; both networks get their weights."""
    found = torch.load(path, weights_only=True)
    thin.load_state_dict(found["model"])
    teacher.load_state_dict(found["teacher"])
    return found["done"], found["rows"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the result")
    parser.add_argument(
        "--widths", type=int, nargs=3, default=[6, 14, 24], help="units of the first three layers"
    )
    parser.add_argument(
        "--first", type=int, default=20, help="epochs of the thin network before it is pruned"
    )
    parser.add_argument("--rounds", type=int, nargs="*", default=[4500, 3200], help="weights left")
    parser.add_argument("--epochs", type=int, nargs="*", default=[10, 24], help="of each round")
    parser.add_argument("--examples", type=int, default=1000, help="to measure curvature on")
    parser.add_argument("--clusters", type=int, default=6, help="values a layer, zero among them")
    parser.add_argument("--entropy", type=float, default=0.006)
    parser.add_argument("--last", type=int, default=20, help="epochs on the codebook")
    parser.add_argument("--settle", type=float, default=1.0, help="share of these over which weights settle")
    parser.add_argument("--copies", type=int, default=3, help="shifted copies of the training set")
    parser.add_argument("--shift", type=int, default=1, help="pixels that they are shifted by at most")
    parser.add_argument("--teach-epochs", type=int, default=8, help="of the teacher on them, to begin with")
    parser.add_argument("--rate", type=float, default=0.002, help="Adam's, before the codebook")
    parser.add_argument("--last-rate", type=float, default=0.001, help="Adam's, on the codebook")
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision")
    parser.add_argument("--keep", type=Path, help="state before the codebook, to go on from")
    given = parser.parse_args(arguments)
    if len(given.rounds) != len(given.epochs):
        parser.error("--rounds and --epochs must be as many")
    torch.set_num_threads(1)
    started = time.process_time()

    rows: list[dict[str, Any]] = []

    def say(**what: Any) -> None:
        rows.append(what)
        print(json.dumps(what | {"cpu s": round(time.process_time() - started)}), file=sys.stderr, flush=True)

    data = data_dir(given.data)
    if data is None:
        parser.error("no data folder: give --data DIR or set NNCODEC_DATA")
    images = read_idx(data / "mnist" / "train-images-idx3-ubyte.gz")
    labels = read_idx(data / "mnist" / "train-labels-idx1-ubyte.gz").long()
    held = images[-HELD:], labels[-HELD:]
    test = [read_idx(data / "mnist" / f"t10k-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")]
    teacher = task("lenet5_mnist").build(read_safetensors(data / "weights" / "lenet5_mnist.safetensors"))
    assert isinstance(teacher, LeNet5)
    original = sum(4 * p.numel() for p in teacher.parameters())
    before = error(teacher, test[0], test[1].long())
    if given.bfloat16:
        trains_in_bfloat16(LeNet5)
        trains_in_bfloat16(Thin)

    def batches() -> Taught:
        return Taught(images[:-HELD], labels[:-HELD], teacher, given.copies, 128, given.shift)

    loss = distilled_loss(0.5, TEMPERATURE)
    thin = Thin(*given.widths)
    if given.keep is not None and given.keep.exists():
        done, rows = taken_up(given.keep, thin, teacher)
        loader = batches()
    else:
        done = 0
        torch.manual_seed(0)
        learn_shifted(teacher, batches(), given.teach_epochs)
        loader = batches()
        say(step="taught", held_error=error(teacher, *held))
        thin = chosen(teacher, *given.widths)
        torch.manual_seed(1)
        learn(thin, loader, loss, given.first, given.rate)
        say(step="thin", **described(thin, held))
        put_down(given.keep, 0, thin, teacher, rows)
    total = sum(m.weight.numel() for m in compressible(thin).values())
    for number, (left, epochs) in enumerate(zip(given.rounds, given.epochs, strict=True)):
        if number < done:
            continue
        method = MLPrune(
            sparsity=max(0.0, 1 - left / total),
            price="bits",
            steps=3,
            epochs=epochs,
            optimizer="adam",
            lr=given.rate,
            seed=number,
            examples=given.examples,
            iterations=40,
            gamma=1e-5,
        )
        thin = method.fit(thin, loader, loss).model
        say(step="round", **described(thin, held))
        put_down(given.keep, number + 1, thin, teacher, rows)
    method = StraightThrough(
        clusters=given.clusters,
        epochs=given.last,
        optimizer="adam",
        lr=given.last_rate,
        entropy=given.entropy,
        settle=given.settle,
        sparse=True,
        refresh=100,
    )
    thin = method.fit(thin, loader, loss).model
    thin = Round().fit(thin, loader, loss).model
    blob, codecs = encoded(thin)
    full = whole(thin)
    say(step="codebook", **described(thin, held), bytes=len(blob))
    outcome = {
        "command": "python -m bench.training.smallest " + " ".join(arguments or sys.argv[1:]),
        "environment": environment(),
        "original_bytes": original,
        "original_error": before,
        "bytes": len(blob),
        "ratio": original / len(blob),
        "error": error(thin, test[0], test[1].long()),
        "bytes_of_original_shapes": len(encoded(full)[0]),
        "error_of_original_shapes": error(full, test[0], test[1].long()),
        "weights": kept(thin),
        "codecs": codecs,
        "steps": rows,
        "cpu_seconds": round(time.process_time() - started),
    }
    text = json.dumps(outcome, indent=1)
    print(text)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "smallest_lenet5_mnist.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
