"""Zero runs of base-3^5 bytes: kernel and twin agree, the paper's vectors and rates hold, bad input is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import DecodeError, _core
from nncodec.reference import zero_run as twin

runs = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 242)), max_size=40)


@settings(deadline=None)
@given(runs, st.integers(0, 40))
def test_kernel_agrees_with_twin(parts: list[tuple[int, int]], tail: int) -> None:
    packed = b"".join(b"y" * zeros + bytes([byte]) for zeros, byte in parts) + b"y" * tail
    coded = _core.zero_run_encode(packed)
    assert coded == twin.encode(packed)
    assert len(coded) <= len(packed)
    assert _core.zero_run_decode(coded, len(packed)) == twin.decode(coded, len(packed)) == packed


@pytest.mark.parametrize(
    ("zeros", "coded"),
    [(1, "79"), (2, "f3"), (13, "fe"), (14, "ff"), (15, "ff79"), (16, "fff3"), (28, "ffff")],
)
def test_vectors_of_the_paper(zeros: int, coded: str) -> None:
    assert _core.zero_run_encode(bytes([121]) * zeros).hex() == coded


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_any_input_is_decoded_or_refused(coded: bytes, size: int) -> None:
    try:
        expected = twin.decode(coded, size)
    except ValueError:
        with pytest.raises(DecodeError, match="zero runs"):
            _core.zero_run_decode(coded, size)
    else:
        assert _core.zero_run_decode(coded, size) == expected


def test_expansion_is_bounded_before_memory_is_taken() -> None:
    with pytest.raises(DecodeError, match="truncated"):
        _core.zero_run_decode(b"\xff" * 10, 1 << 60)
    with pytest.raises(ValueError, match="above 242"):
        _core.zero_run_encode(b"\xf3")


RATES = {
    0.5: 1.598, 0.8: 1.428, 0.9: 1.042, 0.95: 0.650, 0.97: 0.446, 0.98: 0.337, 0.99: 0.226, 0.995: 0.170, 0.999: 0.125,
}  # fmt: skip


@pytest.mark.parametrize("p", sorted(RATES))
def test_rate_of_independent_digits(p: float) -> None:
    """bits per value = 1.6 (1 - q) (1 + q / (1 - q^14)) with q = p^5, and the check values that follow from it."""
    q = p**5
    assert 1.6 * (1 - q) * (1 + q / (1 - q**14)) == pytest.approx(RATES[p], abs=6e-4)
    rng = np.random.default_rng(1)
    values = np.where(rng.random(1_000_000) < p, 0, rng.choice([-1, 1], 1_000_000)).astype(np.float32)
    packed = np.empty(values.size // 5, np.uint8)
    _core.ternary_quantise(values, 2, None, 1.0, "planar", packed)
    rate = 8 * len(_core.zero_run_encode(packed)) / values.size
    assert rate == pytest.approx(RATES[p], rel=0.012)
