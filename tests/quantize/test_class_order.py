"""Elements by class and back: every instruction set does as the twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import _core
from nncodec.reference import class_order as twin


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 300), classes=st.sampled_from([1, 2, 7, 256]), seed=st.integers(0, 2**32))
def test_every_isa_is_the_twin(n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    of = np.repeat(rng.integers(0, classes, n + 1), rng.integers(1, 9, n + 1))[:n].astype(np.uint8)
    values = rng.integers(-32768, 32768, n).astype(np.int16)
    want = twin.restore(of.tolist(), values.tolist())
    np.testing.assert_array_equal(np.array(want, np.int16)[twin.order_of(of.tolist())], values)
    before = _core.isa()
    for isa in _core.supported_isas():
        _core.force_isa(isa)
        out = np.empty(n, np.int16)
        _core.class_order_restore(of, values, out)
        np.testing.assert_array_equal(out, want, err_msg=isa)
    _core.force_isa(before)


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="as many values"):
        _core.class_order_restore(np.zeros(3, np.uint8), np.zeros(2, np.int16), np.zeros(3, np.int16))
