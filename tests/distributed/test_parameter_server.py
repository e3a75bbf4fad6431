"""The two-way scheme: workers hold the server's replica, bit by bit; failures reach everybody."""

from __future__ import annotations

import pytest
import torch

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("torch.distributed with gloo is not available", allow_module_level=True)

import bodies
from ranks import run_ranks

from nncodec.distributed import ParameterServer


def test_workers_hold_the_replica_at_every_step() -> None:
    server, *workers = run_ranks(3, bodies.parameter_server, 60, 30)
    for worker in workers:
        assert worker["hashes"] == server["hashes"]
        assert sum(worker["losses"][-4:]) < 0.5 * sum(worker["losses"][:4])
        assert worker["traffic"]["compressed"] < worker["traffic"]["raw"] / 15
    assert 0 < server["gap"] < 0.5
    assert server["traffic"]["compressed"] < server["traffic"]["raw"] / 15


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("nan", ["NonFiniteGradientError: tensor '2.weight'.*rank 2", "NonFiniteGradientError: a gradient of another",
                 "NonFiniteGradientError: tensor '2.weight'"]),
        ("disagree", ["DisagreementError: ranks 2", "DisagreementError", "DisagreementError"]),
    ],
)  # fmt: skip
def test_failures_reach_everybody(what: str, expected: list[str]) -> None:
    import re

    for said, pattern in zip(run_ranks(3, bodies.parameter_server_failures, what), expected, strict=True):
        assert re.match(pattern, said), said


@pytest.mark.parametrize(
    ("what", "server", "other"),
    [
        ("overflow", "NonFiniteGradientError: tensor '0.weight'", "NNCodecError: the server cannot go on"),
        ("garbage", "DecodeError", "told"),
        ("too much", "DecodeError: rank 2 announces 8589934592 bytes", "told"),
    ],
)
def test_workers_are_told_when_the_server_cannot_go_on(what: str, server: str, other: str) -> None:
    said = run_ranks(3, bodies.parameter_server_cannot_go_on, what)
    assert said[0].startswith(server)
    assert said[1].startswith("NNCodecError: the server cannot go on")
    assert said[2].startswith(other)


def test_arguments_are_checked() -> None:
    model = bodies.network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="workers"):
        ParameterServer(model.named_parameters(), optimizer, [])
    with pytest.raises(TypeError, match="float64"):
        ParameterServer(model.double().named_parameters(), optimizer, [1])
