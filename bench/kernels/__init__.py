"""Each kernel against its plain-Python twin and against memcpy.

A module of this folder lists the kernels of one folder of cpp/ in ``kernels() -> Iterator[Kernel]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from bench.kernels.kernel import Kernel
from bench.suite import Options, Row
from bench.timing import memcpy_of, take_turns
from nncodec import _core

__all__ = ["Kernel", "run"]

_WANTED_RATIO = 100  # a kernel that is not so many times as fast as its twin is not worth its C++


def _listed() -> Iterator[Kernel]:
    for info in iter_modules(__path__):
        if info.name != "kernel":
            yield from import_module(f"{__name__}.{info.name}").kernels()


def _measure(kernel: Kernel, options: Options) -> Row:
    ours, twin, copy = take_turns([kernel.run, kernel.twin, memcpy_of(kernel.n_bytes)], options.rounds)
    speed = ours.mb_per_s(kernel.n_bytes)
    per_twin = speed / twin.mb_per_s(kernel.twin_bytes)
    return {
        "kernel": kernel.name,
        "isa": _core.isa() if kernel.per_isa else "any",
        "MB/s": speed,
        "x twin": per_twin,
        "x memcpy": speed / copy.mb_per_s(kernel.n_bytes),
        "spread": ours.spread,
        "note": "" if per_twin >= _WANTED_RATIO else f"below {_WANTED_RATIO}x",
    }


def run(options: Options) -> Iterator[Row]:
    """One row per kernel, and per instruction set where it has versions of its own."""
    best = _core.isa()
    try:
        for kernel in _listed():
            if not options.wants(kernel.name):
                continue
            for isa in _core.supported_isas() if kernel.per_isa else [best]:
                _core.force_isa(isa)
                yield _measure(kernel, options)
            _core.force_isa(best)
    finally:
        _core.force_isa(best)
