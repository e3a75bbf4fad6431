"""Size against error: the original encoded by a codec at a few other errors than the file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nncodec
from nncodec.codecs import CODECS

__all__ = ["Curve", "curves"]

_PREFERRED = ("trellis", "uniform")  # what a file of no lossy codec is compared with
_FACTORS = (16.0, 4.0, 1.0, 1 / 4, 1 / 16)  # of the file's relative error
_USUAL = 1e-2  # the middle of the curve where the file has no error
_MOST = 0.5


@dataclass(frozen=True)
class Curve:
    """One codec: (bits per weight of the whole file, relative squared error asked for), error falling."""

    codec: str
    points: list[tuple[float, float]]


def curves(
    original: Mapping[str, Any], weights: int, codecs: Sequence[str], rel_mse: float, threads: int | None
) -> list[Curve]:
    """Curves of the file's lossy codecs and of the usual ones, around the file's error."""
    names = list(dict.fromkeys([*codecs, *_PREFERRED]))[: max(2, len(codecs))]
    middle = rel_mse if rel_mse > 0 else _USUAL
    errors = [middle * factor for factor in _FACTORS if middle * factor <= _MOST]
    found = []
    for name in names:
        if name not in CODECS:
            continue
        points = []
        for error in errors:
            try:
                blob = nncodec.encode(original, name, rel_mse=error, threads=threads)
            except ValueError:  # this codec cannot meet it, or a tensor is not finite
                continue
            points.append((8 * len(blob) / weights, error))
        if points:
            found.append(Curve(name, points))
    return found
