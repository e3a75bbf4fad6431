"""Draws what the suite `information` measured, and prints the table of docs/information.md.

python -m bench.information_figures OUTCOME.json FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot

LAYERS = 5


def rows_of(path: Path, estimator: str) -> dict[str, Any]:
    """Curves by network."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {row["network"]: json.loads(row["curves"]) for row in rows if row["estimator"] == estimator}


def planes(path: Path, estimator: str, to: Path) -> None:
    """Information planes: a column per activation function, without L2 above, with it below; mean of the seeds."""
    found = rows_of(path, estimator)
    names = [name for name in found if not name.endswith("L2")]
    figure, grid = pyplot.subplots(
        2, len(names), figsize=(2.1 * len(names), 4.2), sharex=True, sharey=True, layout="constrained"
    )
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.92, LAYERS))
    for column, name in enumerate(names):
        for row, title in enumerate((name, f"{name} + L2")):
            axes = grid[row, column]
            axes.set_title(title, fontsize=9)
            points, spread = (np.array(found[title][what]) for what in ("mean", "deviation"))
            for layer in range(LAYERS):
                x, y = points[:, layer].T
                axes.plot(x, y, color=colours[layer], linewidth=0.8, alpha=0.7)
                shade = np.linspace(0.2, 1, len(x))
                axes.scatter(x, y, s=10, color=colours[layer], alpha=shade, edgecolors="none")
                axes.errorbar(
                    x[-1], y[-1], spread[-1, layer, 1], spread[-1, layer, 0], color=colours[layer], linewidth=1,
                    marker="o", markersize=4, label=f"layer {layer + 1}",
                )  # fmt: skip
    grid[0, 0].legend(fontsize=7, frameon=False)
    figure.supxlabel("I(X;T), bits", fontsize=9)
    figure.supylabel("I(T;Y), bits", fontsize=9)
    figure.savefig(to, dpi=110)
    pyplot.close(figure)


def courses(path: Path, estimator: str, to: Path) -> None:
    """I(X;T) of each layer over the epochs: mean of the seeds, and one deviation to both sides."""
    found = rows_of(path, estimator)
    names = [name for name in found if not name.endswith("L2")]
    figure, grid = pyplot.subplots(
        2, len(names), figsize=(2.1 * len(names), 4.2), sharex=True, sharey=True, layout="constrained"
    )
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.92, LAYERS))
    for column, name in enumerate(names):
        for row, title in enumerate((name, f"{name} + L2")):
            axes = grid[row, column]
            axes.set_title(title, fontsize=9)
            epochs = np.array(found[title]["epochs"]) + 1
            mean, spread = (np.array(found[title][what])[:, :, 0] for what in ("mean", "deviation"))
            for layer in range(LAYERS):
                low, high = mean[:, layer] - spread[:, layer], mean[:, layer] + spread[:, layer]
                axes.fill_between(epochs, low, high, color=colours[layer], alpha=0.25, linewidth=0)
                axes.plot(
                    epochs, mean[:, layer], color=colours[layer], linewidth=1, label=f"layer {layer + 1}"
                )
            axes.set_xscale("log")
    grid[0, 0].legend(fontsize=7, frameon=False)
    figure.supxlabel("epoch + 1", fontsize=9)
    figure.supylabel("I(X;T), bits", fontsize=9)
    figure.savefig(to, dpi=110)
    pyplot.close(figure)


def table(path: Path) -> str:
    """A line of Markdown per network: I(X;T) of layers 3 to 5 by three estimators, I(T;Y), accuracies."""
    lines = []
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    by_name = {(row["network"], row["estimator"]): row for row in rows}
    for name in dict.fromkeys(row["network"] for row in rows):
        cells = [
            "; ".join(by_name[name, estimator][f"layer {k}"].replace(" to ", " → ") for k in (3, 4, 5))
            for estimator in ("EBAB", "aKDE", "fixed bins")
        ]
        row = by_name[name, "EBAB"]
        cells += [f"{row['I(T;Y) layer 5']:.2f}", f"{row['train %']:.1f} / {row['test %']:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("outcome", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    print(table(given.outcome))
    mpl.use("Agg")
    for estimator in ("EBAB", "aKDE", "fixed bins"):
        name = f"information_{estimator.replace(' ', '_').lower()}.png"
        planes(given.outcome, estimator, given.folder / name)
    for estimator in ("EBAB", "aKDE"):
        courses(given.outcome, estimator, given.folder / f"information_course_{estimator.lower()}.png")


if __name__ == "__main__":
    main()
