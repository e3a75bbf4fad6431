"""Draws rate-distortion curves: ``python -m bench.curves docs/images/rate_distortion.png OUTCOME.json...``.

OUTCOME.json is what ``python -m bench rate_distortion --json`` printed; several are put together. One panel per
network: bits per element of the checkpoint against signal-to-noise ratio. Needs matplotlib.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

__all__ = ["draw", "read"]

Curves = dict[str, dict[str, list[tuple[float, float]]]]


def read(*paths: Path) -> Curves:
    """Network, then codec, to (bits, snr in dB)."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        rows += json.loads(path.read_text(encoding="utf-8"))["rows"]
    curves: Curves = defaultdict(lambda: defaultdict(list))
    for row in rows:
        network, _, codec = str(row["network"]).partition(", ")
        curves[network][codec].append((float(row["bits"]), -10 * math.log10(float(row["rel_mse"]))))
    return curves


def draw(curves: Curves, path: Path) -> None:
    """A grid of panels, one network each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.2 * columns, 2.5 * rows), squeeze=False)
    for panel in axes.flat[len(curves) :]:
        panel.set_visible(False)
    for panel, (network, codecs) in zip(axes.flat, curves.items(), strict=False):
        for codec, points in codecs.items():
            bits, snr = zip(*sorted(points), strict=True)
            panel.plot(bits, snr, marker="o", markersize=3, linewidth=1, label=codec)
        panel.set_title(network, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.grid(alpha=0.3)
    axes[-1][0].set_xlabel("bits per element, whole file", fontsize=7)
    axes[-1][0].set_ylabel("SNR of matrices, dB", fontsize=7)
    axes[0][0].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    draw(read(*map(Path, sys.argv[2:])), Path(sys.argv[1]))
