"""Kronecker factors against brute force, and the joint solve against a dense one."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from nncodec.train.kfac import Factors, as_matrix, factors, likelihood, solve  # noqa: E402


def spd(groups: int, n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(groups, n, 2 * n, generator=generator, dtype=torch.float64)
    return root @ root.transpose(1, 2) / n


def dense(of: Factors, group: int) -> Tensor:
    """The matrix of the quadratic form on W[group].ravel()."""
    return torch.kron(of.output[group], of.input[group])


@pytest.mark.parametrize(("groups", "outputs", "inputs"), [(1, 4, 6), (1, 7, 3), (2, 3, 5)])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_joint_solve_is_that_of_the_dense_system(
    groups: int, outputs: int, inputs: int, share: float
) -> None:
    of = Factors(spd(groups, inputs, 1), spd(groups, outputs, 2), False).damped(1e-4)
    generator = torch.Generator().manual_seed(3)
    target = torch.randn(groups, outputs, inputs, generator=generator, dtype=torch.float64)
    free = torch.rand(target.shape, generator=generator) > share
    start = torch.where(free, target, torch.round(target))
    solved = solve(of, target, start, free, iterations=500, tolerance=1e-12)
    assert torch.equal(solved.matrix[~free], start[~free])
    for g in range(groups):
        h, mask = dense(of, g), free[g].ravel()
        change = (start - target)[g].ravel()
        expected = target[g].ravel().clone()
        expected[~mask] = start[g].ravel()[~mask]
        expected[mask] += torch.linalg.solve(h[mask][:, mask], -h[mask][:, ~mask] @ change[~mask])
        torch.testing.assert_close(solved.matrix[g].ravel(), expected, rtol=1e-6, atol=1e-8)
        d = (solved.matrix - target)[g].ravel()
        assert of.loss(solved.matrix - target) <= of.loss(start - target)
        assert sum(
            float((solved.matrix - target)[i].ravel() @ dense(of, i) @ (solved.matrix - target)[i].ravel())
            for i in range(groups)
        ) / 2 == pytest.approx(float(of.loss(solved.matrix - target)))
        assert d.isfinite().all()


def test_single_removal_is_optimal_brain_surgeon() -> None:
    of = Factors(spd(1, 6, 4), spd(1, 4, 5), False)
    target = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    inverse = torch.linalg.inv(dense(of, 0))
    saliency = (target**2 * of.surgeon_diagonal() / 2).ravel()
    torch.testing.assert_close(saliency, target.ravel() ** 2 / inverse.diagonal() / 2)
    q = 9
    free = torch.ones(24, dtype=torch.bool)
    free[q] = False
    start = target.ravel().clone()
    start[q] = 0
    solved = solve(of, target, start.reshape(1, 4, 6), free.reshape(1, 4, 6), iterations=200, tolerance=1e-12)
    surgeon = -(target.ravel()[q] / inverse[q, q]) * inverse[:, q]
    torch.testing.assert_close((solved.matrix - target).ravel(), surgeon, rtol=1e-6, atol=1e-9)
    assert float(of.loss(solved.matrix - target)) == pytest.approx(float(saliency[q]), rel=1e-6)


def test_residual_falls_a_thousandfold() -> None:
    of = Factors(spd(1, 60, 7), spd(1, 30, 8), False).damped(1e-3)
    target = torch.randn(1, 30, 60, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    free = target.abs() > 0.5
    solved = solve(of, target, torch.where(free, target, torch.zeros_like(target)), free, iterations=500)
    assert 0 < solved.residual <= 1e-3
    assert solved.iterations < 500


def test_nothing_free_and_nothing_frozen() -> None:
    of = Factors(spd(1, 3, 1), spd(1, 2, 2), False)
    target = torch.ones(1, 2, 3, dtype=torch.float64)
    none = torch.zeros(1, 2, 3, dtype=torch.bool)
    assert torch.equal(solve(of, target, 2 * target, none).matrix, 2 * target)
    torch.testing.assert_close(solve(of, target, 2 * target, ~none).matrix, target)


def test_factors_of_a_dense_layer_are_the_fisher_matrix() -> None:
    """One layer under softmax, the same input for all examples: the Kronecker form is exact."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 4).double()
    x = torch.randn(1, 3, dtype=torch.float64).expand(4000, 3)
    found = factors(layer, [(x, None)], dtype=torch.float64)["weight"]
    p = layer(x[:1]).softmax(1)[0].detach()
    expected = torch.diag(p) - torch.outer(p, p)
    torch.testing.assert_close(found.output[0], expected, rtol=0.05, atol=0.01)
    one = torch.cat((x[0], torch.ones(1, dtype=torch.float64)))
    torch.testing.assert_close(found.input[0], torch.outer(one, one))
    assert as_matrix(found, layer.weight, layer.bias).shape == found.shape


def test_likelihood_has_the_fisher_matrix() -> None:
    z = torch.randn(5, dtype=torch.float64)
    jacobian: Any = torch.autograd.functional.jacobian(likelihood, z)
    p = z.softmax(0)
    torch.testing.assert_close(jacobian.T @ jacobian, torch.diag(p) - torch.outer(p, p))


def test_factors_predict_the_change_of_a_linear_layers_output() -> None:
    """With the output itself for a likelihood, half the mean squared change of a layer alone is exact."""
    torch.manual_seed(0)
    for layer, x in (
        (nn.Linear(5, 3), torch.randn(50, 5)),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), torch.randn(20, 4, 5, 5)),
    ):
        layer.double()
        before = layer(x.double())
        found = factors(layer, [(x.double(), None)], output=lambda z: z, dtype=torch.float64)["weight"]
        with torch.no_grad():
            change = torch.randn_like(layer.weight) * 0.01
            layer.weight += change
            bias = None if layer.bias is None else torch.zeros_like(layer.bias)
            rise = ((layer(x.double()) - before) ** 2).sum() / 2 / len(x)
        predicted = found.loss(as_matrix(found, change, bias))
        # G holds products of random signs: its expectation is the identity per position.
        assert float(predicted) == pytest.approx(float(rise), rel=0.2)


def test_damping_is_checked() -> None:
    with pytest.raises(ValueError, match="gamma"):
        Factors(spd(1, 2, 1), spd(1, 2, 1), False).damped(-1)
    dead = Factors(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), False).damped(1e-4)
    assert dead.surgeon_diagonal().isfinite().all()


def test_enough_positions_make_the_same_matrix() -> None:
    """Of inputs that are alike everywhere, a part says as much as all; where there are few vectors, all count."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3, padding=1, bias=False).double()
    x = torch.randn(64, 3, 16, 16, dtype=torch.float64)
    every = factors(layer, [(x, None)], output=lambda z: z, dtype=torch.float64)["weight"]
    part = factors(layer, [(x, None)], output=lambda z: z, dtype=torch.float64, enough=2000)["weight"]
    torch.testing.assert_close(part.input, every.input, rtol=0.2, atol=0.15)
    assert not torch.equal(part.input, every.input)
    torch.testing.assert_close(part.output, every.output)
    same = factors(layer, [(x, None)], output=lambda z: z, dtype=torch.float64, enough=64 * 256)["weight"]
    assert torch.equal(same.input, every.input)
