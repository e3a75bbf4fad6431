"""Weightless training: layers are sparse, of few values, frozen as they decode; just that is encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import Weightless  # noqa: E402


def batches(seed: int = 0) -> list[tuple[Any, Any]]:
    """Two-dimensional clouds in twenty dimensions: separable, so that pruning leaves something to do."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(5, 20, generator=generator)
    labels = torch.randint(0, 5, (512,), generator=generator)
    inputs = centres[labels] + 0.7 * torch.randn(512, 20, generator=generator)
    return list(zip(inputs.split(64), labels.split(64), strict=True))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(20, 120), nn.ReLU(), nn.Linear(120, 60), nn.ReLU(), nn.Linear(60, 5))


def method(**changes: Any) -> Weightless:
    options: dict[str, Any] = {
        "density": {"0.weight": 0.2, "2.weight": 0.05, "*": 0.5},
        "clusters": 6, "cell_bits": (4, 6, 8), "exact_below": 3000, "prune_epochs": 12, "retrain_epochs": 2,
        "tolerance": 0.05,
    }  # fmt: skip
    return Weightless(**(options | changes))


def accuracy(model: nn.Module) -> float:
    with torch.no_grad():
        return float(np.mean([float((model(x).argmax(1) == y).float().mean()) for x, y in batches()]))


def test_what_is_encoded_is_what_was_trained() -> None:
    model, data = network(), batches()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = method(bias_density=0.5).fit(model, data, F.cross_entropy)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert accuracy(result.model) > 0.9
    state = result.model.state_dict()
    blob = nncodec.encode(state, result.codec)
    back = nncodec.decode(blob)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert set(result.codec) == {*(name for name in state), "*"}
    rows = {row["layer"]: row for row in result.history if row["step"] == "encode"}
    assert list(rows) == ["0.weight", "2.weight", "4.weight"]
    assert rows["2.weight"]["weights"] == round(0.05 * 7200)
    assert rows["0.weight"]["false_positives"] == rows["4.weight"]["false_positives"] == 0  # small: exact
    assert rows["2.weight"]["false_positives"] > 0
    for name in rows:
        assert torch.unique(state[name][state[name] != 0]).numel() <= 6
    assert int((state["2.bias"] != 0).sum()) == 30
    assert len(blob) < 0.2 * sum(value.nbytes for value in state.values())


def test_smallest_leaves_exact_layers_to_lossless(tmp_path: Path) -> None:
    """Where that takes fewer bytes; biases together. What was trained comes back, after an interruption as well."""
    options = {
        "smallest": True,
        "bias_density": 0.2,
        "prune_epochs": 2,
        "retrain_epochs": 0,
        "tolerance": 1e9,
    }
    result = method(**options).fit(network(), batches(), F.cross_entropy)
    rows = {row["layer"]: row for row in result.history if row["step"] == "encode"}
    for name in ("0.weight", "4.weight"):
        row = rows[name]
        coders = ("lossless", "codebook", "universal")
        sizes = {coder: row[f"{coder}_bytes"] for coder in coders if f"{coder}_bytes" in row}
        sizes["weightless"] = row["exact_bytes"]
        assert row["bytes"] == sizes[row["codec"]] == min(sizes.values())
    assert "weightless" in {row["codec"] for row in rows.values()} > {"weightless"}
    assert rows["2.weight"]["codec"] == "weightless"  # with false positives, and smaller than both
    assert set(result.codec) == {*(name for name, row in rows.items() if row["codec"] != "lossless"), "*"}
    state = result.model.state_dict()
    back = nncodec.decode(nncodec.encode(state, result.codec))
    assert all(torch.equal(back[name], value) for name, value in state.items())
    method(**options, checkpoint=tmp_path / "x.nncz").fit(network(), batches(), F.cross_entropy)
    again = method(**options, checkpoint=tmp_path / "x.nncz").fit(network(), batches(), F.cross_entropy)
    assert nncodec.encode(again.model.state_dict(), again.codec) == nncodec.encode(state, result.codec)


def test_cells_are_chosen_by_what_the_network_can_do() -> None:
    """A score that no false positive may touch makes the layer exact, one that does not care takes the fewest bits."""
    data = batches()
    rows = []
    for tolerance in (1e9, -1e9):
        short = method(tolerance=tolerance, prune_epochs=2, retrain_epochs=0).fit(
            network(), data, F.cross_entropy
        )
        rows += [row for row in short.history if row.get("layer") == "2.weight"]
    careless, strict = rows
    assert careless["cell_bits"] == 4
    assert careless["false_positives"] > 0
    assert strict["false_positives"] == 0
    assert strict["bytes"] == strict["exact_bytes"] > careless["bytes"]
    scored: list[nn.Module] = []

    def score(net: nn.Module) -> float:
        scored.append(net)
        return 1.0

    method(score=score, prune_epochs=1, retrain_epochs=0).fit(network(), data, F.cross_entropy)
    assert len(scored) == 2  # without false positives, and with the fewest bits


def test_masks_stay_once_nothing_may_come_back(tmp_path: Path) -> None:
    def masks(splice: float) -> list[Any]:
        path, seen = tmp_path / f"{splice}.nncz", []

        def progress(done: int, total: int) -> None:
            if done <= 8:
                found = nncodec.load_file(path)["state"]["masks"]
                seen.append(torch.cat([mask.reshape(-1) for _, mask in sorted(found.items())]))

        fast = {
            "optimizer": "adam",
            "learning_rate": 0.01,
            "prune_epochs": 8,
            "retrain_epochs": 0,
            "ramp": 0.25,
        }
        method(splice=splice, **fast, progress=progress, checkpoint=path).fit(
            network(), batches(), F.cross_entropy
        )
        return seen[3:]  # from half of the way on

    assert all(torch.equal(mask, held) for held, *rest in [masks(0.5)] for mask in rest)
    assert not all(torch.equal(mask, free) for free, *rest in [masks(1.0)] for mask in rest)


def test_seeds_make_false_positives_cheaper() -> None:
    result = method(cell_bits=(5,), prune_epochs=3, retrain_epochs=0, seeds=30).fit(
        network(), batches(), F.cross_entropy
    )
    (row,) = [row for row in result.history if row.get("layer") == "2.weight"]
    assert 0 < row["harm"] < 0.98 * row["harm_of_first_seed"]


def test_deterministic_and_resumable(tmp_path: Path) -> None:
    data = batches()
    options = {"prune_epochs": 2, "retrain_epochs": 1}
    whole = method(**options).fit(network(), data, F.cross_entropy)

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 5:  # after the second layer was encoded
            raise Stop

    with pytest.raises(Stop):
        method(**options, checkpoint=tmp_path / "x.nncz", progress=stop).fit(network(), data, F.cross_entropy)
    resumed = method(**options, checkpoint=tmp_path / "x.nncz").fit(network(), data, F.cross_entropy)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert nncodec.encode(whole.model.state_dict(), whole.codec) == nncodec.encode(
        resumed.model.state_dict(), resumed.codec
    )


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="splice"):
        method(ramp=0.5, splice=0.4)
    for wrong in ({"density": 0.0}, {"bias_density": 1.5}, {"cell_bits": (8, 6)}, {"cell_bits": ()}, {"seeds": 0},
                  {"prune_epochs": -1}, {"ramp": 0.0}, {"clusters": 0}, {"structure": "tree"}):  # fmt: skip
        with pytest.raises(ValueError, match=r"density|cell_bits|epochs|ramp|clusters|structure"):
            method(**wrong)
