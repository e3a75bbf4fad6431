"""Context mixing: engine and twin, round trips, near the entropy without a header, damage."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nncodec import DecodeError, _core
from nncodec.reference import context_mixing as twin

Ints = NDArray[np.int32]
MOST = (1 << 30) - 1


def decode(stream: bytes, n: int, kinds: bytes | None = None, **layout: int) -> Ints:
    out = np.full(n, 77, np.int32)
    _core.mixing_decode(stream, out, kinds, **layout)
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.integers(-3, 3) | st.integers(-300, 300) | st.sampled_from([MOST, -MOST, 1 << 20]), max_size=60
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from([(1, 1, 0), (3, 9, 27), (1, 1, 7), (5, 25, 50)]),
)
def test_twin_and_round_trip(values: list[int], seed: int, layout: tuple[int, int, int]) -> None:
    kinds = np.random.default_rng(seed).integers(0, 12, len(values)).astype(np.uint8).tobytes()
    width, repeat, row = layout
    stream = _core.mixing_encode(np.array(values, np.int32), kinds, width, repeat, row)
    assert stream == twin.encode_integers(values, list(kinds), width, repeat, row)
    assert decode(stream, len(values), kinds, width=width, repeat=repeat, row=row).tolist() == values
    assert twin.decode_integers(stream, len(values), list(kinds), width, repeat, row) == values


def entropy_bits(values: Ints) -> float:
    counts = np.unique(values, return_counts=True)[1]
    return float((counts * np.log2(values.size / counts)).sum())


@pytest.mark.parametrize("bits", [1, 3, 6])
@pytest.mark.parametrize("kind", ["gaussian", "odd"])
def test_iid_symbols_cost_their_entropy(bits: int, kind: str) -> None:
    """Within 1 % of the order-0 entropy at a million symbols, whatever they are; a fifth of that here, within 1.2 %."""
    rng = np.random.default_rng(bits)
    if kind == "gaussian":
        values = np.rint(rng.normal(0, 2.0 ** (bits - 2.05), 200_000)).astype(np.int32)
    else:
        share = rng.dirichlet(np.ones(1 << bits)) * 0.7 + 0.3 / (1 << bits)
        values = rng.choice(1 << bits, 200_000, p=share).astype(np.int32) - (1 << bits) // 3
    coded = 8 * len(_core.mixing_encode(values, None, 3, 9, 576))
    assert entropy_bits(values) * 0.999 < coded < 1.012 * entropy_bits(values)


def test_structure_pays() -> None:
    """Scales of rows, zero channels and equal signs within kernels cost less than the order-0 entropy."""
    rng = np.random.default_rng(1)
    scale = np.exp2(rng.normal(0, 1, (64, 1, 1))) * (rng.random((1, 64, 1)) < 0.6)
    kernels = rng.normal(0, 1, (64, 64, 1)) + 0.3 * rng.normal(0, 1, (64, 64, 9))
    values = np.rint(kernels * scale).astype(np.int32).reshape(-1)
    near = 8 * len(_core.mixing_encode(values, None, 3, 9, 576))
    blind = 8 * len(_core.mixing_encode(values))
    assert near < 0.93 * blind
    assert blind < 0.75 * entropy_bits(values)


def test_constants_and_nothing() -> None:
    assert _core.mixing_encode(np.zeros(0, np.int32)) == b""
    assert decode(b"", 0).size == 0
    assert len(_core.mixing_encode(np.zeros(100_000, np.int32))) < 40
    assert len(_core.mixing_encode(np.full(100_000, -100, np.int32))) < 800


def test_damage() -> None:
    values = np.rint(np.random.default_rng(2).normal(0, 3, 500)).astype(np.int32)
    stream = _core.mixing_encode(values)
    for wrong in (stream[:-6], stream + bytes(range(1, 9))):
        with pytest.raises(DecodeError):
            decode(wrong, values.size)
    for at in range(0, len(stream), 3):
        with suppress(DecodeError):
            decode(stream[:at] + bytes([stream[at] ^ 0x10]) + stream[at + 1 :], values.size)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="out of range"):
        _core.mixing_encode(np.array([1 << 30], np.int32))
    with pytest.raises(ValueError, match="kind 12"):
        _core.mixing_encode(np.zeros(1, np.int32), b"\x0c")
    with pytest.raises(ValueError, match="as many kinds"):
        _core.mixing_encode(np.zeros(2, np.int32), b"\0")
    with pytest.raises(ValueError, match="repeat"):
        _core.mixing_encode(np.zeros(2, np.int32), None, 1, 0, 0)
