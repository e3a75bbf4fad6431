"""The verbs: encode, decode, save_file, load_file, open, iter_file, recover."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from nncodec.container.catalogue import scan_catalogue
from nncodec.progress import Progress, counting
from nncodec.reader import File, map_file

# A process that only decodes imports nothing that encodes.
if TYPE_CHECKING:
    from nncodec.selection import CodecLike
    from nncodec.streaming import Recovered

__all__ = ["decode", "encode", "iter_file", "load_file", "open", "recover", "save_file"]

PathLike = str | os.PathLike[str]


def encode(
    tensors: Any,
    codec: CodecLike = "lossless",
    *,
    metadata: Mapping[str, str] | None = None,
    threads: int | None = None,
    progress: Progress = None,
    **budget: Any,
) -> bytes:
    """Encode a checkpoint into bytes.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor or numpy.ndarray
        Any dense tensors of torch's float, complex and bool types and integers of 8 to 64 bits, any strides. Tensors
        that share memory are stored once, and share it again after decoding. A nested checkpoint (dicts, lists, tuples,
        sets, counters, numbers, strings, bytes, None, torch.Size, torch.dtype, torch.device) comes back as it went in.
        Nothing is changed. Attributes of a mapping are not kept (``_metadata`` of torch's state dicts, which
        ``load_state_dict`` does without); a named tuple is refused.
    codec : str | Codec | mapping
        A name, an options object, or a mapping of tensor names, or glob patterns over them, to either: the first
        match wins, a pattern that matches nothing is an error. What no lossy codec should touch (no floats, or
        fewer than two dimensions) is lossless unless a pattern other than ``*`` names it.
    metadata : mapping of str to str, optional
        Kept in the file, see :meth:`File.metadata`.
    threads : int, optional
        All cores by default. The bytes do not depend on it.
    progress : callable or True, optional
        Called as ``progress(done_bytes, total_bytes)``; True shows a bar (needs tqdm).
    **budget
        For lossy codecs, exactly one of ``step`` (quantiser step), ``snr_db``, ``rel_mse``,
        ``bits_per_weight``, ``ratio`` (decoded size over encoded size). It holds over the whole checkpoint.
        ``importance={name: array}`` weighs the squared error; ``hessian=`` (what :func:`calibrate` returns, or a
        mapping of names to second moments of inputs) makes codec ``trellis`` minimise the error of layers' outputs.

    Returns
    -------
    bytes
        The bitstream (docs/format.md).

    Raises
    ------
    TypeError
        For a tensor or value that the bitstream cannot hold, naming it, and for arguments of a wrong type.
    ValueError
        For arguments with a wrong value, and for a checkpoint beyond the limits of the format (docs/format.md#limits).
    """
    from nncodec.writer import write_checkpoint

    return write_checkpoint(
        None, tensors, codec, metadata=metadata, threads=threads, progress=progress, budget=budget
    )


def save_file(
    tensors: Any,
    path: PathLike | IO[bytes],
    codec: CodecLike = "lossless",
    *,
    metadata: Mapping[str, str] | None = None,
    threads: int | None = None,
    progress: Progress = None,
    **budget: Any,
) -> None:
    """Encode a checkpoint into a file. Arguments as for :func:`encode`.

    The file appears under ``path`` when it is complete and on the disk; whatever was there before stays
    untouched if anything goes wrong. A binary file object is written to from where it stands, in one pass,
    without seeking.
    """
    from nncodec.writer import atomic_file, write_checkpoint

    options: dict[str, Any] = {
        "metadata": metadata,
        "threads": threads,
        "progress": progress,
        "budget": budget,
    }
    if isinstance(path, str | os.PathLike):
        with atomic_file(path) as file:
            write_checkpoint(file, tensors, codec, **options)
    else:
        _check_file(path, "write")
        write_checkpoint(path, tensors, codec, **options)


def decode(
    blob: bytes | bytearray | memoryview,
    *,
    framework: str | None = None,
    names: Iterable[str] | None = None,
    threads: int | None = None,
    max_bytes: int | None = None,
    progress: Progress = None,
) -> Any:
    """Decode what :func:`encode` made.

    Parameters
    ----------
    blob : bytes-like
    framework : "pt" | "np", optional
        What to give back; by default each tensor comes as what it was, numpy if torch is not installed.
    names : iterable of str, optional
        Decode only these, into a flat dict in this order. KeyError for a name that is not there.
    threads : int, optional
        All cores by default.
    max_bytes : int, optional
        LimitError if more memory than this would be decoded; physical memory by default.
    progress : callable or True, optional
        Called as ``progress(done_bytes, total_bytes)``; True shows a bar (needs tqdm).

    Returns
    -------
    dict
        Or whatever was encoded; names, order, types and shapes as they were.

    Raises
    ------
    DecodeError, VersionError, LimitError
        Nothing else, whatever the bytes are.
    """
    data = _bytes_of(blob)
    with _blob_file(data, framework, threads, max_bytes) as file:
        return _load(file, names, progress)


def load_file(
    path: PathLike | IO[bytes],
    *,
    framework: str | None = None,
    names: Iterable[str] | None = None,
    threads: int | None = None,
    max_bytes: int | None = None,
    progress: Progress = None,
) -> Any:
    """Decode a file. Arguments as for :func:`decode`; a file object is read once, front to back."""
    if isinstance(path, str | os.PathLike):
        with map_file(path, scan=True, framework=framework, threads=threads, max_bytes=max_bytes) as file:
            return _load(file, names, progress)
    _check_file(path, "read")
    from nncodec.streaming import iter_stream, load_stream

    if names is not None:
        chosen = [names] if isinstance(names, str) else list(names)
        found = dict(iter_stream(path, framework=framework, threads=threads, max_bytes=max_bytes))
        return {name: found[name] for name in chosen}
    return load_stream(path, framework, threads, max_bytes)


def open(
    path: PathLike,
    framework: str | None = None,
    *,
    threads: int | None = None,
    max_bytes: int | None = None,
) -> File:
    """Open a file for random access: mapped into memory, each tensor decoded when it is asked for.

    ::

        with nncodec.open("model.nncz") as f:
            f.keys(), f["layer.weight"], f.get_slice("layer.weight")[:4], f.info("layer.weight")
    """
    return map_file(path, scan=False, framework=framework, threads=threads, max_bytes=max_bytes)


def iter_file(
    file: PathLike | IO[bytes],
    *,
    framework: str | None = None,
    threads: int | None = None,
    max_bytes: int | None = None,
) -> Iterator[tuple[str, Any]]:
    """Decode a file, or a file object that may still be arriving: an iterator of (name, tensor).

    When the file breaks off or is damaged, every whole tensor before that is given first; then DecodeError is
    raised.
    """
    from nncodec.streaming import iter_stream

    if isinstance(file, str | os.PathLike):
        with builtins.open(file, "rb") as opened:
            yield from iter_stream(opened, framework=framework, threads=threads, max_bytes=max_bytes)
    else:
        yield from iter_stream(file, framework=framework, threads=threads, max_bytes=max_bytes)


def recover(
    file: PathLike | IO[bytes],
    *,
    framework: str | None = None,
    threads: int | None = None,
    max_bytes: int | None = None,
) -> Recovered:
    """What can be read of a damaged or truncated file: its whole tensors up to the damage, and the error."""
    from nncodec.streaming import recover_stream

    if isinstance(file, str | os.PathLike):
        with builtins.open(file, "rb") as opened:
            return recover_stream(opened, framework, threads, max_bytes)
    return recover_stream(file, framework, threads, max_bytes)


def _check_file(file: Any, method: str) -> None:
    if not callable(getattr(file, method, None)):
        raise TypeError(f"path must be a path or a file object with {method}(), not {type(file).__name__}")


def _load(file: File, names: Iterable[str] | None, progress: Progress) -> Any:
    chosen = None if names is None else [names] if isinstance(names, str) else list(names)
    with counting(progress, file.decoded_bytes(chosen)) as done:
        return file.load(chosen, progress=done)


def _blob_file(data: memoryview, framework: str | None, threads: int | None, max_bytes: int | None) -> File:
    return File(data, scan_catalogue(data), framework=framework, threads=threads, max_bytes=max_bytes)


def _bytes_of(blob: Any) -> memoryview:
    try:
        view = memoryview(blob)
    except TypeError:
        raise TypeError(f"blob must be bytes-like, not {type(blob).__name__}") from None
    if not view.c_contiguous:
        raise TypeError("blob must be contiguous")
    return view.cast("B")
