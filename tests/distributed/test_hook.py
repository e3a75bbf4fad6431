"""3LC between processes: the same bits on every rank, the definition's averages, errors on every rank, no hang."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("torch.distributed with gloo is not available", allow_module_level=True)

import bodies
from ranks import run_ranks

from nncodec.distributed import Compressor, NonFiniteGradientError, ThreeLCState, threelc_hook
from nncodec.distributed.compressor import read_message


@pytest.mark.parametrize(
    ("world", "steps", "entropy", "dtype"),
    [(4, 200, "zero_run", torch.float32), (2, 20, "rans", torch.bfloat16)],
)
def test_all_ranks_hold_the_same_bits_at_every_step(
    world: int, steps: int, entropy: str, dtype: torch.dtype
) -> None:
    outcomes = run_ranks(world, bodies.same_bits_every_step, steps, entropy, dtype)
    assert outcomes == [steps] * world


def test_the_hook_does_what_the_twin_does_across_rebuilt_buckets() -> None:
    for told in run_ranks(2, bodies.against_definition, 12):
        assert all(told["equal"])
        assert told["error"] < 1e-5
        assert told["names"] == ["0.weight", "2.weight", "4.weight"]
        assert told["buckets"] > 1


def test_a_run_that_was_killed_goes_on_bit_by_bit(tmp_path: Path) -> None:
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    whole = run_ranks(2, bodies.resumable, 12, str(tmp_path / "whole"), None)
    with pytest.raises(AssertionError, match="died"):
        run_ranks(2, bodies.resumable, 12, str(tmp_path / "killed"), 7)
    resumed = run_ranks(2, bodies.resumable, 12, str(tmp_path / "killed"), None)
    assert [parameters for parameters, _ in resumed] == [parameters for parameters, _ in whole]
    for (_, counted), (_, expected) in zip(resumed, whole, strict=True):
        # A fresh DDP begins with other buckets, so there is other framing; all else is the same.
        assert counted | {"framing": 0} == expected | {"framing": 0}
    numbers = 20 * 40 + 40 * 30 + 30 * 5
    for _, counters in whole:
        assert counters["raw"] == 11 * 4 * numbers
        assert counters["uncompressed"] == 4 * (numbers + 40 + 30 + 5)
        assert 0 < counters["compressed"] < counters["raw"] / 15
        assert counters["bypassed"] == 11 * (3 + 4 * (40 + 30 + 5))


def test_not_finite_raises_on_every_rank_and_names_the_parameter() -> None:
    for told in run_ranks(2, bodies.not_finite, "raise"):
        assert told["tensor"] == "b"
        assert "rank 1" in told["error"]
        for name, before in zip("abc", told["before"], strict=True):
            if name in told["residuals"]:  # what was not sent is there for the next step
                expected = 0 * before if name == "b" and not told["residuals"]["b"].any() else before
                np.testing.assert_array_equal(told["residuals"][name], expected)


def test_not_finite_can_be_skipped_or_sent() -> None:
    skipped = run_ranks(2, bodies.not_finite, "skip")
    raw = run_ranks(2, bodies.not_finite, "raw")
    for rank in (0, 1):
        assert skipped[rank]["error"] is None
        assert all(np.isfinite(g).all() for g in skipped[rank]["gradients"])
        assert np.count_nonzero(skipped[rank]["gradients"][1])  # rank 0's share
        assert np.isnan(raw[rank]["gradients"][1][7])
        assert np.isfinite(np.delete(raw[rank]["gradients"][1], 7)).all()
    for told in (skipped, raw):
        for mine, other in zip(told[0]["gradients"], told[1]["gradients"], strict=True):
            assert mine.tobytes() == other.tobytes()
    assert not skipped[1]["residuals"]["b"].any()
    assert not raw[1]["residuals"]["b"].any()


def test_ranks_that_disagree_on_sizes_all_say_so() -> None:
    for cause, kept in run_ranks(3, bodies.other_sizes):
        assert "ranks 2 of the group have tensors of other sizes" in cause
        assert kept


def test_a_rank_that_does_not_come_is_waited_for_no_longer_than_the_timeout() -> None:
    (kind, seconds), _ = run_ranks(2, bodies.missing_rank, timeout=1.5)
    assert kind != "nothing"
    assert seconds < 60


def test_groups_other_than_the_default_and_of_one_rank() -> None:
    told = run_ranks(3, bodies.other_groups)
    assert told[0]["bits"] == told[2]["bits"] != told[1]["bits"]
    assert all(rank["steps"] == 4 and 0 < rank["sent"] < 4 * 3000 for rank in told)


def test_nothing_is_lost_where_no_rank_uses_a_parameter() -> None:
    assert all(error < 1e-6 for error in run_ranks(2, bodies.unused_parameters))


@pytest.mark.parametrize(("failure", "length"), [(0, 1 << 40), (0, -1), (3, 5), (-1, 5)])
def test_headers_that_lie_raise_on_every_rank(failure: int, length: int) -> None:
    for said in run_ranks(2, bodies.lying_header, failure, length):
        assert "rank 1 of the group announces" in said


def test_names_and_states_that_do_not_fit() -> None:
    inner, outer = torch.nn.Parameter(torch.zeros(300)), torch.nn.Parameter(torch.zeros(300))
    state = ThreeLCState(named_parameters=[("module.w", inner), ("w", outer)])
    assert [state.name_of(inner), state.name_of(outer)] == ["module.w", "w"]
    state = ThreeLCState(named_parameters=[("module.w", inner), ("module.v", outer)])
    assert [state.name_of(inner), state.name_of(outer)] == ["w", "v"]
    with pytest.raises(ValueError, match="twice"):
        state.set_names([("w", inner), ("w", outer)])
    state.compressor.message("w", torch.ones(400))
    saved = state.state_dict()
    with pytest.raises(ValueError, match="'w' has 300 elements, its residual 400"):
        ThreeLCState(named_parameters=[("w", inner)]).load_state_dict(saved)
    again = pickle.loads(pickle.dumps(state))
    again.set_names([("w", inner)])
    assert again.name_of(inner) == "w"
    assert torch.equal(again.residuals["w"], state.residuals["w"])


def test_small_tensors_that_are_not_finite_are_treated_alike() -> None:
    small, out = torch.tensor([1.0, float("inf")]), torch.zeros(2)
    with pytest.raises(NonFiniteGradientError, match="'bias'"):
        Compressor().message("bias", small)
    read_message(Compressor(nonfinite="skip").message("bias", small), out, 1.0, True)
    assert not out.any()
    read_message(Compressor(nonfinite="raw").message("bias", small), out, 1.0, True)
    assert torch.equal(out, small)


def test_sparse_gradients_are_refused() -> None:
    class Sparse(bodies.FakeBucket):
        def buffer(self) -> torch.Tensor:
            return torch.ones(3).to_sparse()

    with pytest.raises(TypeError, match="sparse"):
        threelc_hook(ThreeLCState(), Sparse([3]))


def test_take_back_is_exact() -> None:
    made = torch.Generator().manual_seed(3)
    compressor = Compressor(1.5)
    x, y = torch.randn(1000, generator=made), torch.randn(1000, generator=made)
    compressor.message("w", x)
    before = compressor.residuals["w"].clone()
    message = compressor.message("w", y)
    compressor.take_back("w", message)
    assert torch.equal(compressor.residuals["w"], before + y)


def test_arguments_are_checked() -> None:
    for kw, named in (
        ({"sparsity_multiplier": 2.0}, "sparsity_multiplier"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"warmup_steps": 1.5}, "warmup_steps"),
        ({"min_numel": -1}, "min_numel"),
        ({"entropy": "x"}, "entropy"),
        ({"layout": "x"}, "layout"),
        ({"nonfinite": "x"}, "nonfinite"),
    ):
        with pytest.raises(ValueError, match=named):
            ThreeLCState(**kw)
    state = ThreeLCState()
    with pytest.raises(ValueError, match="version"):
        state.load_state_dict({"version": 2})
    with pytest.raises(ValueError, match="residual 'w' must be float32"):
        Compressor().load_state_dict({"residuals": {"w": torch.zeros(2, 2)}, "traffic": {}})
    compressor = Compressor()
    compressor.message("w", torch.ones(500))
    with pytest.raises(ValueError, match="'w' has 400 elements"):
        compressor.message("w", torch.ones(400))
    with pytest.raises(TypeError, match="float64"):
        compressor.message("v", torch.ones(500, dtype=torch.float64))
    with pytest.raises(NonFiniteGradientError) as caught:
        compressor.message("w", torch.full((500,), float("inf")))
    assert caught.value.tensor == "w"
