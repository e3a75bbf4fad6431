"""A report as pictures for papers, by matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from nncodec.report.gather import BINS, Report, TensorReport

__all__ = ["image_paths", "images"]

_NAMES = ("bytes", "histograms", "errors", "curve")
_LONGEST_NAME = 40  # characters of a tensor's name: a longer one leaves no room for its axes

_MOST_BARS = 60
_MOST_HISTOGRAMS = 12


def image_paths(folder: Path, suffix: str = "png") -> list[Path]:
    """Every file that :func:`images` may write."""
    return [folder / f"{name}.{suffix}" for name in _NAMES]


def images(report: Report, folder: Path, suffix: str = "png") -> list[Path]:
    """Write ``bytes``, ``histograms`` and, where an original was given, ``errors`` and ``curve`` into ``folder``.

    Parameters
    ----------
    report : Report
        The figures.
    folder : Path
        Made if it is not there. Files of the same names are overwritten.
    suffix : str
        png, svg or pdf.

    Returns
    -------
    list of Path
        What was written. Nothing is drawn that has nothing to show.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawings = (_bytes, _histograms, _errors, _curve)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for path, draw in zip(image_paths(folder, suffix), drawings, strict=True):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        FigureCanvasAgg(figure)
        if draw(report, figure):
            figure.savefig(path, dpi=150)
            written.append(path)
    return written


def _label(name: str) -> str:
    """A name as matplotlib may draw it: no formulas between $, no letters that its font lacks, not too long."""
    text = "".join(c if c.isprintable() and c < "\u0500" else "\N{WHITE SQUARE}" for c in name)
    if len(text) > _LONGEST_NAME:
        text = f"{text[: _LONGEST_NAME // 2 - 1]}…{text[-_LONGEST_NAME // 2 :]}"
    return text.replace("$", r"\$")


def _bytes(report: Report, figure: Any) -> bool:
    """Tensors with most bytes, as bars."""
    largest = sorted(report.tensors, key=lambda t: -t.info.stored_bytes)[:20]
    if not largest:
        return False
    axes = figure.add_subplot()
    axes.barh(range(len(largest)), [t.info.stored_bytes / 1000 for t in largest][::-1])
    axes.set_yticks(range(len(largest)), [_label(t.info.name) for t in largest][::-1])
    axes.set_xlabel("kB in the file")
    axes.tick_params(axis="y", labelsize=6)
    return True


def _histograms(report: Report, figure: Any) -> bool:
    """Values before and after, of the largest tensors."""
    shown = sorted((t for t in report.tensors if t.decoded), key=lambda t: -t.elements)[:_MOST_HISTOGRAMS]
    if not shown:
        return False
    columns = min(4, len(shown))
    grid = figure.subplots(math.ceil(len(shown) / columns), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, tensor in zip(grid.flat, shown, strict=False):
        axes.set_axis_on()
        borders = np.linspace(tensor.low, tensor.high, BINS + 1)
        axes.stairs(tensor.decoded, borders, fill=True, alpha=0.5, label="decoded")
        if tensor.original:
            axes.stairs(tensor.original, borders, color="C1", linewidth=0.8, label="original")
        axes.set_title(_label(tensor.info.name), fontsize=5)
        axes.tick_params(labelsize=5)
        axes.set_yticks([])
    grid.flat[0].legend(fontsize=5, frameon=False)
    return True


def _errors(report: Report, figure: Any) -> bool:
    """Relative squared error by tensor, in the order of the file."""
    compared: list[TensorReport] = [t for t in report.tensors if t.rel_mse and math.isfinite(t.rel_mse)]
    if not compared:
        return False
    axes = figure.add_subplot()
    axes.bar(range(len(compared)), [t.rel_mse for t in compared])
    axes.set_yscale("log")
    axes.set_ylabel("relative squared error")
    if len(compared) <= _MOST_BARS:
        axes.set_xticks(
            range(len(compared)), [_label(t.info.name) for t in compared], rotation=90, fontsize=5
        )
    else:
        axes.set_xlabel("tensor")
    return True


def _curve(report: Report, figure: Any) -> bool:
    """Size against error."""
    if not report.curves:
        return False
    axes = figure.add_subplot()
    for curve in report.curves:
        bits, errors = zip(*curve.points, strict=True)
        axes.plot(bits, errors, marker="o", markersize=3, label=curve.codec)
    if report.rel_mse and math.isfinite(report.rel_mse):
        bits_here = 8 * report.file_bytes / report.weights
        axes.plot(bits_here, report.rel_mse, "ko", markersize=9, fillstyle="none", label=_label(report.name))
    axes.set_yscale("log")
    axes.set_xlabel("bits per weight")
    axes.set_ylabel("relative squared error")
    axes.legend(frameon=False)
    return True
