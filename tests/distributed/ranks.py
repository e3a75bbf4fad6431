"""Runs a function on several processes that form a gloo group over a file, and gives back what each returned."""

from __future__ import annotations

import datetime
import os
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["run_ranks"]

_DEADLINE_S = 120


def _main(
    rank: int, world: int, store: str, timeout: float, body: Callable[..., Any], args: Any, pipe: Connection
) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=timeout),
        )
        pipe.send((True, body(rank, world, *args)))
    except BaseException:
        pipe.send((False, traceback.format_exc()))
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def run_ranks(world: int, body: Callable[..., Any], *args: Any, timeout: float = 60) -> list[Any]:
    """``body(rank, world, *args)`` on each rank; it must be importable, its result picklable."""
    # One server imports torch (and what optimizers import late); the ranks are forked from it. Importing takes
    # longer than most tests.
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "torch.nn.parallel", "nncodec.distributed"])
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(world):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_main, args=(rank, world, os.path.join(folder, "store"), timeout, body, args, theirs)
            )
            process.start()
            theirs.close()
            started.append((process, ours))
        try:
            outcomes = []
            for process, pipe in started:
                if not pipe.poll(_DEADLINE_S):
                    raise TimeoutError(f"process {process.name} says nothing")
                try:
                    outcomes.append(pipe.recv())
                except EOFError:
                    outcomes.append((False, f"process {process.name} died"))
        finally:
            for process, pipe in started:
                process.join(10)
                if process.is_alive():
                    process.kill()
                    process.join()
                pipe.close()
    for good, value in outcomes:
        if not good:
            raise AssertionError(value)
    return [value for _, value in outcomes]
