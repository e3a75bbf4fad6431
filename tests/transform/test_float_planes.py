"""Float planes: the kernels agree with their twin on every instruction set, and join undoes split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncodec import _core
from nncodec.reference import float_planes as twin

DTYPES = {1: np.uint64, 2: np.uint32, 3: np.uint16, 4: np.uint16}
ISAS = _core.supported_isas()


@pytest.fixture(params=ISAS)
def isa(request):
    before = _core.isa()
    _core.force_isa(request.param)
    yield request.param
    _core.force_isa(before)


@st.composite
def cases(draw):
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    size, exponent_bits, mantissa_bits = twin.FORMATS[dtype]
    zeros = draw(st.integers(0, mantissa_bits))
    plus = draw(st.booleans())
    escaped = exponent_bits > 8 or draw(st.booleans())
    sparse = escaped and draw(st.booleans())
    base = draw(st.integers(-1, 2**exponent_bits - 1)) if escaped else 0
    n = draw(st.one_of(st.integers(0, 70), st.sampled_from([127, 128, 129, 500])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    numbers = rng.integers(0, 2 ** (8 * size), n, dtype=np.uint64)
    numbers[rng.random(n) < 0.2] = 0
    numbers = numbers >> np.uint64(zeros) << np.uint64(zeros)
    if plus:
        numbers &= np.uint64(2 ** (8 * size - 1) - 1)
    return (
        dtype,
        numbers.astype(DTYPES[dtype]),
        twin.RawBits(zeros, plus),
        twin.SymbolMap(sparse, escaped, base),
    )


def arguments(raw, symbols):
    return {
        "zeros": raw.zeros, "plus": raw.plus,
        "sparse": symbols.sparse, "escaped": symbols.escaped, "base": symbols.base,
    }  # fmt: skip


@given(cases(), st.integers(0, 64))
def test_split_and_join_agree_with_the_twin(case, shift):
    dtype, numbers, raw, symbols = case
    expected = twin.split([int(x) for x in numbers], dtype, raw, symbols)
    back = twin.join(*expected, dtype, raw, symbols)
    for name in ISAS:
        _core.force_isa(name)
        codes, low, planes = _core.float_planes_split(numbers, dtype, **arguments(raw, symbols))
        assert (list(codes), list(low), [list(p) for p in planes]) == expected
        out = np.zeros_like(numbers)
        _core.float_planes_join(codes, low, planes, out, dtype, **arguments(raw, symbols))
        assert [int(x) for x in out] == back
        # Any place in memory, also between two numbers' boundaries.
        around = np.full(out.nbytes + 200, 0xA5, np.uint8)
        inside = around[100 + shift : 100 + shift + out.nbytes]
        _core.float_planes_join(
            codes, low, planes, inside, dtype, **arguments(raw, symbols), past_caches=True
        )
        assert inside.tobytes() == out.tobytes()
        assert (around[: 100 + shift] == 0xA5).all()
        assert (around[100 + shift + out.nbytes :] == 0xA5).all()
    unescaped = [i for i, code in enumerate(expected[0]) if code not in (twin.ESCAPE, twin.ZERO)]
    assert all(back[i] == numbers[i] for i in unescaped)


@pytest.mark.parametrize("dtype", [3, 4])
def test_every_pattern_of_two_bytes_comes_back(dtype, isa):
    numbers = np.arange(1 << 16, dtype=np.uint16)
    codes, low, planes = _core.float_planes_split(numbers, dtype)
    out = np.zeros_like(numbers)
    _core.float_planes_join(codes, low, planes, out, dtype)
    assert np.array_equal(out, numbers)


@given(st.integers(1, 7), st.integers(0, 300), st.integers(0, 2**32))
def test_bit_planes_agree_with_the_twin(bits, n, seed):
    values = np.random.default_rng(seed).integers(0, 1 << bits, n).astype(np.uint8)
    expected = twin.pack_bits([int(v) for v in values], bits)
    assert twin.unpack_bits(expected, n, bits) == list(values)
    for name in ISAS:
        _core.force_isa(name)
        assert _core.pack_bits(values, bits) == expected
        out = np.zeros_like(values)
        _core.unpack_bits(expected, out, bits)
        assert np.array_equal(out, values)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="zeros"):
        _core.float_planes_split(b"1234", 2, zeros=24)
    with pytest.raises(ValueError, match="dtype"):
        _core.float_planes_split(b"1234", 17)
    with pytest.raises(ValueError, match="whole"):
        _core.float_planes_split(b"123", 2)
    with pytest.raises(ValueError, match="escaped"):
        _core.float_planes_split(bytes(8), 1)
    with pytest.raises(ValueError, match="plane"):
        _core.float_planes_join(bytes(3), b"", [], bytearray(6), 4)
