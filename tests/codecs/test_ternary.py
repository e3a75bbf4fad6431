"""Codec `ternary`: what comes back is the three values of its definition, from every machine and thread count."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nncodec
from nncodec import DecodeError, _core
from nncodec.codecs import Ternary
from nncodec.codecs.base import Encoded, Part

DTYPES = {2: np.dtype(np.float32), 3: np.dtype(np.float16), 4: np.dtype(ml_dtypes.bfloat16)}
LAYOUTS, CODERS = ("planar", "consecutive"), ("zero_run", "rans")


def part_of(tensor: NDArray[np.generic]) -> Part:
    code = next(c for c, t in DTYPES.items() if tensor.dtype == t)
    return Part(code, (tensor.shape,), np.frombuffer(tensor.tobytes(), np.uint8), ("t0",))


def encode(part: Part, codec: Ternary, threads: int = 1) -> Encoded:
    encoded = codec.encode([part], None, threads)[0]
    return Encoded(encoded.chunk_elements, encoded.model, list(encoded.chunks))


def decode(part: Part, encoded: Encoded, at: int = 0) -> NDArray[np.float32]:
    """``at``: bytes by which the output is out of alignment."""
    decoder = Ternary.decoder(1, part.dtype, part.shapes, encoded.chunk_elements, encoded.model)
    out = np.full(part.data.size + at, 0xAA, np.uint8)[at:]
    chunk_bytes = encoded.chunk_elements * DTYPES[part.dtype].itemsize
    jobs = [
        (decoder, i, bytes(c), 0, _core.crc32c(bytes(c)), out[i * chunk_bytes : (i + 1) * chunk_bytes])
        for i, c in enumerate(encoded.chunks)
    ]
    failure = _core.decode_chunks(jobs, 2)
    if failure is not None:
        raise DecodeError(failure[1])
    return np.frombuffer(out.tobytes(), DTYPES[part.dtype]).astype(np.float32)


def expected(x: NDArray[np.generic], s: float, block: int | None) -> NDArray[np.float32]:
    flat = x.astype(np.float32).reshape(-1)
    out = np.empty_like(flat)
    for at in range(0, flat.size, block or max(flat.size, 1)):
        piece = flat[at : at + (block or flat.size)]
        m = np.float32(np.abs(piece).max() * np.float32(s))
        out[at : at + piece.size] = m * ((piece > m / 2).astype(np.float32) - (piece < -m / 2))
    return out.astype(x.dtype).astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(DTYPES)),
    st.integers(0, 700),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1.0, 1.5, 1.75]),
    st.sampled_from(LAYOUTS),
    st.sampled_from(CODERS),
    st.sampled_from([None, 1, 3, 64, 321]),
)
def test_round_trip(
    dtype: int,
    n: int,
    seed: int,
    s: float,
    layout: Literal["planar", "consecutive"],
    entropy: Literal["zero_run", "rans"],
    block: int | None,
) -> None:
    x = (np.random.default_rng(seed).standard_t(3, n) / 8).astype(DTYPES[dtype])
    codec = Ternary(s, layout, entropy, block)
    part = part_of(x)
    encoded = encode(part, codec)
    want = expected(x, s, block)
    np.testing.assert_array_equal(decode(part, encoded), want)
    np.testing.assert_array_equal(decode(part, encoded, at=1), want)
    facts = Ternary.describe(1, encoded.model)
    assert (facts["layout"], facts["entropy"], facts.get("block")) == (layout, entropy, block)


@pytest.fixture
def isa_restored() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("block", [None, 1000])
def test_same_bytes_on_every_isa_and_thread_count(block: int | None, isa: str, isa_restored: None) -> None:
    x = np.random.default_rng(1).laplace(size=(700, 1000)).astype(np.float32)
    for layout in LAYOUTS:
        codec = Ternary(1.0, layout, "rans", block)
        _core.force_isa("scalar")
        one = encode(part_of(x), codec)
        y = decode(part_of(x), one)
        assert len(list(one.chunks)) == 3
        _core.force_isa(isa)
        for threads in (1, 3):
            assert encode(part_of(x), codec, threads) == one
        np.testing.assert_array_equal(decode(part_of(x), one), y)
        np.testing.assert_array_equal(y, expected(x, 1.0, block))


def test_checkpoints_and_deltas_through_the_public_interface() -> None:
    rng = np.random.default_rng(2)
    delta = {
        "conv.weight": rng.laplace(size=(16, 8, 3, 3)).astype(np.float32),
        "conv.bias": rng.normal(size=16).astype(np.float32),
        "steps": np.array(7),
        "empty": np.zeros((0, 4), np.float32),
        "half": rng.normal(size=(9, 9)).astype(np.float16),
    }
    blob = nncodec.encode(delta, Ternary(sparsity_multiplier=1.5))
    out = nncodec.decode(blob, framework="np")
    assert list(out) == list(delta)
    for name in ("conv.bias", "steps", "empty"):  # what no lossy codec should touch
        assert out[name].tobytes() == delta[name].tobytes()
    for name in ("conv.weight", "half"):
        np.testing.assert_array_equal(
            out[name].astype(np.float32).reshape(-1), expected(delta[name], 1.5, None)
        )
    with pytest.raises(ValueError, match="snr_db: a budget needs a lossy codec that takes one"):
        nncodec.encode(delta, "ternary", snr_db=20)
    # Beside a codec that needs a budget, which then speaks of that codec's tensors alone.
    mixed = nncodec.encode(delta, {"conv.weight": "uniform", "half": "ternary"}, snr_db=20)
    again = nncodec.decode(mixed, framework="np")
    np.testing.assert_array_equal(
        again["half"].astype(np.float32).ravel(), expected(delta["half"], 1.0, None)
    )
    assert (
        0
        < ((again["conv.weight"] - delta["conv.weight"]) ** 2).sum()
        < 0.02 * (delta["conv.weight"] ** 2).sum()
    )


def test_blocks_keep_an_outlier_from_silencing_a_tensor() -> None:
    x = np.random.default_rng(3).normal(size=4096).astype(np.float32)
    x[77] = 1e6
    assert np.count_nonzero(decode(part_of(x), encode(part_of(x), Ternary()))) == 1
    assert np.count_nonzero(decode(part_of(x), encode(part_of(x), Ternary(block=256)))) > 100


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused_by_name(bad: float) -> None:
    x = np.ones((5, 5), np.float32)
    x[3, 3] = bad
    for block in (None, 4):
        with pytest.raises(ValueError, match="'t0' has NaN or infinite"):
            encode(part_of(x), Ternary(block=block))


def test_scales_beyond_the_type_are_clamped_to_it() -> None:
    x = np.array([65504, -65504, 1], np.float16)
    assert decode(part_of(x), encode(part_of(x), Ternary(1.75))).tolist() == [65504, -65504, 0]
    y = np.array([3.38e38, 0, -3.38e38], ml_dtypes.bfloat16)
    assert np.isfinite(decode(part_of(y), encode(part_of(y), Ternary(1.9)))).all()


@pytest.mark.parametrize("tiny", [0.0, 1e-40, 2.0**-121])
def test_what_is_too_small_becomes_zero(tiny: float) -> None:
    x = np.array([tiny, -tiny, 0], np.float32)
    for coder in CODERS:
        assert decode(part_of(x), encode(part_of(x), Ternary(entropy=coder))).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("kw", "named"),
    [
        ({"sparsity_multiplier": 2.0}, "sparsity_multiplier"),
        ({"sparsity_multiplier": 0.99}, "sparsity_multiplier"),
        ({"sparsity_multiplier": math.nan}, "sparsity_multiplier"),
        ({"sparsity_multiplier": 2 - 1e-12}, "sparsity_multiplier"),  # 2 as a float32
        ({"sparsity_multiplier": "1"}, "sparsity_multiplier"),
        ({"layout": "rows"}, "layout"),
        ({"entropy": "huffman"}, "entropy"),
        ({"block": 0}, "block"),
        ({"block": 1 << 19}, "block"),
        ({"block": 1.5}, "block"),
        ({"block": True}, "block"),
    ],
)
def test_bad_options(kw: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Ternary(**kw)  # type: ignore[arg-type]


def test_only_what_it_can_take() -> None:
    assert [c for c in range(60) if Ternary().supports(c, (3, 3))] == [2, 3, 4]
    with pytest.raises(ValueError, match="cannot take tensor 'w' of type float64"):
        nncodec.encode({"w": np.zeros((3, 3))}, {"w": "ternary"})


def test_models_are_checked() -> None:
    shapes = ((4, 4),)
    good = encode(part_of(np.eye(4, dtype=np.float32)), Ternary()).model
    scale = good[2:]
    Ternary.decoder(1, 2, shapes, 1 << 18, good)
    for chunk_elements, model, match in (
        (1 << 18, b"", "coding needs"),
        (1 << 18, b"\x04" + good[1:], "coding is the unknown 4"),
        (1 << 18, good + b"\0", "too many"),
        (1 << 18, good[:-1], "scale needs"),
        (1 << 18, good[:2] + np.float32(-1).tobytes(), "scale is none"),
        (1 << 18, good[:2] + np.float32(np.nan).tobytes(), "scale is none"),
        (1 << 18, good[:2] + np.float32(np.inf).tobytes(), "scale is none"),
        (1 << 18, good[:2] + np.float32(1e-38).tobytes(), "scale is none"),
        (1 << 18, good[:2] + np.float32(-0.0).tobytes(), "scale is none"),
        (1000, b"\x00\x03", "does not divide"),
        (1 << 18, b"\x00\xff\xff\x7f", "block is"),
        (999, b"\x00\x03" + scale, "too many"),
    ):
        with pytest.raises(DecodeError, match=match):
            Ternary.decoder(1, 2, shapes, chunk_elements, model)
    with pytest.raises(DecodeError, match="element type 1 is none"):
        Ternary.decoder(1, 1, shapes, 1 << 18, good)


@pytest.mark.parametrize("entropy", CODERS)
@pytest.mark.parametrize("block", [None, 100])
def test_damaged_models_and_payloads_never_crash(
    entropy: Literal["zero_run", "rans"], block: int | None
) -> None:
    rng = np.random.default_rng(7)
    part = part_of(rng.laplace(size=(40, 30)).astype(np.float32))
    encoded = encode(part, Ternary(entropy=entropy, block=block))
    chunk = bytes(next(iter(encoded.chunks)))
    for at in range(len(encoded.model)):
        model = bytearray(encoded.model)
        model[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, bytes(model), [chunk]))
        with pytest.raises(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model[:at], [chunk]))
    for at in range(len(chunk)):
        payload = bytearray(chunk)
        payload[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            assert np.isfinite(
                decode(part, Encoded(encoded.chunk_elements, encoded.model, [bytes(payload)]))
            ).all()
        with pytest.raises(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [chunk[:at]]))
