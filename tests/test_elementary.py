"""Logarithms and powers: close to the C library's, the same on every machine."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nncodec
from nncodec.elementary import exp2, log2, log10, pow10

BITS = [
    "0x1.95c01a39fbd69p+0",
    "-0x1.a934f0979a371p+1",
    "-0x1.f24a09f1a8b89p+9",
    "0x1.3b2c47bff8329p+0",
    "0x1.3b2c47bff8329p-2",
    "0x1.9b8c272fbe6dep-6",
    "-0x1.9a209a84fbd00p+0",
]
positive = st.floats(min_value=5e-324, allow_infinity=False, exclude_min=False)


@given(positive)
def test_logarithms(x: float) -> None:
    assert log2(x) == pytest.approx(math.log2(x), rel=4e-16, abs=4e-16)
    assert log10(x) == pytest.approx(math.log10(x), rel=6e-16, abs=4e-16)


@given(st.floats(-1000, 1000))
def test_powers(x: float) -> None:
    assert exp2(x) == pytest.approx(math.pow(2.0, x), rel=6e-16)
    # The factor's last bit counts as often as the exponent is long.
    assert pow10(x / 4) == pytest.approx(math.pow(10.0, x / 4), rel=1e-15 + abs(x) * 2.5e-16)


@given(st.integers(-1070, 1020))
def test_powers_of_two_are_exact(n: int) -> None:
    assert exp2(float(n)) == math.ldexp(1.0, n)
    assert log2(math.ldexp(1.0, n)) == n


def test_bits() -> None:
    """Found once; they must come out everywhere."""
    values = [log2(3.0), log2(0.1), log2(1e-300), exp2(0.3), exp2(-1.7), pow10(-1.6), log10(0.025)]
    assert [value.hex() for value in values] == BITS


def test_ends() -> None:
    assert log2(math.inf) == math.inf
    assert math.isnan(log2(math.nan))
    for x in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"positive|domain"):
            log2(x)
    assert exp2(-math.inf) == 0
    assert exp2(-2000.0) == 0
    with pytest.raises(OverflowError):
        exp2(1024.0)


def test_budgets_use_no_others() -> None:
    """What decides the bytes of a file takes roots (exact by IEEE-754) and these."""
    folder = Path(nncodec.__file__).parent
    for name in ("allocate.py", "search.py"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.findall(r"math\.(?:log\w*|exp\w*|pow|cbrt|sin|cos|tan\w*|hypot)\b", text), name
        assert not re.findall(r"\*\*\s*\(?-?\s*[a-z_(]", text), name  # powers with exponents that vary
