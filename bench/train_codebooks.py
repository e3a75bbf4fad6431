"""Train networks of the data folder onto codebooks, and write weights and figures.

    python -m bench.train_codebooks lenet300 slq3 mlq3 surgeon3 --out bench/results
    python -m bench.train_codebooks lenet5_mnist slq4 mlq3 --out /tmp/run
    python -m bench.train_codebooks resnet20_cifar10 slq5 --device cuda --out /tmp/run

One JSON and one safetensors file per run go to ``--out``. Where the engine is built, the weights are also encoded with
the codec that the method gives, decoded and compared. Batches are made on the device. lenet300 (784-300-100-10) is not
in the data folder: it is trained first, and kept in the cache folder; lenet300_plain is trained
without weight decay and at half the learning rate.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
if find_spec("nncodec") is None:  # no engine here: training needs none of it
    _package = ModuleType("nncodec")
    _package.__path__ = [str(ROOT / "python" / "nncodec")]
    sys.modules["nncodec"] = _package

from bench.datasets import cache_dir, data_dir, read_safetensors  # noqa: E402
from bench.training.distilled import distilled_loss  # noqa: E402
from bench.training.precision import mixed, trains_in_bfloat16  # noqa: E402
from bench.training.views import cut  # noqa: E402
from nncodec.train import MLQ, SLQ, CompensatedClustering, Method, StraightThrough  # noqa: E402
from nncodec.train.steps import cosine, epoch, sgd  # noqa: E402

_HALVES = (("conv1.*", "layer[12].*"), ("layer3.*", "linear.*"))
_STAGES = (("conv1.*", "layer1.*"), ("layer2.*",), ("layer3.*",), ("linear.*",))
_BLOCKS = (
    ("conv1.*",), *((f"layer{s}.{b}.*",) for s in (1, 2, 3) for b in (0, 1, 2)), ("linear.*",)
)  # fmt: skip
_RESNET = {"calibration": 256, "lr": 0.03}
_SHARP: dict[str, Any] = {"gamma": 1e-5, "iterations": 80}  # little damping, solved further


# Network to run to method. Numbers in names are bits as SLQ counts them, or "k" and clusters.
RECIPES: dict[str, dict[str, Callable[..., Method]]] = {
    "lenet300": {
        **{f"slq_k{k}": (lambda k=k, **o: SLQ(clusters=k, **o)) for k in (3, 5, 9, 17)},
        "slq_k3_reverse": lambda **o: SLQ(clusters=3, order="reverse", **o),
        "slq_k3_error": lambda **o: SLQ(clusters=3, order="error", **o),
        "slq_k3_magnitude": lambda **o: SLQ(clusters=3, order="magnitude", **o),
        "slq_k3_paper": lambda **o: SLQ(clusters=3, rejoin=False, **o),
        "slq_k3_paper_reverse": lambda **o: SLQ(clusters=3, rejoin=False, order="reverse", **o),
        "mlq_k3": lambda **o: MLQ(clusters=3, **o),
        "mlq_k3_through": lambda **o: MLQ(clusters=3, through=True, **o),
        "slq_k3_through": lambda **o: SLQ(clusters=3, through=True, **o),
        "eslq_k5": lambda **o: SLQ(clusters=5, values="power_of_two", **o),
        "emlq_k3": lambda **o: MLQ(clusters=3, values="power_of_two", **o),
        "straight_k3": lambda **o: StraightThrough(clusters=3, **o),
        "straight_k5": lambda **o: StraightThrough(clusters=5, **o),
        "straight_k9_entropy": lambda **o: StraightThrough(clusters=9, entropy=0.05, **o),
        **{f"compensated_k{k}": (lambda k=k, **o: CompensatedClustering(clusters=k, **o)) for k in (3, 5, 9)},
        "compensated_k3_smallest": lambda **o: CompensatedClustering(clusters=3, order="smallest", **o),
        "compensated_k3_refreshed": lambda **o: CompensatedClustering(clusters=3, refresh=True, **o),
        "compensated_k3_sharp": lambda **o: CompensatedClustering(clusters=3, **_SHARP, **o),
        "compensated_k3_sharp_smallest": lambda **o: CompensatedClustering(
            clusters=3, order="smallest", **_SHARP, **o
        ),
    },
    "lenet300_plain": {
        "slq_k3": lambda **o: SLQ(clusters=3, **o),
        "slq_k3_reverse": lambda **o: SLQ(clusters=3, order="reverse", **o),
    },
    "lenet5_mnist": {
        "compensated_k3": lambda **o: CompensatedClustering(clusters=3, **o),
        "compensated_k5": lambda **o: CompensatedClustering(clusters=5, **o),
        "slq4": lambda **o: SLQ(bits=4, **o),
        "mlq_k3": lambda **o: MLQ(clusters=3, **o),
        "straight_k3": lambda **o: StraightThrough(clusters=3, **o),
        "straight_k9_entropy": lambda **o: StraightThrough(clusters=9, entropy=0.05, **o),
    },
    "resnet20_cifar10": {
        "slq5": lambda **o: SLQ(bits=5, **{**_RESNET, "epochs": 5, "last_epochs": 4, "lr": 0.02, **o}),
        "slq3": lambda **o: SLQ(bits=3, **{**_RESNET, "epochs": 9, "last_epochs": 6, **o}),
        "mlq_k3": lambda **o: MLQ(
            clusters=3, groups=_STAGES, **{**_RESNET, "epochs": 3, "last_epochs": 6, **o}
        ),
        "mlq_k3_through": lambda **o: MLQ(
            clusters=3, groups=_HALVES, through=True, **{**_RESNET, "epochs": 6, "last_epochs": 6, **o}
        ),
        "mlq_k3_blocks": lambda **o: MLQ(
            clusters=3, groups=_BLOCKS, **{**_RESNET, "epochs": 2, "last_epochs": 8, **o}
        ),
        "straight_k3": lambda **o: StraightThrough(clusters=3, **{"epochs": 26, "lr": 0.05, **o}),
        "straight_k5": lambda **o: StraightThrough(clusters=5, **{"epochs": 20, "lr": 0.03, **o}),
    },
}


@dataclass
class Data:
    """Images and labels on the device, as the network takes them."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    shift: int = 0
    mirror: bool = False


class Batches:
    """Shuffled batches, shifted by up to ``shift`` pixels and perhaps mirrored; whole batches only.

    Random numbers come from torch's generator of the images' device, so that a training that seeds it can be repeated.
    """

    def __init__(self, data: Data, batch: int) -> None:
        self.images, self.labels = data.train
        self.shift, self.mirror, self.batch = data.shift, data.mirror, batch
        self.padded = F.pad(self.images, (data.shift,) * 4) if data.shift else self.images

    def __len__(self) -> int:
        return len(self.labels) // self.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        device = self.images.device
        order = torch.randperm(len(self.labels), device=device)
        for number in range(len(self)):
            pick = order[number * self.batch : (number + 1) * self.batch]
            yield self._seen(pick), self.labels[pick]

    def _seen(self, pick: Tensor) -> Tensor:
        if not self.shift:
            return self.images[pick]
        device, n, places = self.images.device, len(pick), 2 * self.shift + 1
        x = torch.randint(0, places, (n,), device=device)
        y = torch.randint(0, places, (n,), device=device)
        mirrored = torch.rand(n, device=device) < 0.5 if self.mirror else None
        return cut(self.padded, pick, self.images.shape[-1], y, x, mirrored)


def mnist(data: Path, device: str) -> Data:
    from bench.tasks.digits import read_idx

    def part(name: str) -> tuple[Tensor, Tensor]:
        folder = data / "mnist"
        images = read_idx(folder / f"{name}-images-idx3-ubyte.gz").float()
        return images.to(device), read_idx(folder / f"{name}-labels-idx1-ubyte.gz").long().to(device)

    return Data(part("train"), part("t10k"))


def cifar(data: Path, device: str, train: int) -> Data:
    from bench.tasks.cifar import test_images, train_images

    def part(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images.to(device).float(), labels.to(device)  # the network normalises

    return Data(part(*train_images(data, train)), part(*test_images(data, None)), shift=4, mirror=True)


class LeNet300(nn.Module):
    """784-300-100-10 with ReLU; takes raw pixels 0...255 of shape (n, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.fc1(images.flatten(1) / 255 - 0.1307))
        return self.fc3(F.relu(self.fc2(x)))


def lenet300(data: Data, plain: bool = False) -> nn.Module:
    """Trained once for 20 epochs, then read from the cache; ``plain``: without weight decay, slower."""
    path = cache_dir() / ("lenet300_plain.pt" if plain else "lenet300.pt")
    rate, decay = (0.05, 0.0) if plain else (0.1, 5e-4)
    torch.manual_seed(0)
    model = LeNet300()
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model
    model.to(data.train[0].device)
    optimizer = sgd(model.parameters(), rate, weight_decay=decay)
    for number in range(20):
        epoch(
            model, Batches(data, 128), F.cross_entropy, optimizer,
            rate=lambda share, number=number: cosine(rate, (number + share) / 20),
        )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model


class Distilled:
    """Batches whose targets are labels and the float network's logits on the very same pixels."""

    def __init__(self, batches: Batches, teacher: nn.Module, bfloat16: bool, compiled: bool) -> None:
        self.batches, self.bfloat16 = batches, bfloat16
        teacher.eval()
        self.teacher = torch.compile(teacher) if compiled else teacher

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        for images, labels in self.batches:
            with torch.no_grad(), mixed(images.device.type) if self.bfloat16 else nullcontext():
                logits = self.teacher(images).float()
            yield images, (labels, logits)


def network(name: str, data: Data, folder: Path) -> nn.Module:
    if name.startswith("lenet300"):
        return lenet300(data, plain=name == "lenet300_plain")
    from bench.tasks import task

    return task(name).build(read_safetensors(folder / "weights" / f"{name}.safetensors"))


@torch.no_grad()
def top1(model: nn.Module, data: Data) -> float:
    """Share of test images whose class is the likeliest, in per cent."""
    model.eval()
    pairs = zip(data.test[0].split(1000), data.test[1].split(1000), strict=True)
    return 100 * sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs) / len(data.test[1])


def entropy_bits(weight: Tensor) -> float:
    """Order-0 entropy of the values, in bits for the whole tensor."""
    counts = weight.detach().cpu().unique(return_counts=True)[1].double()
    return float((counts * torch.log2(counts.sum() / counts)).sum())


def figures(model: nn.Module, names: list[str]) -> dict[str, Any]:
    """Distinct values per layer, entropy of the indices in bits per weight, and the bytes these make with codebooks."""
    weights = {name: value for name, value in model.state_dict().items() if name in names}
    clusters = {name: int(w.unique().numel()) for name, w in weights.items()}
    count = sum(w.numel() for w in weights.values())
    bits = sum(entropy_bits(w) for w in weights.values())
    return {
        "weights": count,
        "clusters": clusters,
        "entropy": bits / count,
        "ideal_bytes": math.ceil(bits / 8) + 4 * sum(clusters.values()),
    }


def coded(model: nn.Module, codec: Any, names: list[str]) -> dict[str, Any]:
    """Bytes of the whole file and of the quantised weights alone; ValueError if they do not come back."""
    import nncodec

    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    blob = nncodec.encode(state, codec)
    back = nncodec.decode(blob)
    if not all(torch.equal(back[name], value) for name, value in state.items()):
        raise ValueError("the codec changed a weight")
    rules = {pattern: choice for pattern, choice in codec.items() if pattern != "*"}
    alone = nncodec.encode({name: state[name] for name in names}, rules)
    return {"file_bytes": len(blob), "weight_bytes": len(alone)}


def save(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file({name: value for name, value in state.items() if value.is_floating_point()}, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=sorted(RECIPES))
    parser.add_argument("runs", nargs="*", help="names of runs; none: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--train", type=int, default=50000, help="CIFAR-10 images to train on")
    parser.add_argument(
        "--bfloat16", action="store_true", help="mixed precision, channels last: twice as fast on new CPUs"
    )
    parser.add_argument("--compile", action="store_true", help="with --bfloat16: faster still after a minute")
    parser.add_argument(
        "--distill", type=float, default=0.0, help="share of the float network's word in the loss"
    )
    parser.add_argument("--test", type=int, help="test images; all of them, unless given")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's, per round or in all")
    given = parser.parse_args(arguments)
    folder = data_dir(given.data)
    if folder is None:
        parser.error("no data folder: give --data DIR or set NNCODEC_DATA")
    if given.device == "cpu":
        torch.set_num_threads(1)
    else:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    if given.network == "resnet20_cifar10":
        data = cifar(folder, given.device, given.train)
    else:
        data = mnist(folder, given.device)
    data.test = (data.test[0][: given.test], data.test[1][: given.test])
    base = network(given.network, data, folder).to(given.device)
    before = top1(base, data)
    if given.bfloat16:
        trains_in_bfloat16(type(base), given.compile)
        base.to(memory_format=torch.channels_last)
    given.out.mkdir(parents=True, exist_ok=True)
    for run in given.runs or RECIPES[given.network]:
        options: dict[str, Any] = {"seed": given.seed} | (
            {} if given.epochs is None else {"epochs": given.epochs}
        )
        method = RECIPES[given.network][run](**options)
        started = time.monotonic()
        batches = Batches(data, given.batch)
        if given.distill:
            taught = Distilled(batches, deepcopy(base), given.bfloat16, given.compile)
            result = method.fit(base, taught, distilled_loss(given.distill))
        else:
            result = method.fit(base, batches, F.cross_entropy)
        seconds = time.monotonic() - started
        result.model.to(memory_format=torch.contiguous_format)
        names = [name for name in result.codec if name in dict(base.named_parameters())]
        outcome = {
            "command": " ".join(
                [
                    "python -m bench.train_codebooks",
                    given.network,
                    run,
                    *(f"--{name} {getattr(given, name)}" for name in ("seed", "batch", "distill", "train")),
                    *(f"--{name}" for name in ("bfloat16", "compile") if getattr(given, name)),
                    *([] if given.epochs is None else [f"--epochs {given.epochs}"]),
                ]
            ),
            "method": repr(method),
            "float_top1": before,
            "top1": top1(result.model, data),
            "epochs": sum("loss" in row for row in result.history),
            "seconds": round(seconds, 1),
            "device": torch.cuda.get_device_name() if given.device != "cpu" else "cpu, 1 thread",
            "torch": torch.__version__,
            **figures(result.model, names),
            "history": result.history,
        }
        if find_spec("nncodec._core") is not None:
            outcome |= coded(result.model, result.codec, names)
        stem = given.out / f"codebooks_{given.network}_{run}_seed{given.seed}"
        stem.with_suffix(".json").write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
        save(result.model, stem.with_suffix(".safetensors"))
        shown = {
            key: outcome[key] for key in ("float_top1", "top1", "epochs", "seconds", "entropy", "ideal_bytes")
        }
        print(run, json.dumps(shown | {"weight_bytes": outcome.get("weight_bytes")}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
