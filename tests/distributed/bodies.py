"""What the ranks of the distributed tests run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nncodec.distributed import (
    DisagreementError,
    NonFiniteGradientError,
    ParameterServer,
    ParameterServerWorker,
    ThreeLCState,
    threelc_hook,
)
from nncodec.errors import DecodeError, NNCodecError
from nncodec.reference import ternary as twin


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 30), nn.Tanh(), nn.Linear(30, 5))


def batch(rank: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(1000 * step + rank)
    return torch.randn(8, 20, generator=made), torch.randint(0, 5, (8,), generator=made)


def loss_of(model: nn.Module, rank: int, step: int) -> torch.Tensor:
    x, y = batch(rank, step)
    return nn.functional.cross_entropy(model(x), y)


def bits(model: nn.Module) -> bytes:
    return b"".join(p.detach().numpy().tobytes() for p in model.parameters())


def same_bits_every_step(rank: int, world: int, steps: int, entropy: str, dtype: torch.dtype) -> int:
    """How many steps all ranks ended with the same parameters."""
    ddp = DistributedDataParallel(network().to(dtype), bucket_cap_mb=0.003)
    state = ThreeLCState(
        1.5, warmup_steps=2, min_numel=50, entropy=entropy, named_parameters=ddp.named_parameters()
    )
    ddp.register_comm_hook(state, threelc_hook)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.05, momentum=0.9)
    equal = 0
    for step in range(steps):
        optimizer.zero_grad()
        x, y = batch(rank, step)
        nn.functional.cross_entropy(ddp(x.to(dtype)), y).backward()
        optimizer.step()
        mine = torch.frombuffer(bytearray(b"".join(
            p.detach().float().numpy().tobytes() for p in ddp.parameters())), dtype=torch.uint8)  # fmt: skip
        others = [torch.empty_like(mine) for _ in range(world)]
        dist.all_gather(others, mine)
        equal += all(torch.equal(other, mine) for other in others)
    return equal


def against_definition(rank: int, world: int, steps: int) -> dict[str, Any]:
    """DDP with the hook, and the same training by the plain-Python twin, parameter by parameter."""
    ddp = DistributedDataParallel(network(), bucket_cap_mb=0.003)
    state = ThreeLCState(1.25, min_numel=50, named_parameters=ddp.named_parameters())
    ddp.register_comm_hook(state, threelc_hook)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.1)

    models = [network() for _ in range(world)]
    residuals = [{n: [0.0] * p.numel() for n, p in models[0].named_parameters()} for _ in range(world)]
    equal = []
    for step in range(steps):
        optimizer.zero_grad()
        loss_of(ddp, rank, step).backward()
        optimizer.step()
        for r, model in enumerate(models):
            model.zero_grad()
            loss_of(model, r, step).backward()
        for name, parameter in models[0].named_parameters():
            total = np.zeros(parameter.numel(), np.float32)
            for r, model in enumerate(models):
                gradient = dict(model.named_parameters())[name].grad.reshape(-1)
                if parameter.numel() < 50:
                    total += np.float32(1 / world) * gradient.numpy()
                    continue
                left = residuals[r][name]
                m = twin.scale_of(twin.absmax(gradient.tolist(), left), 1.25)
                digits, residuals[r][name] = twin.quantise(gradient.tolist(), left, m)
                total += np.float32(m / world) * (np.array(digits, np.float32) - 1)
            for model in models:
                dict(model.named_parameters())[name].data -= 0.1 * torch.from_numpy(total).reshape(
                    parameter.shape
                )
        equal.append(
            all(
                torch.allclose(a, b, atol=1e-6)
                for a, b in zip(ddp.parameters(), models[0].parameters(), strict=True)
            )
        )
    kept = {name: tensor.tolist() for name, tensor in state.residuals.items()}
    error = max(float(np.abs(np.array(kept[name]) - np.array(residuals[rank][name])).max()) for name in kept)
    buckets = len(ddp._get_ddp_logging_data().get("rebuilt_bucket_sizes", "").split(","))
    return {"equal": equal, "names": sorted(kept), "error": error, "buckets": buckets}


def resumable(
    rank: int, world: int, steps: int, folder: str, killed_at: int | None
) -> tuple[bytes, dict[str, int]]:
    """Train; go on from what is in ``folder``; end abruptly, with everything saved, before step ``killed_at``."""
    ddp = DistributedDataParallel(network(), bucket_cap_mb=0.003)
    state = ThreeLCState(1.75, warmup_steps=1, min_numel=50, named_parameters=ddp.named_parameters())
    ddp.register_comm_hook(state, threelc_hook)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.05, momentum=0.9)
    path, first = Path(folder) / f"rank{rank}.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        first = saved["step"]
        ddp.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state.load_state_dict(saved["threelc"])
    for step in range(first, steps):
        if step == killed_at:
            torch.save(
                {
                    "step": step,
                    "model": ddp.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "threelc": state.state_dict(),
                },
                path,
            )
            dist.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        loss_of(ddp, rank, step).backward()
        optimizer.step()
    return bits(ddp), dict(vars(state.traffic))


class FakeBucket:
    """Enough of a DDP bucket for the hook: flat gradients of some sizes."""

    def __init__(self, sizes: list[int], rank: int = 0) -> None:
        made = torch.Generator().manual_seed(rank)
        self._buffer = torch.randn(sum(sizes), generator=made)
        self._parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
        self._gradients = list(self._buffer.split(sizes))

    def buffer(self) -> torch.Tensor:
        return self._buffer

    def gradients(self) -> list[torch.Tensor]:
        return self._gradients

    def parameters(self) -> list[nn.Parameter]:
        return self._parameters

    def is_last(self) -> bool:
        return True


def not_finite(rank: int, world: int, policy: str) -> dict[str, Any]:
    """Rank 1 has a NaN in the second of three parameters."""
    bucket = FakeBucket([300, 400, 500], rank)
    names = [(name, p) for name, p in zip(("a", "b", "c"), bucket.parameters(), strict=True)]
    state = ThreeLCState(1.0, nonfinite=policy, named_parameters=names)
    before = [g.clone() for g in bucket.gradients()]
    if rank == 1:
        bucket.gradients()[1][7] = float("nan")
    told: dict[str, Any] = {"error": None, "tensor": None, "before": [g.numpy() for g in before]}
    try:
        threelc_hook(state, bucket)
    except NonFiniteGradientError as error:
        told |= {"error": str(error), "tensor": error.tensor}
    told["gradients"] = [g.numpy() for g in bucket.gradients()]
    told["residuals"] = {name: r.numpy() for name, r in state.residuals.items()}
    # The group is still usable.
    dist.barrier()
    return told


def other_sizes(rank: int, world: int) -> tuple[str, bool]:
    """Ranks whose buckets differ; what was raised, and whether the residual has all of the gradient again."""
    bucket = FakeBucket([300, 400 + (rank == world - 1)], rank)
    state = ThreeLCState(1.0)
    before = bucket.buffer().clone()
    try:
        threelc_hook(state, bucket)
    except DisagreementError as error:
        kept = torch.cat([state.residuals["parameter 0"], state.residuals["parameter 1"]])
        return str(error), torch.equal(kept, before)
    return "", False


def other_groups(rank: int, world: int) -> dict[str, Any]:
    """Two models side by side: one of ranks 0 and 2, one of rank 1 alone."""
    groups = {0: dist.new_group([0, 2]), 1: dist.new_group([1])}
    group = groups[rank % 2]
    ddp = DistributedDataParallel(network(), process_group=group, gradient_as_bucket_view=True)
    state = ThreeLCState(1.5, group, min_numel=50)
    ddp.register_comm_hook(state, threelc_hook)
    optimizer = torch.optim.SGD(ddp.parameters(), 0.05)
    for step in range(4):
        optimizer.zero_grad()
        loss_of(ddp, rank, step).backward()
        optimizer.step()
    return {"bits": bits(ddp), "sent": state.traffic.sent, "steps": state.step}


class TwoWays(nn.Module):
    """Takes one of two layers, so that the other goes without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.ways = nn.ModuleList([nn.Linear(20, 30), nn.Linear(20, 30)])

    def forward(self, x: torch.Tensor, way: int) -> torch.Tensor:
        return self.ways[way](x)


def unused_parameters(rank: int, world: int) -> float:
    """What was handed out and what is kept, less all gradients: the largest difference."""
    ddp = DistributedDataParallel(TwoWays(), find_unused_parameters=True)
    state = ThreeLCState(1.5, min_numel=50, named_parameters=ddp.named_parameters())
    ddp.register_comm_hook(state, threelc_hook)
    alone = [TwoWays() for _ in range(world)]  # whose gradients add up over ranks and steps
    handed_out = [torch.zeros_like(p) for p in ddp.parameters()]
    for step in range(9):
        # Both ranks the same way, each its own, both the other.
        ways = [(step + (r if step % 3 == 1 else 0)) // 2 % 2 for r in range(world)]
        ddp.zero_grad(set_to_none=True)
        ddp(batch(rank, step)[0], ways[rank]).square().mean().backward()
        for total, p in zip(handed_out, ddp.parameters(), strict=True):
            total += p.grad if p.grad is not None else 0
        for r, model in enumerate(alone):
            (model(batch(r, step)[0], ways[r]).square().mean() / world).backward()
    error = 0.0
    for total, (name, _), *parts in zip(
        handed_out, alone[0].named_parameters(), *(m.parameters() for m in alone), strict=True
    ):
        kept = state.residuals.get(name, torch.zeros(total.numel())).clone()
        dist.all_reduce(kept)
        expected = sum(p.grad for p in parts)
        error = max(error, float((total + kept.view_as(total) / world - expected).abs().max()))
    return error


def lying_header(rank: int, world: int, failure: int, length: int) -> str:
    """Rank 1 announces what cannot be."""
    from nncodec.distributed import exchange, hook

    if rank == 1:
        hook.Header = lambda fingerprint, *_: exchange.Header(fingerprint, failure, length)
    try:
        threelc_hook(ThreeLCState(), FakeBucket([300, 400], rank))
    except DecodeError as error:
        return str(error)
    return "nothing"


def missing_rank(rank: int, world: int) -> tuple[str, float]:
    """Rank 1 never comes to the exchange: what rank 0 gets, and after how many seconds."""
    if rank == 1:
        time.sleep(4)
        return "", 0.0
    start = time.monotonic()
    try:
        threelc_hook(ThreeLCState(1.0), FakeBucket([300]))
    except RuntimeError as error:
        return type(error).__name__, time.monotonic() - start
    return "nothing", time.monotonic() - start


def parameter_server(rank: int, world: int, steps: int, stop: int) -> dict[str, Any]:
    """Rank 0 serves the others; everybody's state is saved and loaded at ``stop``."""
    model = network()
    workers = list(range(1, world))
    hashes, losses, gap = [], [], 0.0
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def make() -> ParameterServer | ParameterServerWorker:
        if rank == 0:
            return ParameterServer(
                model.named_parameters(), optimizer, workers, sparsity_multiplier=1.5, min_numel=50
            )
        return ParameterServerWorker(model.named_parameters(), 0, sparsity_multiplier=1.5, min_numel=50)

    peer = make()
    for step in range(steps):
        if step == stop:
            saved = peer.state_dict()
            peer = make()
            peer.load_state_dict(saved)
        if rank:
            model.zero_grad()
            loss = loss_of(model, rank, step % 4)
            loss.backward()
            losses.append(loss.item())
        peer.step()
        if isinstance(peer, ParameterServer):
            hashes.append(b"".join(t.numpy().tobytes() for t in peer.replica.values()))
        else:
            hashes.append(bits(model))
    if isinstance(peer, ParameterServer):
        gap = max(float((p - peer.replica[n]).abs().max()) for n, p in model.named_parameters())
    return {"hashes": hashes, "losses": losses, "gap": gap, "traffic": dict(vars(peer.traffic))}


def parameter_server_failures(rank: int, world: int, what: str) -> str:
    """What each rank raises when worker 2 has a NaN, or another model."""
    model = network()
    if what == "disagree" and rank == 2:
        model = nn.Linear(3, 3)
    before = bits(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    try:
        if rank == 0:
            ParameterServer(model.named_parameters(), optimizer, [1, 2]).step()
        else:
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            if what == "nan" and rank == 2:
                model[2].weight.grad[3, 3] = float("nan")
            ParameterServerWorker(model.named_parameters(), 0).step()
    except (NonFiniteGradientError, DisagreementError) as error:
        assert bits(model) == before
        return f"{type(error).__name__}: {error}"
    return "nothing"


class Overflowing(torch.optim.SGD):
    """Makes parameters infinite."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.data.fill_(float("inf"))


def parameter_server_cannot_go_on(rank: int, world: int, what: str) -> str:
    """What each rank raises when the optimizer overflows, or worker 2 sends what is no message or too much."""
    model = network()
    before = bits(model)
    try:
        if rank == 0:
            kind = Overflowing if what == "overflow" else torch.optim.SGD
            server = ParameterServer(model.named_parameters(), kind(model.parameters(), 0.1), [2, 1])
            try:
                server.step()
            finally:
                assert b"".join(t.numpy().tobytes() for t in server.replica.values()) == before
        else:
            for p in model.parameters():
                p.grad = torch.ones_like(p)
            worker = ParameterServerWorker(model.named_parameters(), 0)
            if rank == 2 and what == "garbage":
                worker._peer.send(0, 0, b"\x01\x09" * 100)
                worker._peer.receive(0, range(-3, 1))
                return "told"
            if rank == 2 and what == "too much":
                dist.send(torch.tensor([worker._peer.fingerprint, 0, 1 << 33]), 0, tag=3)
                return "told"
            worker.step()
    except NNCodecError as error:
        assert rank == 0 or bits(model) == before
        return f"{type(error).__name__}: {error}"
    return "nothing"
