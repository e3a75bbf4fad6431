"""Data-parallel training with and without 3LC: accuracy, bytes, step times. Run by torchrun, on two to four processes.

    torchrun --standalone --nproc-per-node 2 -m bench.train_threelc --hooks plain fp16 powersgd 3lc:1.0 3lc:1.75
    torchrun --standalone --nproc-per-node 2 -m bench.train_threelc --network resnet20_cifar10 --epochs 1

Each hook trains the same network from the same start on the same batches. To see step times on a thin network, run
it where the loopback device has a token bucket, in a network namespace of its own (Linux, as root):

    unshare -n sh -c 'ip link set lo up mtu 1500; tc qdisc add dev lo root tbf rate 100mbit burst 128kb latency 1s;
        torchrun --nproc-per-node 2 --master-addr 127.0.0.1 -m bench.train_threelc --steps 20 --train 2560 --test 0'

Both directions of all ranks share that link. ``--measure`` codes each 3LC message once more: what the other entropy
coder would take, and the entropy of the digits. One JSON goes to ``--out``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from bench.datasets import data_dir, read_safetensors
from bench.tasks import cifar, digits
from nncodec._core import ternary_rans_decode, ternary_rans_encode, zero_run_decode, zero_run_encode
from nncodec.distributed import Compressor, ThreeLCState, threelc_hook

_LATE = 0.5  # the second half of a run is what is called after warm-up


@dataclass
class Data:
    """Images as the network takes them, and classes."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def lenet5_mnist(folder: Path, train: int, test: int) -> tuple[nn.Module, Data]:
    def read(name: str, count: int) -> tuple[Tensor, Tensor]:
        images = digits.read_idx(folder / "mnist" / f"{name}-images-idx3-ubyte.gz")[:count]
        return images, digits.read_idx(folder / "mnist" / f"{name}-labels-idx1-ubyte.gz")[:count].long()

    return digits.LeNet5(), Data(read("train", train), read("t10k", test))


def resnet20_cifar10(folder: Path, train: int, test: int) -> tuple[nn.Module, Data]:
    """The shapes come from the file of weights; the weights themselves are fresh."""
    shapes = read_safetensors(folder / "weights" / "resnet20_cifar10.safetensors")
    data = Data(cifar.train_images(folder, min(train, 50000)), cifar.test_images(folder, test))
    return cifar.ResNet(shapes, "A"), data


NETWORKS: dict[str, Callable[[Path, int, int], tuple[nn.Module, Data]]] = {
    "lenet5_mnist": lenet5_mnist,
    "resnet20_cifar10": resnet20_cifar10,
}


@dataclass
class Wire:
    """Bytes that this rank puts on the wire: an all-reduce by a ring sends 2 (n - 1) / n of its tensor, an all-gather
    passes n - 1 parts on.
    """

    sent: float = 0

    def __post_init__(self) -> None:
        all_reduce, all_gather = dist.all_reduce, dist.all_gather

        def counted_reduce(tensor: Tensor, *args: Any, **kw: Any) -> Any:
            n = dist.get_world_size()
            self.sent += tensor.numel() * tensor.element_size() * 2 * (n - 1) / n
            return all_reduce(tensor, *args, **kw)

        def counted_gather(parts: list[Tensor], tensor: Tensor, *args: Any, **kw: Any) -> Any:
            self.sent += tensor.numel() * tensor.element_size() * (len(parts) - 1)
            return all_gather(parts, tensor, *args, **kw)

        dist.all_reduce, dist.all_gather = counted_reduce, counted_gather


class MeasuredCompressor(Compressor):
    """Codes each message again by both coders, and counts."""

    def message(self, name: str, values: Tensor, *, fed_back: bool = True) -> bytes:
        made = super().message(name, values, fed_back=fed_back)
        counts: dict[str, float] = self.__dict__.setdefault("counts", {})
        for key, value in _recoded(made, values).items():
            counts[key] = counts.get(key, 0) + value
        return made


def _recoded(message: bytes, values: Tensor) -> dict[str, float]:
    """Bytes of a message by either coder, and of its digits' entropy."""
    if message[0] >= 4:
        return {} if message[0] == 4 else {"raw": 4.0 * values.numel(), "zero_run": 1, "rans": 1}
    packed = np.empty(-(-values.numel() // 5), np.uint8)
    if message[0] & 2:
        ternary_rans_decode(message[5:], packed)
    else:
        packed[:] = np.frombuffer(zero_run_decode(message[5:], packed.size), np.uint8)
    numbers = packed[:, None] // np.array([81, 27, 9, 3, 1], np.uint8) % 3
    flat = (numbers if message[0] & 1 else numbers.T).reshape(-1)[: values.numel()]
    of = np.bincount(flat, minlength=3)
    of = of[of > 0]
    return {
        "raw": 4.0 * values.numel(),
        "zero_run": 5 + len(zero_run_encode(packed)),
        "rans": 5 + len(ternary_rans_encode(packed)),
        "entropy": float((of * np.log2(of.sum() / of)).sum() / 8),
    }


def completed(hook: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A hook of torch's, waited for: futures that are still open when a process ends may abort it."""

    def waiting(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        value = hook(state, bucket).wait()
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(value[0] if isinstance(value, list) else value)
        return done

    waiting.__annotations__ = {"bucket": dist.GradBucket, "return": torch.futures.Future[Tensor]}
    return waiting


def register(ddp: DistributedDataParallel, name: str, warmup: int, measure: bool) -> ThreeLCState | None:
    """Give the model the hook of this name: plain, fp16, powersgd, powersgd:RANK, 3lc:S or 3lc:S:ENTROPY."""
    kind, *options = name.split(":")
    if kind == "plain":
        ddp.register_comm_hook(None, completed(default_hooks.allreduce_hook))
    elif kind == "fp16":
        ddp.register_comm_hook(None, completed(default_hooks.fp16_compress_hook))
    elif kind == "powersgd":
        rank = int(options[0]) if options else 2
        state = powerSGD_hook.PowerSGDState(
            None, matrix_approximation_rank=rank, start_powerSGD_iter=max(2, warmup)
        )
        ddp.register_comm_hook(state, completed(powerSGD_hook.powerSGD_hook))
    elif kind == "3lc":
        mine = ThreeLCState(
            float(options[0]) if options else 1.0,
            warmup_steps=warmup,
            entropy="zero_run" if "zero_run" in options else "rans",
            named_parameters=ddp.named_parameters(),
        )
        if measure:
            plain = mine.compressor
            mine.compressor = MeasuredCompressor(
                plain.sparsity_multiplier, plain.entropy, plain.layout, plain.min_numel
            )
        ddp.register_comm_hook(mine, threelc_hook)
        return mine
    else:
        raise SystemExit(f"unknown hook {name!r}")
    return None


@dataclass
class Outcome:
    """What one hook's training came to."""

    hook: str
    seed: int
    steps: int
    loss: float = math.nan
    accuracy: float | None = None
    wire_bytes_per_step: float = 0
    raw_bytes_per_step: float = 0
    step_ms: float = math.nan
    measured: list[dict[str, float]] = field(default_factory=list)


def batches(
    data: Data, rank: int, world: int, batch: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each rank's share of the same shuffled order."""
    images, labels = data.train
    made = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if order.numel() < batch * world:
            order = torch.randperm(len(images), generator=made)
        mine, order = order[rank * batch : (rank + 1) * batch], order[world * batch :]
        yield images[mine], labels[mine]


@torch.inference_mode()
def accuracy(model: nn.Module, data: Data) -> float:
    model.eval()
    images, labels = data.test
    right = sum(
        int((model(x).argmax(1) == y).sum())
        for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    model.train()
    return 100 * right / len(images)


def train(options: argparse.Namespace, hook: str, seed: int, wire: Wire) -> Outcome:
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(seed)
    folder = data_dir(options.data)
    if folder is None:
        raise SystemExit("no data folder: set NNCODEC_DATA")
    model, data = NETWORKS[options.network](folder, options.train, options.test)
    steps = options.steps or int(options.epochs * len(data.train[0]) / (options.batch * world))
    warmup = options.warmup if hook.startswith(("3lc", "powersgd")) else 0
    ddp = DistributedDataParallel(model)
    state = register(ddp, hook, warmup, options.measure)
    optimizer = torch.optim.SGD(ddp.parameters(), options.lr, momentum=0.9, weight_decay=1e-4)
    result = Outcome(hook, seed, steps, raw_bytes_per_step=4.0 * sum(p.numel() for p in model.parameters()))
    times: list[float] = []
    losses: list[float] = []
    for step, (x, y) in enumerate(batches(data, rank, world, options.batch, steps, seed)):
        ramp = min(1.0, (step + 1) / max(1, options.ramp))
        for group in optimizer.param_groups:
            group["lr"] = options.lr * ramp * 0.5 * (1 + math.cos(math.pi * step / steps))
        if step == int(_LATE * steps):
            wire.sent = 0
        if isinstance(state, ThreeLCState) and options.measure:
            state.compressor.__dict__["counts"] = {}
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(ddp(x), y)
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
        losses.append(loss.item())
        if isinstance(state, ThreeLCState) and options.measure and state.compressor.__dict__["counts"]:
            result.measured.append({"step": step} | state.compressor.__dict__["counts"])
    late = steps - int(_LATE * steps)
    result.loss = float(np.mean(losses[-late:]))
    result.step_ms = 1e3 * float(np.median(times[-late:]))
    result.wire_bytes_per_step = wire.sent / late
    result.accuracy = accuracy(model, data) if len(data.test[0]) else None
    dist.barrier()
    return result


def summary(result: Outcome) -> dict[str, Any]:
    """Figures for the table and the JSON; measured ratios over the second half of the steps and at some steps."""
    row = {name: value for name, value in vars(result).items() if name != "measured"}
    row["ratio_on_the_wire"] = result.raw_bytes_per_step / max(1.0, result.wire_bytes_per_step)
    late = [m for m in result.measured if m["step"] >= _LATE * result.steps]
    if late:
        total = {key: sum(m.get(key, 0) for m in late) for key in ("raw", "zero_run", "rans", "entropy")}
        row["late"] = {
            "zero_run_ratio": total["raw"] / total["zero_run"],
            "rans_ratio": total["raw"] / total["rans"],
            "zero_run_over_rans": total["zero_run"] / total["rans"],
            "rans_over_entropy": total["rans"] / total["entropy"],
            "entropy_bits_per_value": 32 * total["entropy"] / total["raw"],
        }
        row["at"] = [
            {
                "step": m["step"],
                "zero_run_ratio": m["raw"] / m["zero_run"],
                "rans_ratio": m["raw"] / m["rans"],
            }
            for m in result.measured[:: max(1, len(result.measured) // 12)]
        ]
    return row


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, default="lenet5_mnist")
    parser.add_argument("--hooks", nargs="+", default=["plain", "fp16", "powersgd", "3lc:1.0", "3lc:1.75"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--steps", type=int, help="instead of --epochs")
    parser.add_argument("--batch", type=int, default=64, help="per process (64)")
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--ramp", type=int, default=50, help="steps over which the learning rate rises (50)")
    parser.add_argument("--warmup", type=int, default=0, help="steps without compression (0)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train", type=int, default=60000, help="training images")
    parser.add_argument("--test", type=int, default=10000, help="test images")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(minutes=30))
    wire = Wire()
    rows = []
    first = dist.get_rank() == 0
    if first:
        print("hook         seed  steps     loss  top1 %  bytes/step   ratio  ms/step")
    for seed in options.seeds:
        for hook in options.hooks:
            result = train(options, hook, seed, wire)
            rows.append(summary(result))
            if not first:
                continue
            shown = "-" if result.accuracy is None else f"{result.accuracy:.2f}"
            print(
                f"{hook:12} {seed:4} {result.steps:6} {result.loss:8.4f} {shown:>7} "
                f"{result.wire_bytes_per_step:11,.0f} {rows[-1]['ratio_on_the_wire']:7.1f} {result.step_ms:8.1f}",
                flush=True,
            )
            if "late" in rows[-1]:
                print("   ", {key: round(value, 4) for key, value in rows[-1]["late"].items()}, flush=True)
            if options.out:
                document = {
                    "suite": "train_threelc",
                    "command": f"torchrun --standalone --nproc-per-node {dist.get_world_size()} -m bench.train_threelc "
                    + " ".join(f"--{key} {value}" for key, value in _given(options)),
                    "rows": rows,
                }
                options.out.write_text(json.dumps(document, indent=1) + "\n")
    dist.barrier()
    dist.destroy_process_group()


def _given(options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for key, value in vars(options).items():
        if key in ("data", "out") or value is None or value is False:
            continue
        if value is True:
            yield key, ""
        else:
            yield key, " ".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main()
