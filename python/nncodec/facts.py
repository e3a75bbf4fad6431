"""What ``nncodec info`` shows of a file: as plain values for JSON, and as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nncodec.reader import File, TensorInfo

__all__ = ["file_facts", "file_table", "tensor_facts", "tensor_text"]


def tensor_facts(info: TensorInfo) -> dict[str, Any]:
    """Facts about one tensor; ``bytes`` is its part of the file."""
    facts = {field: value for field, value in vars(info).items() if field not in ("options", "stored_bytes")}
    return facts | {
        "shape": list(info.shape),
        "bytes": round(info.stored_bytes),
        "options": dict(info.options),
    }


def file_facts(file: File) -> dict[str, Any]:
    """Facts about a file and all its tensors. Bits per weight in all are those of the whole file."""
    tensors = [tensor_facts(file.info(name)) for name in file]
    stored = [tensor for tensor in tensors if tensor["alias_of"] is None]
    weights = sum(_elements(tensor) for tensor in stored)
    raw = sum(tensor["nbytes"] for tensor in stored)
    return {
        "file_bytes": file.file_bytes,
        "raw_bytes": raw,
        "ratio": raw / file.file_bytes,
        "weights": weights,
        "bits_per_weight": 8 * file.file_bytes / weights if weights else None,
        "metadata": file.metadata(),
        "tensors": tensors,
    }


def _elements(tensor: dict[str, Any]) -> int:
    count = 1
    for extent in tensor["shape"]:
        count *= extent
    return count


def file_table(title: str, facts: dict[str, Any]) -> str:
    """One line per tensor, then the totals."""
    rows = [("tensor", "codec", "type", "shape", "bytes", "bits/weight")]
    rows += [
        (
            tensor["name"],
            tensor["codec"] if tensor["alias_of"] is None else f"= {tensor['alias_of']}",
            tensor["dtype"],
            _shape(tensor),
            f"{tensor['bytes']:,}",
            f"{tensor['bits_per_weight']:.3f}",
        )
        for tensor in facts["tensors"]
    ]
    total = f"{title}: {len(facts['tensors'])} tensors, {facts['weights']:,} weights, {facts['raw_bytes']:,} bytes "
    total += f"in {facts['file_bytes']:,}, ratio {facts['ratio']:.3f}"
    if facts["bits_per_weight"] is not None:
        total += f", {facts['bits_per_weight']:.3f} bits/weight"
    metadata = [f"{key}: {value}" for key, value in facts["metadata"].items()]
    return "\n".join([*_aligned(rows), total, *metadata])


def tensor_text(facts: dict[str, Any]) -> str:
    """One line per fact."""
    lines = {key.replace("_", " "): value for key, value in facts.items() if value is not None}
    lines["shape"] = _shape(facts)
    options = lines.pop("options")
    lines |= {f"option {key}": value for key, value in options.items()}
    return "\n".join(_aligned([(key, str(value)) for key, value in lines.items()], numbers=0))


def _shape(facts: dict[str, Any]) -> str:
    return "x".join(map(str, facts["shape"])) or "scalar"


def _aligned(rows: Sequence[Sequence[str]], numbers: int = 2) -> list[str]:
    """Columns of equal width; the last ``numbers`` of them flush right."""
    columns = len(rows[0])
    widths = [max(len(row[i]) for row in rows) for i in range(columns)]
    return [
        "  ".join(
            cell.rjust(width) if i >= columns - numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
