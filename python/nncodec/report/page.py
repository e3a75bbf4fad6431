"""A report as one HTML document: figures as JSON, and a style and a script that come with the package."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

from nncodec.report.gather import Report, TensorReport

__all__ = ["page"]

_LONGEST_VALUE = 200  # characters of a metadata value or an option that are shown


def page(report: Report) -> str:
    """The report as HTML. It loads nothing, needs no network, and follows the reader's light or dark scheme."""
    folder = files("nncodec.report")
    parts = {
        "@STYLE@": folder.joinpath("page.css").read_text(encoding="utf-8"),
        "@SCRIPT@": folder.joinpath("page.js").read_text(encoding="utf-8"),
        "@DATA@": _embedded(_document(report)),
    }
    html = folder.joinpath("page.html").read_text(encoding="utf-8")
    for mark, text in parts.items():
        before, _, after = html.partition(mark)
        html = before + text + after
    return html


def _embedded(document: dict[str, Any]) -> str:
    """JSON that may stand in a script element: names come from a file, and "</script>" must not end it."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _document(report: Report) -> dict[str, Any]:
    known = sum(tensor.info.stored_bytes for tensor in report.tensors)
    return {
        "name": report.name,
        "against": report.against,
        "bytes": report.file_bytes,
        "raw": report.raw_bytes,
        "weights": report.weights,
        "rel_mse": _number(report.rel_mse),
        "other_bytes": max(0, round(report.file_bytes - known)),
        "metadata": {key: _short(value) for key, value in report.metadata.items()},
        "tensors": [_tensor(tensor) for tensor in report.tensors],
        "curves": [
            {"codec": c.codec, "points": [[_number(x) for x in p] for p in c.points]} for c in report.curves
        ],
    }


def _tensor(tensor: TensorReport) -> dict[str, Any]:
    info = tensor.info
    found: dict[str, Any] = {
        "name": info.name,
        "codec": info.codec,
        "type": info.dtype,
        "shape": list(info.shape),
        "n": tensor.elements,
        "bytes": round(info.stored_bytes, 1),
        "options": {key: _short(value) for key, value in info.options.items()},
    }
    if info.alias_of is not None:
        found["alias"] = info.alias_of
    if tensor.rel_mse is not None:
        found["rel_mse"], found["largest"] = _number(tensor.rel_mse), _number(tensor.largest_error)
    if tensor.decoded:
        found["range"] = [_number(tensor.low), _number(tensor.high)]
        found["decoded"] = _thousandths(tensor.decoded)
    if tensor.original:
        found["original"] = _thousandths(tensor.original)
    return found


def _number(value: float | None) -> float | None:
    """Six digits, which is more than a page shows; nothing for what JSON cannot say."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _thousandths(counts: list[int]) -> list[int]:
    """Heights relative to the highest bin; a bin that is not empty is at least 1."""
    highest = max(counts) or 1
    return [min(1000, -(-1000 * count // highest)) for count in counts]


def _short(value: Any) -> str | float | int | bool:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
