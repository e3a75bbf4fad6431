"""Writing files: whole checkpoints at once, or tensor by tensor; nothing appears under the path until it is
whole.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from nncodec.budget import read_budget
from nncodec.codecs.base import LossyCodec, Setting
from nncodec.container.sections import MAX_VIEW_ELEMENTS, Alias, write_metadata
from nncodec.encoding import FLUSH_BYTES, SMALL_BYTES, Encoder, RecordWriter, check_names
from nncodec.limits import check_threads
from nncodec.planning import group, plan, spare_nonfinite
from nncodec.progress import Progress, counting
from nncodec.selection import CodecLike, Selection
from nncodec.structure import flatten
from nncodec.tensors import Leaf, leaf
from nncodec.ties import Tie, find_ties

__all__ = ["Writer", "atomic_file", "write_checkpoint"]

PathLike = str | os.PathLike[str]

# Room that is made for the result at once; beyond it grows.
MOST_ROOM = 1 << 34
# Less than the pieces in which the encoder writes, which so are not copied once more.
WRITE_BYTES = 1 << 17


def check_metadata(metadata: Mapping[str, str] | None) -> bytes | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping of strings to strings, not {metadata!r}")
    if not metadata:
        return None
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"metadata maps strings to strings, not {key!r} to {value!r}")
    try:
        return write_metadata(metadata)
    except UnicodeEncodeError:
        raise ValueError("metadata has a string that cannot be written as UTF-8") from None


def write_checkpoint(
    file: IO[bytes] | None,
    tensors: Any,
    codec: CodecLike,
    *,
    metadata: Mapping[str, str] | None = None,
    threads: int | None = None,
    progress: Progress = None,
    budget: Mapping[str, Any],
) -> bytes:
    """Encode a checkpoint into a file object, in one pass, front to back; without one, into the bytes it returns."""
    workers = check_threads(threads)
    selection = Selection(codec)
    limits = read_budget(budget, budgeted=selection.budgeted, lossy=selection.lossy)
    about = check_metadata(metadata)
    named, structure = flatten(tensors)
    check_names(named)
    leaves = [leaf(name, value) for name, value in named.items()]
    if limits is not None:
        for name in limits.importance:
            if name not in named:
                raise ValueError(f"importance names {name!r}, which is no tensor of the checkpoint")
    ties = find_ties(leaves)
    stored = [number for number in range(len(leaves)) if number not in ties]
    choices = {n: selection.choose(leaves[n].name, leaves[n].dtype, leaves[n].shape) for n in stored}
    selection.check_patterns(named)
    kept = {number: leaves[number] for number in stored}
    spare_nonfinite(kept, choices, workers)
    aliases = [_alias(leaves, number, tie) for number, tie in ties.items()]

    def begin(writer: RecordWriter) -> None:
        if about is not None:
            writer.section(b"M", about)
        if structure is not None:
            writer.section(b"S", structure)

    settings: dict[int, Setting] = {}
    if limits is not None:
        settings = plan(kept, choices, limits, workers, begin, lambda writer: writer.finish(aliases))
    size = sum(leaves[n].nbytes for n in stored)
    with counting(progress, size) as done:
        # Memory that is never touched costs nothing, so there is room for data that cannot be compressed.
        capacity = FLUSH_BYTES if file is not None else size + (size >> 8) + FLUSH_BYTES
        writer = RecordWriter(file, workers, min(capacity, MOST_ROOM))
        begin(writer)
        encoder = Encoder(writer, workers, done)
        first_of = {record[0]: record for record in group(kept, choices, limits)}
        for number, choice in choices.items():
            if not isinstance(choice, LossyCodec):
                encoder.add(leaves[number], number, choice)
            elif number in first_of:
                record = first_of[number]
                setting = settings[number] if choice.budgeted else settings.get(number, Setting(1.0))
                encoder.add_record([leaves[n] for n in record], record, choice, setting)
        encoder.flush()
        writer.finish(aliases)
    return writer.take()


def _alias(leaves: list[Leaf], number: int, tie: Tie) -> Alias:
    leaf, target = leaves[number], leaves[tie.target].name
    if tie.view is None:
        return Alias(leaf.name, number, leaf.origin, target)
    if leaf.elements > MAX_VIEW_ELEMENTS:
        raise ValueError(
            f"{leaf.name!r} is a view of {leaf.elements} elements of {target!r}, above {MAX_VIEW_ELEMENTS}"
        )
    offset, strides = tie.view
    return Alias(leaf.name, number, leaf.origin, target, offset, leaf.shape, strides)


class Writer:
    """Writes a file tensor by tensor, for models larger than memory.

    ::

        with nncodec.Writer("model.nncz") as w:
            w.add("layer.weight", tensor)

    Nothing appears at ``path`` unless the block ends without an exception; then the file is there, whole. A
    tensor may be changed or freed as soon as :meth:`add` returns. Tensors that share memory are stored each
    for itself, since earlier ones may be gone. A budget holds for each tensor alone.

    Parameters
    ----------
    path : str | os.PathLike
    codec : str | Codec | mapping
        As for :func:`nncodec.encode`; a pattern that matched nothing is an error when the file is closed.
    metadata : mapping of str to str, optional
    threads : int, optional
    """

    def __init__(
        self,
        path: PathLike,
        codec: CodecLike = "lossless",
        *,
        metadata: Mapping[str, str] | None = None,
        threads: int | None = None,
        **budget: Any,
    ) -> None:
        self._threads = check_threads(threads)
        self._selection = Selection(codec)
        self._budget = read_budget(budget, budgeted=self._selection.budgeted, lossy=self._selection.lossy)
        about = check_metadata(metadata)
        self._names: dict[str, None] = {}
        self._names_bytes = 0
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            file = opening.enter_context(atomic_file(path))
            self._writer = RecordWriter(file, self._threads)
            if about is not None:
                self._writer.section(b"M", about)
            self._encoder = Encoder(self._writer, self._threads)
            self._stack = opening.pop_all()
        self._open = True

    def add(self, name: str, tensor: Any) -> None:
        """Encode one tensor. Raises ValueError for a name that was there before, and beyond limits of the format."""
        if not self._open:
            raise ValueError("the writer is closed")
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, not {name!r}")
        names_bytes = check_names([name], self._names_bytes)
        if name in self._names:
            raise ValueError(f"the name {name!r} is there twice")
        found = leaf(name, tensor)
        codec = self._selection.choose(name, found.dtype, found.shape)
        setting = None
        if self._budget is not None and codec.lossy:
            choices = {0: codec}
            spare_nonfinite({0: found}, choices, self._threads)
            codec = choices[0]
            setting = plan({0: found}, choices, self._budget, self._threads).get(0)
        ordinal = len(self._names)
        self._names[name] = None
        self._names_bytes = names_bytes
        small = not codec.lossy and found.nbytes <= SMALL_BYTES
        if small:  # waits for others, so it must be a copy
            copy = np.array(found.data(), copy=True).view(found.dtype.numpy()).reshape(found.shape)
            held = leaf(name, copy)
            found = Leaf(name, copy, found.dtype, found.shape, found.origin, "cpu", 0, held.strides)
        self._encoder.add(found, ordinal, codec, setting)
        if not small:
            self._encoder.flush_large()

    def close(self) -> None:
        """Finish the file and put it in its place. Closing twice does nothing."""
        if not self._open:
            return
        self._open = False
        with self._stack:
            self._selection.check_patterns(self._names)
            self._encoder.flush()
            self._writer.finish([])

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._open:
            self._open = False
            self._stack.__exit__(kind, error, trace)

    def __del__(self) -> None:
        # A writer that was dropped leaves no temporary file behind; what it had is incomplete.
        if getattr(self, "_open", False):
            self._open = False
            dropped = RuntimeError("the writer was dropped without close()")
            with contextlib.suppress(RuntimeError):
                self._stack.__exit__(RuntimeError, dropped, None)


@contextlib.contextmanager
def atomic_file(path: PathLike) -> Iterator[IO[bytes]]:
    """A file that replaces ``path`` when the block ends without an exception, and leaves no trace when it
    does not.

    It is written beside its destination (a symbolic link is followed), flushed to the disk, then renamed. A
    file that is replaced hands on its permissions. Something that is no regular file, such as a pipe, is
    written directly.
    """
    target = Path(os.path.realpath(os.fspath(path)))
    mode = None
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(target)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{target} is a directory")
        if not stat.S_ISREG(found.st_mode):
            with open(target, "wb") as direct:
                yield direct
            return
        mode = stat.S_IMODE(found.st_mode)
    beside = target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}.tmp")
    try:
        opened = open(beside, "xb", buffering=WRITE_BYTES)  # noqa: SIM115, closed below
    except OSError as error:
        error.filename = os.fspath(path)  # the caller knows nothing of the file beside it
        raise
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(beside, mode)
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where folders can be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
