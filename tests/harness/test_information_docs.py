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
    for k in (4, 5):
        assert start("tanh", "EBAB", k) - end("tanh", "EBAB", k) >= 2
    assert start("tanh", "aKDE", 5) - end("tanh", "aKDE", 5) >= 2
    for estimator in ADAPTIVE:
        layers = [end("relu + L2", estimator, k) for k in (3, 4, 5)]
        assert max(layers) - min(layers) <= 1
        lower = [end("relu", estimator, k) - end("relu + L2", estimator, k) for k in (3, 4, 5)]
        assert sum(lower) / 3 >= 1.5
        assert min(lower[:2]) >= 1.5
    assert lower[2] >= 1.5  # by aKDE
    for name in ("tanh", "tanh + L2", "relu", "relu + L2", "elu", "elu + L2"):
        assert BY_NAME[name, "EBAB"]["I(T;Y) layer 5"] >= 0.85


def test_where_the_seed_decides() -> None:
    """Layer 5 of ReLU: what the guide says of single seeds."""
    ends = [json.loads(BY_NAME[name, "EBAB"]["curves"])["ends"][4] for name in ("relu", "relu + L2")]
    assert (round(min(ends[0]), 1), round(max(ends[0]), 1)) == (4.0, 8.9)
    lower = [plain - decayed for plain, decayed in zip(*ends, strict=True)]
    assert sum(x >= 1.4 for x in lower) == 6
    assert sum(x < 0 for x in lower) == 3
    mean = sum(lower) / len(lower)
    error = (sum((x - mean) ** 2 for x in lower) / (len(lower) - 1) / len(lower)) ** 0.5
    assert (round(mean, 1), round(error, 1)) == (1.1, 0.5)
