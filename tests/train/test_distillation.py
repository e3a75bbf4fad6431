"""Distillation: what the loss is, and that the teacher stays as it is."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from nncodec.train import SLQ, distill  # noqa: E402
from nncodec.train.distillation import soft_divergence  # noqa: E402


def network(width: int = 16, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


def batches(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(5)
    x = torch.randn(count, 32, 6)
    return [(batch, batch[:, :3].argmax(1)) for batch in x]


def digest(model: nn.Module) -> str:
    values = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    return hashlib.sha256(values).hexdigest()


def test_student_that_is_the_teacher_has_nothing_to_learn() -> None:
    teacher = network()
    student = deepcopy(teacher)
    loss = distill(teacher, alpha=1.0, features=["0"])
    x, y = batches(1)[0]
    with loss.watching(student):
        value = loss(student(x), y)
        value.backward()
    assert float(value.detach()) == 0
    assert all(float(p.grad.abs().max()) < 1e-7 for p in student.parameters())


def test_loss_is_the_one_of_the_paper() -> None:
    teacher, student = network(), network(seed=1)
    x, y = batches(1)[0]
    z, t = student(x), teacher(x)
    p, q = torch.softmax(t / 3, 1), torch.softmax(z / 3, 1)
    soft = (p * (p.log() - q.log())).sum(1).mean()
    expected = 0.3 * F.cross_entropy(z, y) + 0.7 * 9 * soft
    loss = distill(teacher, F.cross_entropy, temperature=3.0, alpha=0.7)
    with loss.watching(student):
        assert torch.allclose(loss(student(x), y), expected, rtol=1e-5)


def test_divergence_is_a_mean_over_positions() -> None:
    torch.manual_seed(2)
    z, t = torch.randn(4, 5, 7), torch.randn(4, 5, 7)
    flat = [v.movedim(1, 2).reshape(-1, 5) for v in (z, t)]
    assert torch.allclose(soft_divergence(z, t, 2.0), soft_divergence(flat[0], flat[1], 2.0), rtol=1e-5)


def test_square_of_the_temperature_keeps_the_gradient() -> None:
    """Hinton et al. 2015, equation 4: at high temperatures the gradient no longer depends on it."""
    z, t = torch.randn(8, 5, dtype=torch.float64, requires_grad=True), torch.randn(8, 5, dtype=torch.float64)
    gradients = [
        torch.autograd.grad(temperature**2 * soft_divergence(z, t, temperature), z)[0]
        for temperature in (100.0, 1000.0)
    ]
    assert torch.allclose(gradients[0], gradients[1], rtol=0, atol=1e-3)


def test_any_method_takes_it_and_the_teacher_stays() -> None:
    teacher = network().train()
    before = digest(teacher)
    loss = distill(teacher, alpha=0.5)
    result = SLQ(bits=3, epochs=1, last_epochs=1).fit(teacher, batches(), loss)
    assert digest(loss.teacher) == before == digest(teacher)
    assert not loss.teacher.training
    assert teacher.training
    assert digest(result.model) != before
    assert not any(module._forward_pre_hooks for module in result.model.modules())
    again = SLQ(bits=3, epochs=1, last_epochs=1).fit(teacher, batches(), distill(teacher, alpha=0.5))
    assert digest(again.model) == digest(result.model)


def test_positional_and_keyword_inputs_reach_the_teacher() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            out: Tensor = self.layer(a) + self.layer(b)
            return out

    student = Sum()
    loss = distill(student, alpha=1.0)
    x, y = batches(1)[0]
    with loss.watching(student):
        assert float(loss(student(x, 2 * x), y).detach()) == 0
        assert float(loss(student(a=x, b=2 * x), y).detach()) == 0


def test_features_pull_towards_the_teacher() -> None:
    teacher, student = network(), network(seed=1)
    loss = distill(teacher, alpha=0.0, features={"1": "1"}, feature_weight=2.0)
    x, y = batches(1)[0]
    with torch.no_grad():
        inner = [F.relu(m[0](x)) for m in (teacher, student)]
    with loss.watching(student):
        value = loss(student(x), y)
    expected = 2 * F.mse_loss(inner[1], inner[0]) / inner[0].pow(2).mean()
    assert torch.allclose(value - F.cross_entropy(student(x), y), expected, rtol=1e-4)


def test_attention_maps_need_no_equal_channels() -> None:
    def convolutional(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 3))

    teacher, student = convolutional(8), convolutional(4)
    x, y = torch.randn(5, 1, 8, 8), torch.zeros(5, dtype=torch.long)
    loss = distill(teacher, alpha=0.0, features=["1"], match="attention")
    with loss.watching(student):
        extra = loss(student(x), y) - F.cross_entropy(student(x), y)
    maps = [m[1](m[0](x)).pow(2).mean(1).flatten(1) for m in (student, teacher)]
    unit = [m / m.norm(dim=1, keepdim=True) for m in maps]
    assert torch.allclose(extra, (unit[0] - unit[1]).pow(2).sum(1).mean(), rtol=1e-4)
    wrong = distill(teacher, features=["1"])
    with wrong.watching(student), pytest.raises(ValueError, match="attention"):
        wrong(student(x), y)


def test_unwatched_student_is_an_error() -> None:
    student = network()
    loss = distill(student)
    x, y = batches(1)[0]
    with pytest.raises(RuntimeError, match="watching"):
        loss(student(x), y)
    with loss.watching(student):
        pass
    with pytest.raises(RuntimeError, match="watching"):
        loss(student(x), y)


def test_copies_of_the_student_are_not_watched() -> None:
    teacher, student = network(), network(seed=1)
    loss = distill(teacher, alpha=1.0)
    x, y = batches(1)[0]
    with loss.watching(student):
        outputs = student(x)
        expected = loss(outputs, y)
        deepcopy(student)(torch.zeros(32, 6))
        assert torch.equal(loss(outputs, y), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.5},
        {"temperature": 0.0},
        {"feature_weight": -1.0},
        {"match": "cosine"},
        {"features": ["nowhere"]},
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="|".join(options)):
        distill(network(), **options)


def test_features_must_be_modules_of_the_student() -> None:
    loss = distill(network(), features={"gone": "0"})
    with pytest.raises(ValueError, match="gone"), loss.watching(network()):
        pass
