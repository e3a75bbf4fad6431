"""The recorder: what it hooks, that it leaves the model alone, what it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nncodec.information import EBAB, FixedKDE, InformationPlane

torch = pytest.importorskip("torch")


def make() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Tanh(), torch.nn.Dropout(0.5),
        torch.nn.Linear(6, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2),
    )  # fmt: skip


INPUTS = torch.tensor(((np.arange(16)[:, None] >> np.arange(4)) & 1).astype(np.float32))
LABELS = INPUTS.sum(1) > 1


def test_records_activations_and_output() -> None:
    model = make()
    plane = InformationPlane(model, INPUTS, LABELS, batch_size=5)
    plane.record(0)
    plane.record(7)
    assert [(r["epoch"], r["layer"], r["estimator"]) for r in plane.history] == [
        (e, layer, name) for e in (0, 7) for layer in ("2", "5", "") for name in ("ebab", "akde")
    ]
    model.eval()
    with torch.no_grad():
        hidden = model[:3](INPUTS)
    assert plane.history[0]["i_xt"] == EBAB().estimate(hidden, LABELS).i_xt
    for row in plane.history:
        assert 0 <= row["i_ty"] <= 1 + 1e-9
        assert row["i_xt"] <= 4 + 1e-9


def test_leaves_the_model_as_it_was() -> None:
    model = make().train()
    model[3].eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    InformationPlane(model, INPUTS).record(0)
    assert model.training
    assert not model[3].training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_failure_in_the_pass_removes_the_hooks() -> None:
    model = make()
    plane = InformationPlane(model, torch.zeros(3, 5))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        plane.record(0)
    assert not any(m._forward_hooks for m in model.modules())
    assert model.training


def test_a_module_that_runs_twice_has_two_entries() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2), torch.nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(self.b(self.act(self.a(x))))

    plane = InformationPlane(Twice(), INPUTS, estimators={"ebab": EBAB()}, batch_size=4)
    plane.record(0)
    assert [row["layer"] for row in plane.history] == ["act", "act#2", ""]


def test_a_later_layer_may_work_in_place() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].weight[:], model[0].bias[:] = torch.tensor([1.0, 2.0, 4.0, 8.0]), -7.5
    plane = InformationPlane(model, INPUTS, layers=["0", "1"], estimators={"ebab": EBAB(bins=16)})
    plane.record(0)
    assert plane.history[0]["i_xt"] == 4  # 16 values before
    assert plane.history[1]["i_xt"] < 4  # half of them 0 after


def test_outputs_of_any_shape() -> None:
    class Squeezed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0]

    plane = InformationPlane(Squeezed(), INPUTS, LABELS, estimators={"ebab": EBAB()})
    plane.record(0)
    assert plane.history[0]["i_xt"] == 1

    class Summed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum()

    class Transposed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.T

    for module in (Summed(), Transposed()):
        with pytest.raises(ValueError, match="not one row for each of 16 samples"):
            InformationPlane(module, INPUTS).record(0)


def test_no_estimators() -> None:
    with pytest.raises(ValueError, match="at least one"):
        InformationPlane(make(), INPUTS, estimators={})


def test_unknown_layer() -> None:
    with pytest.raises(ValueError, match="no module 'fc9'"):
        InformationPlane(make(), INPUTS, layers=["fc9"])


def test_nothing_to_record() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        InformationPlane(make(), INPUTS[:0]).record(0)

    class Skips(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    with pytest.raises(ValueError, match="does not call 'unused'"):
        InformationPlane(Skips(), INPUTS, layers=["used", "unused"]).record(0)


def test_an_epoch_is_there_as_a_whole_or_not_at_all() -> None:
    class Overflows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Tanh(), torch.nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).abs() / 0)

    plane = InformationPlane(Overflows(), INPUTS)
    with pytest.raises(ValueError, match="finite"):
        plane.record(0)
    assert plane.history == []


def test_output_that_is_no_tensor() -> None:
    model = torch.nn.LSTM(4, 2, batch_first=True)
    with pytest.raises(TypeError, match="not a tensor"):
        InformationPlane(model, INPUTS[:, None]).record(0)


def test_saves_and_draws(tmp_path: Path) -> None:
    plane = InformationPlane(make(), INPUTS, LABELS, estimators={"kde": FixedKDE()})
    plane.record(0)
    plane.record(1)
    plane.save(tmp_path / "plane.json")
    kept = json.loads((tmp_path / "plane.json").read_text())
    assert len(kept["rows"]) == len(plane.history)
    assert kept["rows"][0][:3] == [0, "2", "kde"]
    with pytest.raises(ValueError, match="estimator must be one of"):
        plane.plot("ebab")
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = plane.plot()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["2", "5", "output"]
    matplotlib.pyplot.close(axes.figure)
