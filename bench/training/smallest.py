"""LeNet-5 on MNIST as small as it gets: pruned, retrained, put on a few values, encoded. It trains for some minutes.

    python -m bench.training.smallest --out bench/results

MLPrune without a gradient step takes most weights, by bits. What is left is a thin network (dead channels and units
are cut out, so that training is fast), which is pruned on in rounds of masked retraining, with the original network as
teacher on shifted images too. Then the weights go onto a codebook per layer with straight-through gradients, and the
biases onto a coarse grid. The file holds a network of the original shapes. The last 5,000 training images are held out:
rounds are judged by them; test images are seen at the end.
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

import nncodec
from bench.datasets import data_dir, read_safetensors
from bench.report import environment
from bench.tasks import task
from bench.tasks.digits import LeNet5, read_idx
from bench.train_codebooks import distilled_loss, trains_in_bfloat16
from bench.training.taught import Taught, learn_shifted
from nncodec.train import MLPrune, Round, StraightThrough
from nncodec.train.exact import smallest_file
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
def thinned(model: LeNet5) -> Thin:
    """Without units that nothing depends on.

    A unit without inputs is a constant, which goes into the biases of the next layer.
    """
    first, second, hidden = (w.flatten(1) for w in (model.conv1.weight, model.conv2.weight, model.ip1.weight))
    for source, bias, following, of_unit in (
        (first, model.conv1.bias, model.conv2, lambda w: w.sum((2, 3))),
        (second, model.conv2.bias, model.ip1, lambda w: w.view(len(w), -1, 16).sum(2)),
        (hidden, model.ip1.bias.relu(), model.ip2, lambda w: w),
    ):  # fmt: skip
        constant = (source != 0).sum(1) == 0
        following.bias += of_unit(following.weight) @ (bias * constant)
        if isinstance(following, nn.Linear):
            per = following.in_features // len(constant)
            following.weight[:, constant.repeat_interleave(per)] = 0
        else:
            following.weight[:, constant] = 0
    third = model.ip2.weight
    used_hidden = (third != 0).any(0)
    used_second = (model.ip1.weight[used_hidden] != 0).any(0).view(-1, 16).any(1)
    used_first = (model.conv2.weight[used_second] != 0).any(0).any(-1).any(-1)
    made = Thin(*(max(1, int(used.sum())) for used in (used_first, used_second, used_hidden)))
    for used in (used_first, used_second, used_hidden):
        used[0] |= not bool(used.any())
    made.conv1.weight.copy_(model.conv1.weight[used_first])
    made.conv1.bias.copy_(model.conv1.bias[used_first])
    made.conv2.weight.copy_(model.conv2.weight[used_second][:, used_first])
    made.conv2.bias.copy_(model.conv2.bias[used_second])
    made.ip1.weight.copy_(model.ip1.weight[used_hidden][:, used_second.repeat_interleave(16)])
    made.ip1.bias.copy_(model.ip1.bias[used_hidden])
    made.ip2.weight.copy_(model.ip2.weight[:, used_hidden])
    made.ip2.bias.copy_(model.ip2.bias)
    return made


@torch.no_grad()
def whole(thin: Thin) -> LeNet5:
    """The network of the original's shapes that computes the same.

    Channels and units can be in any order: those that are left come first, which costs fewer bits.
    """
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


def kept(model: nn.Module) -> int:
    return sum(int(m.weight.count_nonzero()) for m in compressible(model).values())


def encoded(model: LeNet5) -> tuple[bytes, dict[str, Any]]:
    """The smallest exact file, and its codecs."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    codec = smallest_file(state)
    blob = nncodec.encode(state, codec)
    back = nncodec.decode(blob)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    return blob, {name: choice if isinstance(choice, str) else choice.name for name, choice in codec.items()}


def widths(thin: Thin) -> list[int]:
    return [thin.conv1.out_channels, thin.conv2.out_channels, thin.ip1.out_features]


def described(thin: Thin, held: tuple[Tensor, Tensor]) -> dict[str, Any]:
    return {
        "weights": kept(thin),
        "held_error": error(thin, *held),
        "widths": widths(thin),
    }


def put_down(path: Path | None, done: int, thin: Thin, teacher: LeNet5, rows: list[dict[str, Any]]) -> None:
    if path is not None:
        models = {"model": thin.state_dict(), "teacher": teacher.state_dict()}
        torch.save({"done": done, **models, "widths": widths(thin), "rows": rows}, path)


def taken_up(path: Path, teacher: LeNet5) -> tuple[int, Thin, list[dict[str, Any]]]:
    """What :func:`put_down` wrote; the teacher gets its weights."""
    found = torch.load(path, weights_only=True)
    thin = Thin(*found["widths"])
    thin.load_state_dict(found["model"])
    teacher.load_state_dict(found["teacher"])
    return found["done"], thin, found["rows"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the result")
    parser.add_argument("--first", type=int, default=4000, help="weights after pruning without training")
    parser.add_argument("--rounds", type=int, nargs="*", default=[2600, 1700], help="weights left")
    parser.add_argument("--epochs", type=int, nargs="*", default=[8, 20], help="of each round")
    parser.add_argument("--examples", type=int, default=1000, help="to measure curvature on")
    parser.add_argument("--clusters", type=int, default=6, help="values a layer, zero not counted")
    parser.add_argument("--entropy", type=float, default=0.02)
    parser.add_argument("--last", type=int, default=10, help="epochs on the codebook")
    parser.add_argument("--copies", type=int, default=0, help="shifted copies of the training set")
    parser.add_argument("--shift", type=int, default=2, help="pixels that they are shifted by at most")
    parser.add_argument("--teach-epochs", type=int, default=0, help="of the teacher on them, to begin with")
    parser.add_argument("--rate", type=float, default=0.003, help="Adam's, in rounds")
    parser.add_argument("--last-rate", type=float, default=0.001, help="Adam's, on the codebook")
    parser.add_argument("--bfloat16", action="store_true", help="mixed precision")
    parser.add_argument("--keep", type=Path, help="state after each round, to go on from")
    given = parser.parse_args(arguments)
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
    common: dict[str, Any] = {"price": "bits", "examples": given.examples, "iterations": 40, "gamma": 1e-5}
    done = -1
    if given.keep is not None and given.keep.exists():
        done, thin, rows = taken_up(given.keep, teacher)
        loader = batches()
    else:
        loader = batches()
        if given.teach_epochs:
            torch.manual_seed(0)
            learn_shifted(teacher, loader, given.teach_epochs)
            loader = batches()
        say(step="taught", held_error=error(teacher, *held))
        total = sum(m.weight.numel() for m in compressible(teacher).values())
        method = MLPrune(sparsity=1 - given.first / total, steps=8, **common)
        thin = thinned(method.fit(teacher, loader, loss).model)
        say(step="prune", **described(thin, held))
        put_down(given.keep, 0, thin, teacher, rows)
    for number, (left, epochs) in enumerate(zip(given.rounds, given.epochs, strict=True)):
        if number < done:
            continue
        size = sum(m.weight.numel() for m in compressible(thin).values())
        method = MLPrune(
            sparsity=max(0.0, 1 - left / size),
            steps=3,
            epochs=epochs,
            optimizer="adam",
            lr=given.rate,
            seed=number,
            **common,
        )
        thin = thinned(method.fit(thin, loader, loss).model)
        say(step="round", **described(thin, held))
        put_down(given.keep, number + 1, thin, teacher, rows)
    method = StraightThrough(
        clusters=given.clusters,
        epochs=given.last,
        optimizer="adam",
        lr=given.last_rate,
        entropy=given.entropy,
        sparse=True,
        refresh=100,
    )
    thin = method.fit(thin, loader, loss).model
    thin = thinned(Round().fit(thin, loader, loss).model)
    thin = Round().fit(thin, loader, loss).model  # constants went into biases
    model = whole(thin)
    blob, codecs = encoded(model)
    say(step="codebook", weights=kept(model), held_error=error(model, *held), bytes=len(blob))
    outcome = {
        "command": "python -m bench.training.smallest " + " ".join(arguments or sys.argv[1:]),
        "environment": environment(),
        "original_bytes": original,
        "original_error": before,
        "bytes": len(blob),
        "ratio": original / len(blob),
        "error": error(model, test[0], test[1].long()),
        "weights": kept(model),
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
