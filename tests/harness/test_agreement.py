"""Counting changed predictions, and stopping early without missing anything."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
agreement = pytest.importorskip("bench.agreement", reason="bench/ is not part of the wheel")
torch = pytest.importorskip("torch")


class Table(torch.nn.Module):
    """Answers from a table: an image is its number."""

    def __init__(self, answers: list[int]) -> None:
        super().__init__()
        self.scores = torch.nn.functional.one_hot(torch.tensor(answers), 3).float()
        self.asked = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked += len(images)
        return self.scores[images]


def test_counts() -> None:
    judge = agreement.Judge(Table([0, 1, 2, 0, 1]), torch.arange(5), torch.tensor([0, 1, 2, 1, 2]))
    assert judge.accuracy == 60
    found = judge.compare(Table([0, 2, 0, 1, 0]))
    assert (found.images, found.lost, found.gained, found.changed) == (5, 2, 1, 4)
    assert found.drop == pytest.approx(20)
    assert found.error == pytest.approx(100 * 3**0.5 / 5)


def test_a_bad_one_is_stopped_early_and_a_good_one_never() -> None:
    rng = np.random.default_rng(0)
    n = 6000
    labels = rng.integers(0, 3, n)
    judge = agreement.Judge(Table(labels.tolist()), torch.arange(n), torch.from_numpy(labels))
    wrong = (labels + (rng.random(n) < 0.05)) % 3
    bad = Table(wrong.tolist())
    assert judge.compare(bad, 0.1).images == bad.asked < n
    assert judge.compare(Table(wrong.tolist())).images == n
    for seed in range(20):  # a drop of 0.1 points in truth, sometimes less, sometimes more
        rng = np.random.default_rng(seed)
        near = (labels + (rng.random(n) < 0.001)) % 3
        found = judge.compare(Table(near.tolist()), 0.1)
        assert found.images == n or found.drop > 0.1


def test_at_the_end_the_count_decides() -> None:
    allowed = 0.1
    assert not agreement.hopeless(agreement.Agreement(10000, 30, 20, 60), 10000, allowed)
    assert agreement.hopeless(agreement.Agreement(10000, 31, 20, 60), 10000, allowed)
    assert not agreement.hopeless(agreement.Agreement(1000, 9, 3, 15), 10000, allowed)
    assert agreement.hopeless(agreement.Agreement(1000, 60, 10, 90), 10000, allowed)
