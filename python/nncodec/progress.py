"""The ``progress=`` argument: a callable, or a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["Progress", "counting"]

Progress = Callable[[int, int], object] | bool | None


@contextmanager
def counting(progress: Progress, total: int, unit: str = "B") -> Iterator[Callable[[int], None]]:
    """A function that takes what was just done and reports to ``progress(done, total)`` or a bar."""
    if progress is True:
        bar_class: Any = import_module("tqdm").tqdm  # not needed otherwise
        with bar_class(total=total, unit=unit, unit_scale=unit == "B", unit_divisor=1024) as bar:
            yield lambda step: bar.update(step) and None
    elif progress:
        done = 0

        def report(step: int) -> None:
            nonlocal done
            done += step
            progress(done, total)

        yield report
    else:
        yield lambda step: None
