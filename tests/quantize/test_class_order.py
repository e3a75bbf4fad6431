"""Elements by class and back: every instruction set does as the twin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import _core
from nncodec.reference import class_order as twin

SEEDS = st.integers(0, 2**32)


def each_isa() -> Iterator[str]:
    """Every instruction set of this machine, in force while it is the turn."""
    before = _core.isa()
    try:
        for isa in _core.supported_isas():
            _core.force_isa(isa)
            yield isa
    finally:
        _core.force_isa(before)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 300), classes=st.sampled_from([1, 2, 7, 256]), seed=SEEDS)
def test_every_isa_is_the_twin(n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    of = np.repeat(rng.integers(0, classes, n + 1), rng.integers(1, 9, n + 1))[:n].astype(np.uint8)
    values = rng.integers(-32768, 32768, n).astype(np.int16)
    want = twin.restore(of.tolist(), values.tolist())
    np.testing.assert_array_equal(np.array(want, np.int16)[twin.order_of(of.tolist())], values)
    for isa in each_isa():
        for known in (classes, 256):
            out = np.empty(n, np.int16)
            _core.class_order_restore(of, values, out, known)
            np.testing.assert_array_equal(out, want, err_msg=isa)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 400), own=st.integers(-16383, 16383), most=st.sampled_from([9, 300, 16383]), seed=SEEDS
)
def test_rows_of_classes(n: int, own: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = rng.integers(-most, most + 1, n).astype(np.int16)
    of_sum = rng.integers(0, 256, 256).astype(np.uint8)
    own = own if most > 300 else own % 300
    want = twin.classes_of_row(own, parts.tolist(), of_sum.tolist())
    for _ in each_isa():
        out = np.empty(n, np.uint8)
        _core.class_order_classes_of_row(own, parts, of_sum, out)
        assert out.tolist() == want


@settings(max_examples=20, deadline=None)
@given(n=st.integers(0, 400), repeated=st.sampled_from([1, 50]), classes=st.integers(1, 256), seed=SEEDS)
def test_counts(n: int, repeated: int, classes: int, seed: int) -> None:
    of = np.random.default_rng(seed).integers(0, classes, n).astype(np.uint8).repeat(repeated)
    want = twin.counts_of(of.tolist())
    for _ in each_isa():
        assert _core.class_order_counts(of, classes) == want


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="not below n_classes"):
        _core.class_order_counts(np.array([3], np.uint8), 3)
    for _ in each_isa():
        few, of = np.zeros(64, np.int16), np.arange(64, dtype=np.uint8)
        with pytest.raises(ValueError, match="not below n_classes"):
            _core.class_order_restore(of, few, few.copy(), 2)
    row, of_sum = np.zeros(3, np.int16), np.zeros(256, np.uint8)
    for arguments, words in (
        ((0, row, of_sum[1:], np.zeros(3, np.uint8)), "256 entries"),
        ((0, row, of_sum, np.zeros(2, np.uint8)), "as many parts"),
        ((16384, row, of_sum, np.zeros(3, np.uint8)), "-16383"),
        ((0, row - 20000, of_sum, np.zeros(3, np.uint8)), "-16383"),
    ):
        with pytest.raises(ValueError, match=words):
            _core.class_order_classes_of_row(*arguments)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="as many values"):
        _core.class_order_restore(np.zeros(3, np.uint8), np.zeros(2, np.int16), np.zeros(3, np.int16))
