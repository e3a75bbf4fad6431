"""Information planes as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["draw_plane"]


def draw_plane(rows: Sequence[dict[str, Any]], axes: Any = None) -> Any:
    """Draw rows of a history, one path per layer from its first epoch (light) to its last (dark).

    Returns the matplotlib axes, new ones if none are given.
    """
    from matplotlib import colormaps, pyplot

    if not rows:
        raise ValueError("there is nothing recorded to draw")
    if axes is None:
        axes = pyplot.figure(figsize=(5, 4), layout="constrained").add_subplot()
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    colours = colormaps["viridis"]
    for i, layer in enumerate(layers):
        path = [row for row in rows if row["layer"] == layer]
        colour = colours(i / max(1, len(layers) - 1))
        x, y = [row["i_xt"] for row in path], [row["i_ty"] or 0.0 for row in path]
        axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.6)
        steps = [0.25 + 0.75 * k / max(1, len(path) - 1) for k in range(len(path))]
        axes.scatter(x, y, s=9, color=colour, alpha=steps, label=layer or "output", edgecolors="none")
    axes.set_xlabel("I(X;T), bits")
    axes.set_ylabel("I(T;Y), bits")
    axes.legend(fontsize="small", frameon=False)
    return axes
