"""Train a network of the data folder with ``nncodec.train.Universal`` until it fits a size, and measure what decodes.

    python -m bench.train_universal lenet5_mnist --out bench/results
    python -m bench.train_universal resnet32_cifar10 --device cuda --out /tmp/run
    python -m bench.train_universal resnet32_cifar10 --threads 2

On a machine with the engine, the outcome is encoded and the decoded weights are scored. On one without, only the
weights are written; ``--check FILE`` encodes and scores them later. Batches are made on the device; the larger networks
see windows of the images, which take a fraction of the time (``--sides`` alone: whole images). A GPU takes steps on
windows as CUDA graphs (``--no-compile``: it does not).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
ENGINE = find_spec("nncodec") is not None
if not ENGINE:  # no engine here: training needs none of it
    for _name, _content in (
        ("nncodec", {"__path__": [str(ROOT / "python" / "nncodec")]}),
        ("nncodec.train", {"__path__": [str(ROOT / "python" / "nncodec" / "train")]}),
        ("nncodec.api", {"load_file": None, "save_file": None}),
        ("nncodec.selection", {"resolve_codec": lambda codec: codec}),
        ("nncodec.codecs", {"Codec": object}),
        ("nncodec.codecs.universal", {"UniversalExact": dict}),
    ):
        sys.modules[_name] = ModuleType(_name)
        vars(sys.modules[_name]).update(_content)

from bench.datasets import data_dir, read_safetensors  # noqa: E402
from bench.tasks import task  # noqa: E402
from bench.tasks.cifar import test_images, train_images  # noqa: E402
from bench.tasks.digits import read_idx  # noqa: E402
from bench.training.distilled import distilled_loss  # noqa: E402
from bench.training.graphs import trains_on_graphs  # noqa: E402
from bench.training.precision import mixed, trains_in_bfloat16  # noqa: E402
from bench.training.views import Stages, cut  # noqa: E402
from bench.training.windows import Windows, add_options, chosen_windows  # noqa: E402
from nncodec.train.universal import Universal, exact_codec  # noqa: E402


@dataclass(frozen=True)
class Recipe:
    """The method, images of a batch, and windows of the images."""

    method: Universal
    batch: int
    windows: Windows | None = None


RECIPES = {
    "lenet5_mnist": Recipe(
        Universal(
            density=0.016, prune_epochs=15, quantise_epochs=12, tune_epochs=1, lr=0.01, revive=0.1, distill=0.5
        ),
        128,
    ),
    "resnet20_cifar10": Recipe(
        Universal(
            density=0.14, prune_epochs=20, quantise_epochs=51, tune_epochs=1, lr=0.04, revive=0.1, distill=0.8,
            fine_below=1000, blend=0.35,
        ),
        128,
        Windows((24, 32), (50, 22), ("resnet44_cifar10", "resnet20_cifar10"), 4),
    ),
    "resnet32_cifar10": Recipe(
        Universal(
            density=0.105, prune_epochs=26, quantise_epochs=41, tune_epochs=1, lr=0.04, revive=0.1, distill=0.8,
            fine_below=1000,
        ),
        128,
        Windows((24, 28), (58, 10), ("resnet44_cifar10", "resnet32_cifar10")),
    ),
}  # fmt: skip


class Batches:
    """Shuffled batches of images on the device, shifted by up to ``shift`` pixels and perhaps mirrored."""

    def __init__(
        self, images: Tensor, labels: Tensor, batch: int, shift: int, mirror: bool, seed: int
    ) -> None:
        pad = (shift,) * 4
        self.images = F.pad(images, pad) if shift else images  # (n, channels, h + 2 shift, w + 2 shift)
        self.labels, self.batch, self.shift, self.mirror = labels, batch, shift, mirror
        self.size = images.shape[-1]
        self.random = torch.Generator(images.device).manual_seed(seed)

    def __len__(self) -> int:
        return len(self.labels) // self.batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        device, shift = self.labels.device, self.shift
        order = torch.randperm(len(self.labels), generator=self.random, device=device)
        for i in range(len(self)):
            chosen = order[i * self.batch : (i + 1) * self.batch]
            y, x = torch.randint(2 * shift + 1, (2, self.batch), generator=self.random, device=device)
            mirrored = None
            if self.mirror:
                mirrored = torch.randint(2, (self.batch,), generator=self.random, device=device).bool()
            yield cut(self.images, chosen, self.size, y, x, mirrored), self.labels[chosen]


def load(
    name: str, data: Path, device: torch.device, batch: int, seed: int
) -> tuple[Batches, tuple[Tensor, Tensor]]:
    """Training batches and the test set, on the device."""
    if name == "lenet5_mnist":
        folder = data / "mnist"
        images = read_idx(folder / "train-images-idx3-ubyte.gz")[:, None]
        labels = read_idx(folder / "train-labels-idx1-ubyte.gz").long()
        test = (
            read_idx(folder / "t10k-images-idx3-ubyte.gz")[:, None],
            read_idx(folder / "t10k-labels-idx1-ubyte.gz").long(),
        )
        shift, mirror = 2, False
    else:
        images, labels = train_images(data, 50000)
        test = test_images(data, None)
        shift, mirror = 4, True
    made = Batches(images.to(device), labels.to(device), batch, shift, mirror, seed)
    return made, (test[0].to(device), test[1].to(device))


@torch.inference_mode()
def top1(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Per cent of test images whose class is the likeliest."""
    right = torch.zeros((), device=test[1].device)
    training = model.training
    model.eval()
    for images, labels in zip(test[0].split(500), test[1].split(500), strict=True):
        right += (model(images).argmax(1) == labels).sum()
    model.train(training)
    return 100 * float(right) / len(test[1])


class Trained(nn.Module):
    """A network as it is trained: in bfloat16 where that is safe, images with an axis for channels."""

    def __init__(self, model: nn.Module, flat: bool) -> None:
        super().__init__()
        self.model, self.flat = model, flat

    def forward(self, images: Tensor) -> Tensor:
        with mixed(images.device.type):
            return self.model(images[:, 0] if self.flat else images).float()


def check(name: str, tensors: dict[str, Any], data: Path) -> dict[str, Any]:
    """Encode, decode, compare, score."""
    import nncodec

    original = read_safetensors(data / "weights" / f"{name}.safetensors")
    kept = {key: np.ascontiguousarray(tensors[key], np.float32) for key in original}
    names = [key for key, value in kept.items() if value.ndim > 1]
    blob = nncodec.encode(kept, exact_codec({k: torch.from_numpy(v) for k, v in kept.items()}, names))
    decoded = nncodec.decode(blob, framework="np")
    same = all(np.array_equal(decoded[key].view(np.uint32), kept[key].view(np.uint32)) for key in kept)
    raw = sum(value.nbytes for value in original.values())
    chosen = task(name)
    ((metric, before),) = chosen.evaluate(chosen.build(original), data, None).items()
    ((_, after),) = chosen.evaluate(chosen.build(decoded), data, None).items()
    return {
        "exact": same, "bytes": len(blob), "original bytes": raw, "ratio": raw / len(blob),
        "metric": metric, "original": before, "decoded": after,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.train_universal", description=__doc__.splitlines()[0]
    )
    parser.add_argument("network", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=float, default=1.0, help="factor on the recipe's numbers of epochs")
    parser.add_argument("--batch", type=int)
    parser.add_argument(
        "--set", action="append", default=[], metavar="OPTION=VALUE", help="change the recipe"
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--name", help="of the files written (universal_NETWORK)")
    parser.add_argument("--steps", type=int, default=0, help="stop each epoch after so many batches")
    parser.add_argument("--test", type=int, help="score so many test images while training")
    add_options(parser)
    parser.add_argument("--check", type=Path, metavar="FILE", help="score the weights of an earlier run")
    given = parser.parse_args(arguments)
    data = data_dir(given.data)
    if data is None:
        parser.error("no data folder: give --data DIR or set NNCODEC_DATA")
    if given.threads:
        torch.set_num_threads(given.threads)
    stem = given.out / (given.name or f"universal_{given.network}")
    given.out.mkdir(parents=True, exist_ok=True)
    if given.check is not None:
        print(json.dumps(check(given.network, dict(read_safetensors(given.check)), data), indent=1))
        return 0

    recipe = RECIPES[given.network].method
    batch = given.batch or RECIPES[given.network].batch
    windows = chosen_windows(parser, given, RECIPES[given.network].windows)
    for change in given.set:
        key, _, value = change.partition("=")
        recipe = replace(recipe, **{key: type(getattr(recipe, key))(value)})
    if given.epochs != 1:
        scaled = {
            k: math.ceil(getattr(recipe, k) * given.epochs) for k in ("prune_epochs", "quantise_epochs")
        }
        recipe = replace(recipe, **scaled)
    device = torch.device(given.device)
    cuda = device.type == "cuda"
    if cuda:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
    began = time.perf_counter()
    plain = task(given.network).build(read_safetensors(data / "weights" / f"{given.network}.safetensors"))
    model: nn.Module
    loader: Batches | Stages
    loss: Callable[..., Tensor]
    if windows is not None:
        windows = windows.lasting(recipe.prune_epochs + recipe.quantise_epochs + recipe.tune_epochs)
        images, labels = (x.to(device) for x in train_images(data, batch * given.steps or 50000))
        test = tuple(x.to(device) for x in test_images(data, None))
        model, method = plain.to(device), replace(recipe, distill=0.0)  # said by the loss
        compiled = not (given.no_compile or cuda)  # GPUs: graphs instead
        loader = windows.loader(data, images, labels, batch=batch, seed=recipe.seed, compiled=compiled)
        loss = distilled_loss(recipe.distill, recipe.temperature)
        if cuda and not given.no_compile:
            trains_on_graphs(type(plain))
        else:
            trains_in_bfloat16(type(plain), compiled=compiled)
    else:
        model = Trained(plain, flat=given.network == "lenet5_mnist")
        model, method = model.to(device, memory_format=torch.channels_last), recipe
        loader, test = load(given.network, data, device, batch, recipe.seed)
        if given.steps:
            loader.labels = loader.labels[: given.steps * batch]
        loss = F.cross_entropy
    if given.test:
        test = test[0][: given.test], test[1][: given.test]
    start = top1(model, test)
    began_training = time.perf_counter()
    print(f"{given.network}: {start:.2f} % on {device}, {began_training - began:.0f} s to load", flush=True)

    scores: list[float] = []

    def report(done: int, of: int) -> None:
        scores.append(top1(model, test))
        print(f"{done}/{of}: {scores[-1]:.2f} %, {time.perf_counter() - began_training:.1f} s", flush=True)

    result = replace(method, inplace=True, progress=report).fit(model, loader, loss)
    for row, value in zip(result.history, scores, strict=True):
        row["score"] = value
    outcome: dict[str, Any] = {
        "network": given.network,
        "recipe": {k: v for k, v in asdict(recipe).items() if v is not None and k not in ("inplace",)},
        "batch": batch, "device": str(device), "torch": torch.__version__,
        "windows": None if windows is None else asdict(windows),
        "before": start, "after": top1(model, test),
        "seconds": time.perf_counter() - began, "history": result.history,
    }  # fmt: skip
    tensors = {
        key: value.detach().cpu().float().contiguous()
        for key, value in plain.state_dict().items()
        if value.is_floating_point()
    }
    write_safetensors(stem.with_suffix(".safetensors"), tensors)
    if ENGINE:
        outcome |= check(given.network, {k: v.numpy() for k, v in tensors.items()}, data)
    stem.with_suffix(".json").write_text(json.dumps(outcome, indent=1) + "\n")
    print(json.dumps({k: v for k, v in outcome.items() if k not in ("history", "recipe")}, indent=1))
    return 0


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """float32 tensors; the package of that name may be missing."""
    header: dict[str, Any] = {}
    at = 0
    for name, value in tensors.items():
        size = 4 * value.numel()
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in tensors.values():
            file.write(value.numpy().astype("<f4").tobytes())


if __name__ == "__main__":
    raise SystemExit(main())
