"""What the commands share: standard streams as files, refusal to overwrite, progress bar, sizes for people."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from nncodec.writer import atomic_file

__all__ = [
    "STREAM",
    "CountingFile",
    "as_file",
    "output_file",
    "print_text",
    "progress_bar",
    "refuse_overwriting",
    "shown",
    "shown_output",
    "size_text",
]

STREAM = "-"


def shown_output(target: str) -> str:
    """An output's name for messages."""
    return "standard output" if target == STREAM else target


def shown(source: str) -> str:
    """A file's name for messages."""
    return "standard input" if source == STREAM else source


@contextlib.contextmanager
def as_file(source: str) -> Iterator[Path]:
    """The input as a file that can be mapped: a stream or named pipe is first copied into a temporary one."""
    if source != STREAM and os.path.isfile(source):
        yield Path(source)
        return
    with tempfile.NamedTemporaryFile(prefix="nncodec-") as spooled:
        if source == STREAM:
            shutil.copyfileobj(sys.stdin.buffer, spooled)
        else:
            with open(source, "rb") as pipe:
                shutil.copyfileobj(pipe, spooled)
        spooled.flush()
        yield Path(spooled.name)


def refuse_overwriting(target: str, force: bool, source: str) -> None:
    """Raise a usage error where writing would destroy a file, or send binary data to a terminal."""
    if target == STREAM:
        if sys.stdout.isatty():
            raise click.UsageError("refusing to write binary data to a terminal; use -o FILE")
    elif os.path.exists(target) and source != STREAM and os.path.samefile(target, source):
        raise click.UsageError(f"{target} is the input")
    elif os.path.isfile(target) and not force:
        raise click.UsageError(f"{target} exists; use -f to overwrite it")
    elif os.path.isdir(target):
        raise click.UsageError(f"{target} is a folder")


@contextlib.contextmanager
def output_file(target: str) -> Iterator[IO[bytes]]:
    """Standard output, or a file that appears when it is complete."""
    if target == STREAM:
        stream: IO[bytes] = sys.stdout.buffer
        if not isinstance(stream, io.RawIOBase):
            yield stream
            stream.flush()
            return
        # PYTHONUNBUFFERED: a raw stream, whose write() may take only part of what it is given.
        buffered = io.BufferedWriter(stream)
        try:
            yield buffered
            buffered.flush()
        finally:
            with contextlib.suppress(OSError):
                buffered.detach()
    else:
        try:
            with atomic_file(target) as file:
                yield file
        except OSError as error:
            if error.filename is None:  # a failed write does not say where
                error.filename = target
            raise


def print_text(text: str) -> None:
    """Write lines to standard output, all of them or BrokenPipeError."""
    with output_file(STREAM) as file:
        file.write(f"{text}\n".encode(errors="backslashreplace"))


class CountingFile(io.RawIOBase):
    """Passes what is written on to a file, and counts it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        written = self._file.write(data)
        self.size += written
        return written


@contextlib.contextmanager
def progress_bar(quiet: bool, doing: str, unit: str = "B") -> Iterator[Callable[[int, int], None] | None]:
    """A callback (units done, units in all) that draws a bar on a terminal; None where there is nobody to see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=doing, unit=unit, unit_scale=True, leave=False, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def size_text(n_bytes: int) -> str:
    """A number of bytes in decimal units: 999 B, 1.2 kB, 74.3 MB."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
