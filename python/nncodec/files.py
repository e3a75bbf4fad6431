"""Checkpoint files of other formats, for the command line: ``.safetensors``, ``.pt`` / ``.pth``, ``.npz``.

Nothing is ever unpickled: torch files are read with ``weights_only=True`` and numpy files with ``allow_pickle=False``.
Each package is imported only when a file asks for it.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nncodec.dtypes import BY_CODE, from_numpy
from nncodec.structure import flatten

__all__ = ["Checkpoint", "FileError", "flat", "format_of", "is_flat", "read", "sniff", "write"]

FORMATS = {".safetensors": "safetensors", ".pt": "pt", ".pth": "pt", ".npz": "npz", ".nncz": "nncz"}

_BY_SAFETENSORS = {row.safetensors: row for row in BY_CODE.values() if row.safetensors}


class FileError(Exception):
    """A file that cannot be read or written as asked; the message says which and why."""


@dataclass
class Checkpoint:
    """What a file held: tensors (a flat mapping, or any nesting for ``.pt``) and its text metadata."""

    tensors: Any
    metadata: dict[str, str] = field(default_factory=dict)


def format_of(path: str | os.PathLike[str]) -> str | None:
    """The format that a file name's ending stands for, or None."""
    return FORMATS.get(Path(path).suffix.lower())


def sniff(path: str | os.PathLike[str]) -> str | None:
    """The format that a file's first bytes show, or None."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(b"\x89NNC"):
        return "nncz"
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            return "npz" if all(name.endswith(".npy") for name in archive.namelist()) else "pt"
    return None


def is_flat(tensors: Any) -> bool:
    """Whether this is one mapping from names to tensors, which every format can hold."""
    return isinstance(tensors, Mapping) and all(
        isinstance(name, str) and hasattr(value, "dtype") and hasattr(value, "shape")
        for name, value in tensors.items()
    )


def flat(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tensors of a checkpoint, nested or not, by the names that they have in a .nncz file."""
    return dict(checkpoint.tensors) if is_flat(checkpoint.tensors) else flatten(checkpoint.tensors)[0]


def read(path: Path, kind: str) -> Checkpoint:
    """Read a checkpoint of the given format ("safetensors", "pt" or "npz"). Raises FileError."""
    readers = {"safetensors": _read_safetensors, "pt": _read_torch, "npz": _read_npz}
    return readers[kind](path)


def write(checkpoint: Checkpoint, file: IO[bytes], kind: str) -> None:
    """Write a checkpoint to an open file in the given format. Raises FileError if the format cannot hold it."""
    writers = {"safetensors": _write_safetensors, "pt": _write_torch, "npz": _write_npz}
    writers[kind](checkpoint, file)


def _need(package: str, path: Path) -> FileError:
    return FileError(f"{path}: needs the package {package} (pip install {package})")


# --- safetensors: 8 bytes header length, a JSON header, then the tensors without holes


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise _need("safetensors", path) from error
    try:
        with safe_open(
            path, framework="np"
        ):  # the package checks the header; its values can be trusted below
            pass
    except SafetensorError as error:
        raise FileError(f"{path}: {error}") from error
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(mapped[:8], "little")
    header = json.loads(mapped[8:start])
    metadata = header.pop("__metadata__", None) or {}
    by_place = sorted(
        header.items(), key=lambda item: item[1]["data_offsets"]
    )  # the order in which they were saved
    tensors = {name: _view(path, name, entry, mapped, start) for name, entry in by_place}
    return Checkpoint(tensors, metadata)


def _view(path: Path, name: str, entry: dict[str, Any], mapped: mmap.mmap, start: int) -> NDArray[Any]:
    """A tensor of a mapped safetensors file, no bytes copied."""
    row = _BY_SAFETENSORS.get(entry["dtype"])
    if row is None:
        raise FileError(
            f"{path}: tensor {name!r} has the element type {entry['dtype']}, which no codec knows"
        )
    dtype = row.numpy()
    begin, end = entry["data_offsets"]
    flat = np.frombuffer(mapped, np.uint8, count=end - begin, offset=start + begin)
    if (start + begin) % dtype.alignment:
        flat = flat.copy()
    tensor: NDArray[Any] = flat.view(dtype).reshape(entry["shape"])
    return tensor


def _write_safetensors(checkpoint: Checkpoint, file: IO[bytes]) -> None:
    """Header and tensors in the checkpoint's own order, spelled as the package spells them.

    So a file that went through a lossless codec comes back byte for byte, and an open file and one copy of the tensors
    are enough; the package's writer sorts by name and takes a path.
    """
    tensors = _flat_arrays(checkpoint, "safetensors")
    header: dict[str, Any] = {"__metadata__": checkpoint.metadata} if checkpoint.metadata else {}
    end = 0
    order = _aligned_order(tensors)
    for name in order:
        value = tensors[name]
        row = from_numpy(value.dtype)
        if row is None or not row.safetensors:
            kind = value.dtype if row is None else row.name
            raise FileError(f"tensor {name!r}: safetensors cannot hold {kind}; write a .pt file instead")
        begin, end = end, end + value.nbytes
        header[name] = {"dtype": row.safetensors, "shape": value.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        file.write(_raw_bytes(tensors[name]))


def _aligned_order(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    """The given order if every tensor then starts at a multiple of its element size, else larger elements first."""
    place = 0
    for value in tensors.values():
        if place % value.dtype.itemsize:
            return sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
        place += value.nbytes
    return list(tensors)


def _flat_arrays(checkpoint: Checkpoint, kind: str) -> Mapping[str, NDArray[Any]]:
    if not is_flat(checkpoint.tensors):
        raise FileError(
            f"this is a nested checkpoint, which a .{kind} file cannot hold; write a .pt file instead"
        )
    arrays: Mapping[str, NDArray[Any]] = checkpoint.tensors
    return arrays


def _raw_bytes(value: NDArray[Any]) -> memoryview:
    """The elements in row-major order, as bytes."""
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


# --- torch


def _read_torch(path: Path) -> Checkpoint:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise _need("torch", path) from error
    from pickle import UnpicklingError
    from struct import error as StructError

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        raise FileError(
            f"{path}: holds more than tensors and plain values ({_refused(str(error))}), and nothing is unpickled; "
            "save a module's state_dict()"
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, AttributeError, StructError) as error:
        raise FileError(f"{path}: not a torch checkpoint: {error}") from error
    return Checkpoint(tensors)


def _refused(message: str) -> str:
    """What a pickle asked for, from torch's message: the class or function, else the reason in its words."""
    found = re.search(r"GLOBAL ([\w.]+)", message) or re.search(
        r"WeightsUnpickler error:\s*([^\n]+)", message
    )
    return found[1] if found else "torch refuses it"


def _write_torch(checkpoint: Checkpoint, file: IO[bytes]) -> None:
    import torch

    torch.save(checkpoint.tensors, file)


# --- numpy


def _read_npz(path: Path) -> Checkpoint:
    if not zipfile.is_zipfile(path):
        raise FileError(f"{path}: no zip archive, which a .npz file is")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Checkpoint(dict(archive))
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise FileError(f"{path}: {error}") from error


def _write_npz(checkpoint: Checkpoint, file: IO[bytes]) -> None:
    """Like ``numpy.savez``, for any tensor name and with the same bytes each time."""
    tensors = _flat_arrays(checkpoint, "npz")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, value in tensors.items():
            row = from_numpy(value.dtype)
            # bfloat16 and its like would lose their name, as ml_dtypes' types (kind V) and as integer views.
            if row is None or value.dtype.kind == "V" or row.name != value.dtype.name:
                kind = value.dtype if row is None else row.name
                raise FileError(
                    f"tensor {name!r}: .npz cannot hold {kind}; write a .safetensors file instead"
                )
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, value, allow_pickle=False)
