"""Structured weights: projections are optimal and idempotent, structures are recovered, none is taken that loses."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import nncodec  # noqa: E402
from nncodec.train import Compact, analyse, distill  # noqa: E402
from nncodec.train.compact import dense  # noqa: E402
from nncodec.train.layer_costs import coded_bytes  # noqa: E402
from nncodec.train.structures import (  # noqa: E402
    BlockCirculant,
    DepthwiseSeparable,
    Hashed,
    Kronecker,
    Monarch,
    Structure,
)

CASES: list[tuple[Structure, tuple[int, ...]]] = [
    (BlockCirculant(4), (8, 12)),
    (BlockCirculant(2), (6, 4, 3, 3)),
    (Kronecker(), (12, 16)),
    (Kronecker(2, 3, terms=2), (8, 9)),
    (Kronecker(), (6, 4, 3, 3)),
    (Monarch(), (16, 16)),
    (Monarch(3), (6, 9)),
    (Monarch(2), (4, 4, 3, 3)),
    (DepthwiseSeparable(1), (6, 4, 3, 3)),
    (DepthwiseSeparable(3), (8, 2, 3, 3)),
    (Hashed(10), (7, 9)),
]
IDS = [f"{type(s).__name__}-{'x'.join(map(str, shape))}" for s, shape in CASES]


def random_weight(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("structure", "shape"), CASES, ids=IDS)
def test_projection_is_idempotent_and_optimal(structure: Structure, shape: tuple[int, ...]) -> None:
    weight = random_weight(shape)
    near = structure.project(weight)
    assert torch.allclose(structure.project(near), near, atol=1e-9)
    distance = float((near - weight).norm())
    assert distance < float(weight.norm())
    numbers = structure.numbers(weight)
    for seed in range(30):  # no other member is nearer: small and large changes of the free numbers
        size = 10.0 ** -(seed % 4)
        other = tuple(n + size * random_weight(tuple(n.shape), seed + 1) for n in numbers)
        assert float((structure.expand(other, shape) - weight).norm()) >= distance - 1e-9


@pytest.mark.parametrize(("structure", "shape"), CASES, ids=IDS)
def test_error_is_orthogonal_to_small_changes(structure: Structure, shape: tuple[int, ...]) -> None:
    """What a least-squares fit must fulfil."""
    weight = random_weight(shape, 3)
    numbers = tuple(n.clone().requires_grad_() for n in structure.numbers(weight))
    loss = (structure.expand(numbers, shape) - weight).pow(2).sum()
    for gradient in torch.autograd.grad(loss, numbers):
        assert float(gradient.abs().max()) < 1e-8


@pytest.mark.parametrize(("structure", "shape"), CASES, ids=IDS)
def test_what_has_the_structure_is_recovered(structure: Structure, shape: tuple[int, ...]) -> None:
    numbers = tuple(
        random_weight(tuple(n.shape), i + 5) for i, n in enumerate(structure.numbers(random_weight(shape)))
    )
    weight = structure.expand(numbers, shape)
    assert weight.shape == shape
    assert torch.allclose(structure.project(weight), weight, atol=1e-9)
    assert sum(n.numel() for n in numbers) < weight.numel()


def test_free_numbers_are_as_many_as_they_should_be() -> None:
    def count(structure: Structure, *shape: int) -> int:
        return sum(n.numel() for n in structure.numbers(random_weight(shape)))

    assert count(BlockCirculant(4), 64, 64) == 64 * 64 // 4
    assert count(Kronecker(8, 8), 64, 64) == 64 + 64
    assert count(Monarch(8), 64, 64) == 2 * 64 * 8
    assert count(DepthwiseSeparable(1), 32, 16, 3, 3) == 16 * (9 + 32)


def test_coded_size_of_a_structured_layer() -> None:
    """Free numbers times the bits of a Gaussian source at the error, and 64 bytes."""
    target = 1e-3
    bits = 0.5 * math.log2(1 / target) + 0.25
    for structure, shape in ((BlockCirculant(4), (64, 128)), (Monarch(8), (64, 64))):
        numbers = structure.numbers(random_weight(shape))
        again = structure.numbers(structure.expand(numbers, shape))
        count = sum(n.numel() for n in again)
        assert coded_bytes(again, target) <= count * bits / 8 + 64


def test_fourier_product_is_the_dense_product() -> None:
    structure = BlockCirculant(8)
    numbers = structure.numbers(random_weight((24, 40)).float())
    x = random_weight((5, 3, 40), 1).float()
    expected = x @ structure.expand(numbers, (24, 40)).T
    error = (structure.multiply(numbers, x) - expected).norm() / expected.norm()
    assert float(error) < 1e-5
    with pytest.raises(ValueError, match="matrices"):
        structure.multiply(BlockCirculant(2).numbers(random_weight((4, 4, 3, 3))), x)


def test_depthwise_separable_is_two_convolutions() -> None:
    structure = DepthwiseSeparable(2)
    weight = random_weight((6, 4, 3, 3))
    kernels, combinations = structure.numbers(weight)
    x = random_weight((2, 4, 9, 9), 2)
    between = F.conv2d(x, kernels.reshape(8, 1, 3, 3), groups=4)
    out = F.conv2d(between, combinations.reshape(6, 8, 1, 1))
    assert torch.allclose(out, F.conv2d(x, structure.project(weight)))


def test_monarch_is_two_block_diagonals_and_a_transposition() -> None:
    structure = Monarch(4)
    second, first = structure.numbers(random_weight((12, 8)))
    x = random_weight((8,), 2)
    between = torch.einsum("kji,ki->jk", first, x.reshape(4, 2))
    out = torch.einsum("jlk,jk->lj", second, between).reshape(-1)
    assert torch.allclose(out, structure.expand((second, first), (12, 8)) @ x)


@pytest.mark.parametrize(
    ("structure", "shape"),
    [
        (BlockCirculant(4), (6, 8)),
        (BlockCirculant(4), (8,)),
        (Kronecker(3, 2), (8, 8)),
        (Monarch(), (7, 11)),
        (DepthwiseSeparable(1), (8, 8)),
        (DepthwiseSeparable(9), (16, 8, 3, 3)),
        (Hashed(100), (5, 5)),
    ],
)
def test_shapes_that_do_not_fit(structure: Structure, shape: tuple[int, ...]) -> None:
    assert not structure.fits(shape)
    with pytest.raises(ValueError, match="cannot be"):
        structure.project(torch.ones(shape))


# --- analysis and training


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(4, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 16)
    )


def test_no_structure_is_taken_that_loses_to_the_plain_coder() -> None:
    model = network()
    with torch.no_grad():
        model[4].weight.copy_(BlockCirculant(4).project(torch.randn(16, 256)))
    fits, taken = analyse(model)
    assert {fit.name for fit in fits} == {"0.weight", "4.weight"}
    assert taken["4.weight"] == BlockCirculant(4)
    for fit in fits:
        if fit.name in taken and taken[fit.name] == fit.structure:
            assert fit.bytes < fit.plain_bytes
        if fit.name == "0.weight" and isinstance(fit.structure, BlockCirculant):
            assert fit.relative_error > 0.5  # noise has no structure
    exact = next(fit for fit in fits if fit.name == "4.weight" and fit.structure == BlockCirculant(4))
    assert exact.relative_error < 1e-6
    assert exact.numbers == 16 * 256 // 4
    losers = [fit for fit in fits if not fit.pays]
    assert all(taken.get(fit.name) != fit.structure for fit in losers)


def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(4)
    x = torch.randn(4, 32, 4, 4, 4)
    return [(b, b.mean((2, 3)).argmax(1)) for b in x]


STRUCTURES = {"0.weight": DepthwiseSeparable(2), "4.*": BlockCirculant(4)}


def test_training_keeps_the_structure_and_what_is_stored() -> None:
    model = network()
    before = deepcopy(model.state_dict())
    result = Compact(STRUCTURES, epochs=3, lr=0.05).fit(model, batches(), F.cross_entropy)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [row["stage"] for row in result.history] == ["project", "tune", "tune", "tune"]
    assert result.history[-1]["loss"] < result.history[1]["loss"]
    state = result.model.state_dict()
    assert sum(v.numel() for v in state.values()) < sum(v.numel() for v in before.values()) / 2
    back = nncodec.decode(nncodec.encode(state, result.codec))
    assert all(torch.equal(v, back[k]) for k, v in state.items())
    x = batches()[0][0]
    result.model.eval()
    expected = result.model(x).detach()
    plain = dense(deepcopy(result.model))
    assert set(plain.state_dict()) == set(before)
    assert torch.allclose(plain(x), expected, atol=1e-6)
    with torch.no_grad():
        for name, structure in (("0", STRUCTURES["0.weight"]), ("4", STRUCTURES["4.*"])):
            weight = plain.get_submodule(name).weight
            assert torch.allclose(structure.project(weight), weight, atol=1e-5)


def test_training_resumes_and_takes_a_teacher(tmp_path: Path) -> None:
    path = tmp_path / "training.nncz"
    options: dict[str, Any] = {"structures": STRUCTURES, "epochs": 2}
    teacher = network()
    whole = Compact(**options).fit(network(), batches(), distill(teacher))

    class Interrupted(Exception):
        pass

    def interrupt(done: int, _: int) -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        Compact(**options, checkpoint=path, progress=interrupt).fit(network(), batches(), distill(teacher))
    resumed = Compact(**options, checkpoint=path).fit(network(), batches(), distill(teacher))
    assert resumed.history == whole.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="there must be one"):
        Compact({})
    with pytest.raises(ValueError, match="epochs"):
        Compact(STRUCTURES, epochs=-1)
    with pytest.raises(ValueError, match="matches no"):
        Compact({"nothing": Hashed(3)}).fit(network(), batches(), F.cross_entropy)
    with pytest.raises(ValueError, match="cannot be"):
        Compact({"0.weight": BlockCirculant(32)}).fit(network(), batches(), F.cross_entropy)
