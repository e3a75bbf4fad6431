"""Examples made up from batch normalisation: they lead to its statistics, and calibrate nearly as real ones do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

import nncodec  # noqa: E402


def trained_like(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Its normalisations have seen these inputs."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # plain averages
    with torch.no_grad():
        model.train()(inputs)
    return model.eval()


def pictures(count: int, channels: int = 3, side: int = 12) -> Tensor:
    """Smooth, with a mean and channels that have much in common."""
    noise = torch.randn(count, channels, side + 4, side + 4, generator=torch.Generator().manual_seed(1))
    smooth = nn.functional.avg_pool2d(noise + noise.mean(1, keepdim=True), 5, 1) * 3
    return smooth + 0.5


def classifier(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    return trained_like(model, pictures(512))


def off(model: nn.Module, inputs: Tensor) -> float:
    """Root mean square distance of what normalisations read from what they remember, in deviations."""
    read: list[tuple[Any, Tensor]] = []
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    hooks = [n.register_forward_pre_hook(lambda m, x: read.append((m, x[0]))) for n in norms]
    with torch.no_grad():
        model.eval()(inputs)
    for hook in hooks:
        hook.remove()
    squares = []
    for norm, x in read:
        axes = [a for a in range(x.ndim) if a != 1]
        squares.append((x.mean(axes) - norm.running_mean) ** 2 / norm.running_var)
        squares.append(((x.var(axes, correction=0) / norm.running_var).sqrt() - 1) ** 2)
    return float(torch.cat(squares).mean().sqrt())


def test_statistics_become_those_of_training() -> None:
    model = classifier()
    (found,) = nncodec.synthetic_batches(model, (3, 12, 12), 64, std=0.3)
    assert found.shape == (64, 3, 12, 12)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    (start,) = nncodec.synthetic_batches(model, (3, 12, 12), 64, std=0.3, iterations=1)
    assert off(model, found) < 0.2
    assert off(model, start) > 2 * off(model, found)


def test_all_classes_are_there() -> None:
    model = classifier()
    (found,) = nncodec.synthetic_batches(model, (3, 12, 12), 60)
    with torch.no_grad():
        wanted = torch.arange(60) % 5
        told = model(found).log_softmax(1)[torch.arange(60), wanted].mean()
        other = model(found).log_softmax(1)[torch.arange(60), (wanted + 1) % 5].mean()
    assert told > other + 0.1


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (3, 3), (2, 1)])
def test_classes_take_turns_over_all_batches(
    count: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[int] = []
    real = nn.functional.cross_entropy

    def spy(scores: Tensor, classes: Tensor) -> Tensor:
        wanted.extend(classes.tolist())
        return real(scores, classes)

    monkeypatch.setattr(nn.functional, "cross_entropy", spy)
    model = classifier()  # five classes
    nncodec.synthetic_batches(model, (3, 12, 12), count, batch_size=batch_size, iterations=1)
    assert wanted == {10: [0, 1, 2, 3, 4, 0, 1, 2, 3, 4], 3: [0, 1, 3], 2: [0, 2]}[count]
    wanted.clear()
    nncodec.synthetic_batches(model, (3, 12, 12), count, iterations=1, classes=False)
    assert wanted == []


def test_they_calibrate_nearly_as_real_examples_do() -> None:
    """Error of the outputs on real inputs, of files of the same size."""
    model, real, unseen = classifier(3), pictures(192), pictures(400)[200:]
    made = nncodec.synthetic_batches(model, (3, 12, 12))
    assert [len(batch) for batch in made] == [192]

    def error(**arguments: Any) -> float:
        blob = nncodec.encode(model.state_dict(), "trellis", bits_per_weight=6, **arguments)
        coded = classifier(3)
        coded.load_state_dict(nncodec.decode(blob))
        with torch.no_grad():
            return float((coded(unseen) - model(unseen)).square().mean())

    blind = error()
    with_made = error(hessian=nncodec.calibrate(model, made))
    assert with_made < 0.3 * blind
    assert with_made < 3 * error(hessian=nncodec.calibrate(model, [real]))


def test_the_same_seed_gives_the_same_examples() -> None:
    model = classifier()
    make: Callable[..., Tensor] = lambda seed: nncodec.synthetic_batches(  # noqa: E731
        model, (3, 12, 12), 8, iterations=2, seed=seed
    )[0]
    assert torch.equal(make(0), make(0))
    assert not torch.allclose(make(0), make(1))


def test_batches_are_as_large_as_asked() -> None:
    steps: list[tuple[int, int]] = []
    found = nncodec.synthetic_batches(
        classifier(), (3, 12, 12), 10, batch_size=4, iterations=3, progress=lambda *s: steps.append(s)
    )
    assert [len(batch) for batch in found] == [4, 4, 2]
    assert steps == [(i, 9) for i in range(1, 10)]
    assert not torch.equal(found[0], found[1])


def test_the_model_is_left_as_it_was() -> None:
    model = classifier().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    nncodec.synthetic_batches(model, (3, 12, 12), 4, iterations=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [m.training for m in model] == [i != 1 for i in range(len(model))]
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model[0].parameters()] == [False]
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_mean_and_deviation_are_where_the_search_starts() -> None:
    (found,) = nncodec.synthetic_batches(
        classifier(), (3, 12, 12), 192, mean=[100, 0, -100], std=[1, 20, 3], iterations=1
    )
    np.testing.assert_allclose(found.mean((0, 2, 3)), [100, 0, -100], atol=4)
    np.testing.assert_allclose(found.std((0, 2, 3)), [1, 20, 3], rtol=0.3)


@pytest.mark.parametrize("axes", [0, 1, 3])
def test_other_numbers_of_axes(axes: int) -> None:
    torch.manual_seed(0)
    first = {0: nn.Linear(2, 4), 1: nn.Conv1d(2, 4, 3), 3: nn.Conv3d(2, 4, 3)}[axes]
    norm = nn.BatchNorm3d(4) if axes == 3 else nn.BatchNorm1d(4)
    model = nn.Sequential(first, norm)
    inputs = 2 + torch.randn(64, 2, *[7] * axes)
    trained_like(model, inputs)
    (found,) = nncodec.synthetic_batches(model, (2, *[7] * axes), 32, iterations=80)
    assert found.shape == (32, 2, *[7] * axes)
    assert off(model, found) < 0.2


def test_a_model_of_half_precision_gets_such_inputs() -> None:
    model = classifier().to(torch.bfloat16)
    (found,) = nncodec.synthetic_batches(model, (3, 12, 12), 4, iterations=2)
    assert found.dtype == torch.bfloat16
    with torch.no_grad():
        model(found)


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((), {}, "shape must be that of one example"),
        ((3, 4, 4, 4, 4), {}, "shape must be that of one example"),
        ((3, 0, 4), {}, "shape must be that of one example"),
        ((3, 12, 12), {"count": 0}, "count must be at least 1"),
        ((3, 12, 12), {"iterations": 0}, "iterations must be at least 1"),
        ((3, 12, 12), {"batch_size": 0}, "batch_size must be at least 1"),
        ((3, 12, 12), {"std": 0}, "std must be finite and above 0"),
        ((3, 12, 12), {"mean": float("nan")}, "mean must be finite"),
        ((3, 12, 12), {"mean": [1, 2]}, "mean must be one number or one per channel"),
        ((3, 12, 12), {"std": 1e30}, "left the finite numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(
    shape: Sequence[int], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nncodec.synthetic_batches(classifier(), shape, **arguments)


class Odd(nn.Module):
    """Names its normalisation's input, and returns a row for each position."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(input=self.convolution(x)).permute(0, 2, 3, 1).reshape(-1, 4)


def test_odd_models_and_callers() -> None:
    model = Odd()
    with torch.inference_mode():
        (found,) = nncodec.synthetic_batches(model, (3, 8, 8), 8, iterations=2)
    assert not found.is_inference()
    with torch.no_grad():
        grad: list[bool] = []
        nncodec.synthetic_batches(
            Odd(), (3, 8, 8), 8, iterations=2, progress=lambda *_: grad.append(torch.is_grad_enabled())
        )
    assert grad == [False, False]


def test_a_normalisation_that_is_not_called() -> None:
    model = classifier()
    model.forward = lambda x: x.flatten(1)
    with pytest.raises(ValueError, match="did not call its batch normalisation"):
        nncodec.synthetic_batches(model, (3, 12, 12), 4)


@pytest.mark.parametrize(
    "model",
    [nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))],
    ids=["none", "no statistics"],
)
def test_nothing_to_go_by(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="no batch normalisation that keeps statistics"):
        nncodec.synthetic_batches(model, (3, 12, 12))
