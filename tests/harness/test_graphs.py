"""Which passes of a network go through a CUDA graph; the graphs themselves need a GPU and are replaced."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy

import pytest

torch = pytest.importorskip("torch")

from bench.training import graphs  # noqa: E402


class Scaled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.factor


def test_training_goes_through_a_graph_for_each_shape_and_network(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []

    def graphed(module: torch.nn.Module, example: tuple[torch.Tensor]) -> torch.nn.Module:
        made.append(tuple(example[0].shape))
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphed)
    monkeypatch.setattr(graphs, "mixed", lambda _device: nullcontext())
    monkeypatch.setattr(Scaled, "forward", Scaled.forward)  # put back afterwards
    graphs.trains_on_graphs(Scaled)

    model = Scaled()
    small, large = torch.ones(2, 3), torch.ones(2, 5)
    for images in (small, large, small):
        torch.testing.assert_close(model(images), 2 * images)
    assert made == [(2, 3), (2, 5)]

    copy = deepcopy(model)
    with torch.no_grad():
        copy.factor.fill_(3)
        torch.testing.assert_close(copy(small), 3 * small)  # no gradient wanted: no graph
    assert len(made) == 2
    torch.testing.assert_close(copy(small), 3 * small)  # its own parameters
    assert made == [(2, 3), (2, 5), (2, 3)]
    torch.testing.assert_close(copy.eval()(torch.ones(4)), 3 * torch.ones(4))
    assert len(made) == 3

    model(small).sum().backward()
    assert model.factor.grad == 6
