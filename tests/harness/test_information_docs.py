"""docs/information.md says what bench/results/information.json holds."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = json.loads((ROOT / "bench/results/information.json").read_text())["rows"]
BY_NAME = {(row["network"], row["estimator"]): row for row in ROWS}
NETWORKS = list(dict.fromkeys(row["network"] for row in ROWS))
ADAPTIVE = ("EBAB", "aKDE")


def end(network: str, estimator: str, layer: int) -> float:
    return float(BY_NAME[network, estimator][f"layer {layer}"].split(" to ")[1].split(" ±")[0])


def start(network: str, estimator: str, layer: int) -> float:
    return float(BY_NAME[network, estimator][f"layer {layer}"].split(" to ")[0])


def deviation(network: str, estimator: str, layer: int) -> float:
    return float(BY_NAME[network, estimator][f"layer {layer}"].split(" ±")[1])


def test_table_holds_every_network() -> None:
    text = (ROOT / "docs/information.md").read_text(encoding="utf-8")
    assert len(NETWORKS) == 10
    for name in NETWORKS:
        cells = [
            "; ".join(BY_NAME[name, estimator][f"layer {k}"].replace(" to ", " → ") for k in (3, 4, 5))
            for estimator in (*ADAPTIVE, "fixed bins")
        ]
        row = BY_NAME[name, "EBAB"]
        cells += [f"{row['I(T;Y) layer 5']:.2f}", f"{row['train %']:.1f} / {row['test %']:.1f}"]
        assert f"| {name} | {' | '.join(cells)} |" in text


def test_what_was_found() -> None:
    """Saturating layers fall by two bits; L2 draws ReLU's layers together and down, and the label stays known."""
    for estimator in ADAPTIVE:
        assert start("tanh", estimator, 5) - end("tanh", estimator, 5) >= 2
        layers = [end("relu + L2", estimator, k) for k in (3, 4, 5)]
        assert max(layers) - min(layers) <= 1
        for k in (3, 4, 5):
            assert end("relu", estimator, k) - end("relu + L2", estimator, k) >= 1.5
    # Layer 4 by EBAB: within the deviation over seeds.
    assert start("tanh", "EBAB", 4) - end("tanh", "EBAB", 4) + deviation("tanh", "EBAB", 4) >= 2
    for name in ("tanh", "tanh + L2", "relu", "relu + L2", "elu", "elu + L2"):
        assert BY_NAME[name, "EBAB"]["I(T;Y) layer 5"] >= 0.85
