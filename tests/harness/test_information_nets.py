"""The task and the networks of the suite `information`."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.information import rows, run  # noqa: E402
from bench.information_nets import NETWORKS, Ensemble, epochs_to_record, task  # noqa: E402
from bench.suite import Options  # noqa: E402


def test_task_is_the_symmetric_one() -> None:
    patterns, labels = task()
    assert len(np.unique(patterns, axis=0)) == 4096
    assert labels.sum() == 2118
    ones = patterns.sum(axis=1).astype(int)
    assert np.bincount(ones, labels).tolist() == [0, 0, 0, 0, 0, 60, 532, 732, 495, 220, 66, 12, 1]
    p = labels.mean()
    assert -(p * np.log2(p) + (1 - p) * np.log2(1 - p)) == pytest.approx(0.99916, abs=1e-5)


def test_rotations_leave_labels_alone() -> None:
    """A third of a turn about the axis through the corner of the octants: it turns the coordinates round."""
    patterns, labels = task()
    turned = patterns @ np.roll(np.eye(12, dtype=np.float32), 4, axis=1)  # vertices come by threes of four
    np.testing.assert_array_equal(labels[(turned @ (1 << np.arange(12))).astype(int)], labels)


def test_members_of_an_ensemble_learn_apart() -> None:
    """A network's course depends on its own seed alone, and the loss falls."""
    both, alone = Ensemble(NETWORKS["tanh"], 2, l2=True), Ensemble(NETWORKS["tanh"], 1, l2=True)
    start = both.activations()[-1]
    for _ in range(3):
        both.epoch()
        alone.epoch()
    np.testing.assert_allclose(both.activations()[-1][0], alone.activations()[-1][0], atol=1e-5)
    assert np.abs(both.activations()[-1][0] - both.activations()[-1][1]).max() > 1e-3
    labels = both.labels.numpy()
    likelihood = [
        np.log(outputs[:, np.arange(4096), labels]).mean(axis=1)
        for outputs in (start, both.activations()[-1])
    ]
    assert (likelihood[1] > likelihood[0]).all()


def test_epochs_are_dense_at_the_beginning() -> None:
    found = epochs_to_record(4000)
    assert found[0] == 0
    assert found[-1] == 4000
    assert found == sorted(set(found))
    assert len([e for e in found if e < 100]) > len(found) / 2


def test_rows_of_a_short_run() -> None:
    found = list(rows("relu", NETWORKS["relu"], seeds=2, l2=False, epochs=2))
    assert [row["estimator"] for row in found] == ["EBAB", "aKDE", "fixed bins", "fixed KDE"]
    curves = json.loads(str(found[0]["curves"]))
    assert np.array(curves["mean"]).shape == (len(curves["epochs"]), 6, 2)


def test_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the networks, whoever is ready first."""
    monkeypatch.setattr("bench.information.EPOCHS", 0)
    one, two = (list(run(Options(rounds=1, only="relu*", threads=n))) for n in (1, 2))
    assert [row["network"] for row in one] == ["relu"] * 4 + ["relu + L2"] * 4
    assert one == two
