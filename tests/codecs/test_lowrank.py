"""Codec `lowrank`: factors come back multiplied, budgets hold, and hostile models are refused."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nncodec
from bitstreams import bitstream, descriptor, record
from nncodec import DecodeError, _core
from nncodec.codecs import LowRank, Trellis, Uniform
from nncodec.codecs.base import Encoded, LossyCodec, Part, Setting

DTYPES = {1: np.float64, 2: np.float32, 3: np.float16, 4: ml_dtypes.bfloat16}
INNER = {"trellis": Trellis(states=8), "uniform": Uniform()}


def part_of(tensor: NDArray[np.generic]) -> Part:
    code = next(c for c, t in DTYPES.items() if tensor.dtype == t)
    return Part(code, (tensor.shape,), np.frombuffer(tensor.tobytes(), np.uint8), ("t",))


def encode(part: Part, codec: LossyCodec, step: float = 0.01, threads: int = 1, w: Any = None) -> Encoded:
    encoded = codec.encode([part], [Setting(step, w)], threads)[0]
    return Encoded(encoded.chunk_elements, encoded.model, list(encoded.chunks))


def decode(part: Part, encoded: Encoded, model: bytes | None = None, threads: int = 1) -> NDArray[np.float64]:
    decoder = LowRank.decoder(
        1, part.dtype, part.shapes, encoded.chunk_elements, encoded.model if model is None else model
    )
    out = np.full(part.data.size, 0xAA, np.uint8)
    size = encoded.chunk_elements * np.dtype(DTYPES[part.dtype]).itemsize
    jobs = [
        (decoder, i, bytes(c), 0, _core.crc32c(bytes(c)), out[i * size : (i + 1) * size])
        for i, c in enumerate(encoded.chunks)
    ]
    failure = _core.decode_chunks(jobs, threads)
    if failure is not None:
        raise DecodeError(failure[1])
    return out.view(DTYPES[part.dtype]).astype(np.float64)


def values(part: Part) -> NDArray[np.float64]:
    return part.data.view(DTYPES[part.dtype]).astype(np.float64)


def thin(rows: int, columns: int, rank: int, seed: int = 0, noise: float = 0.01) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns)) / math.sqrt(rank)
    return (made + noise * rng.normal(size=made.shape)).astype(np.float32)


SHAPES = [(40, 30), (30, 12, 3, 3), (9, 50), (6,), (), (0, 4), (4, 0, 3), (1, 64), (64, 1), (2, 2)]


@settings(max_examples=60)
@given(
    st.sampled_from(SHAPES),
    st.sampled_from(sorted(DTYPES)),
    st.sampled_from(sorted(INNER)),
    st.sampled_from([{"rank": 3}, {"energy": 0.9}, {}, {"rank": 1000}]),
    st.sampled_from([0.01, 0.2]),
    st.integers(0, 1 << 30),
)
def test_round_trip(
    shape: tuple[int, ...], dtype: int, inner: str, keep: dict[str, Any], step: float, seed: int
) -> None:
    rows, columns = (shape[0] if shape else 1), math.prod(shape[1:])
    part = part_of(thin(rows, columns, 3, seed).reshape(shape).astype(DTYPES[dtype]))
    codec = LowRank(inner=INNER[inner], **keep)
    encoded = encode(part, codec, step)
    out = decode(part, encoded)
    trial = codec.trial([part], [Setting(step)], 1)[0]
    error = float(((values(part) - out) ** 2).sum())
    n = max(1, out.size)
    rounding = {1: 0.0, 2: 1e-12, 3: 1e-5, 4: 1e-3}[dtype] * n
    guess = step**2 * n if encoded.model[0] else 0  # codec trellis estimates where it codes the tensor itself
    assert trial.squared_error == pytest.approx(error, rel=0.02, abs=1e-6 + rounding + guess)
    bits = 8 * (len(encoded.model) + sum(map(len, encoded.chunks)))
    assert abs(trial.bits - bits) <= 0.02 * bits + 200
    assert codec.describe(1, encoded.model)["inner"] == inner


def test_what_is_of_low_rank_costs_far_less() -> None:
    weights = {"w": thin(200, 300, 8)}
    sizes = {
        name: len(nncodec.encode(weights, codec, rel_mse=1e-3))
        for name, codec in {"lowrank": LowRank(energy=0.999), "trellis": Trellis()}.items()
    }
    assert sizes["lowrank"] < 0.2 * sizes["trellis"]


@pytest.mark.parametrize(
    "budget", [{"rel_mse": 3e-3}, {"snr_db": 30.0}, {"ratio": 20.0}, {"bits_per_weight": 0.9}]
)
def test_budgets_hold(budget: dict[str, float]) -> None:
    weights = {"a": thin(120, 80, 12, noise=0.003), "b": thin(64, 200, 6, 1, noise=0.003)}
    blob = nncodec.encode(weights, LowRank(energy=0.9999, inner=Trellis(states=8)), **budget)
    out = nncodec.decode(blob)
    error = sum(float(((out[k] - v) ** 2).sum()) for k, v in weights.items())
    rel = error / sum(float((v**2).sum()) for v in weights.values())
    size = sum(v.nbytes for v in weights.values())
    found = {
        "rel_mse": rel,
        "snr_db": -10 * math.log10(rel),
        "ratio": size / len(blob),
        "bits_per_weight": 8 * len(blob) / (size / 4),
    }
    for name, value in budget.items():
        assert found[name] == pytest.approx(value, rel=0.02)


def test_a_budget_below_what_is_left_out_cannot_be_met() -> None:
    with pytest.raises(ValueError, match="cannot be met"):
        nncodec.encode({"w": thin(80, 80, 20)}, LowRank(rank=4, inner=Uniform()), snr_db=40.0)


def test_bytes_do_not_depend_on_threads_or_instructions() -> None:
    part = part_of(thin(900, 700, 30))
    codec = LowRank(rank=40, inner=INNER["trellis"])
    best = _core.isa()
    try:
        made, outs = set(), set()
        for isa in _core.supported_isas():
            _core.force_isa(isa)
            for threads in (1, 3):
                encoded = encode(part, codec, threads=threads)
                made.add(encoded.model + b"".join(encoded.chunks))
                outs.add(decode(part, encoded, threads=threads).tobytes())
    finally:
        _core.force_isa(best)
    assert len(encoded.chunks) == 3
    assert len(made) == len(outs) == 1


def test_file_with_convolution_tells_its_rank(tmp_path: Any) -> None:
    weights = {"conv": thin(64, 288, 10).reshape(64, 32, 3, 3), "bias": np.arange(64, dtype=np.float32)}
    path = tmp_path / "w.nncz"
    nncodec.save_file(weights, path, {"conv": LowRank(rank=10), "*": "lossless"}, rel_mse=1e-3)
    with nncodec.open(path) as file:
        assert file.info("conv").options == {"inner": "trellis", "rank": 10}
        part = file.get_slice("conv")[3:5]
        assert np.array_equal(part, file["conv"][3:5])
        assert np.array_equal(file["bias"], weights["bias"])


def test_importance_weighs_the_error() -> None:
    part = part_of(thin(40, 40, 4))
    weights = np.random.default_rng(1).uniform(0.1, 3, 1600).astype(np.float32)
    codec = LowRank(rank=4, inner=Uniform())
    encoded = encode(part, codec, 0.05, w=weights)
    error = float((((values(part) - decode(part, encoded)) ** 2) * weights).sum())
    assert codec.trial([part], [Setting(0.05, weights)], 1)[0].squared_error == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": True}, "rank"),
        ({"energy": 0.0}, "energy"),
        ({"energy": 1.5}, "energy"),
        ({"rank": 2, "energy": 0.5}, "rank or energy"),
        ({"inner": LowRank(rank=1)}, "inner"),
        ({"inner": "trellis"}, "inner"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        LowRank(**options)


def test_nonfinite_elements_are_named() -> None:
    bad = thin(20, 20, 2)
    bad[3, 4] = np.inf
    with pytest.raises(ValueError, match="'w'"):
        nncodec.encode({"w": bad}, LowRank(rank=2), step=0.1)
    with pytest.raises(ValueError, match=r"'t'.*lossless"):
        encode(part_of(bad), LowRank(rank=2))


# --- hostile models


def model_and_part() -> tuple[bytes, Part, Encoded]:
    part = part_of(thin(40, 30, 3))
    encoded = encode(part, LowRank(rank=3, inner=Uniform()), 0.05)
    return encoded.model, part, encoded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: b"", "form"),
        (lambda m: b"\x02" + m[1:], "form"),
        (
            lambda m: m[:1] + b"\x09" + m[2:],
            "codec of the factors",
        ),  # a record inside a record inside a record
        (lambda m: m[:1] + b"\x01" + m[2:], "codec of the factors"),
        (lambda m: b"\x01\x09" + m, "codec of the factors"),
        (lambda m: m[:2] + b"\x00" + m[3:], "rank"),
        (lambda m: m[:2] + b"\x1f" + m[3:], "rank"),
        (lambda m: m[:2] + b"\x1e" + m[3:], "."),
        (lambda m: m[:9], "scales"),
        (lambda m: m[:3] + b"\x00\x00\x80\x7f" + m[7:], "scale"),
        (lambda m: m[:3] + b"\x00\x00\x80\xbf" + m[7:], "scale"),
        (lambda m: m[:15] + b"\x00" + m[16:], "elements of a chunk"),
        (lambda m: m[:15] + b"\x01" + m[18:], "."),
        (lambda m: m[:-1], "."),
        (lambda m: m + b"\x00", "bytes too many"),
    ],
)
def test_hostile_models_are_refused(change: Any, message: str) -> None:
    model, part, encoded = model_and_part()
    with pytest.raises(DecodeError, match=message):
        decode(part, encoded, change(model))


def test_chunks_without_bytes_fill_a_file() -> None:
    """So many of them that they are most of it."""
    model, part, encoded = model_and_part()
    head = descriptor(shape=part.shapes[0], codec=9, dtype=part.dtype, chunk_elements=4, model=model)
    data = bitstream(record(head, [b""] * (part.data.size // 16)))
    np.testing.assert_array_equal(nncodec.decode(data)["t"].ravel().astype(np.float64), decode(part, encoded))


def test_a_chunk_that_is_computed_has_no_bytes() -> None:
    _, part, encoded = model_and_part()
    with pytest.raises(DecodeError, match="has bytes"):
        decode(part, Encoded(encoded.chunk_elements, encoded.model, [b"\x00"]))


def test_factors_are_bounded() -> None:
    model, _, _ = model_and_part()
    rank = b"\xff\x7f"  # 16383
    with pytest.raises(DecodeError, match="2\\^24"):
        LowRank.decoder(1, 2, ((1 << 14, 1 << 14),), 1 << 18, model[:2] + rank + b"\x00" * 70000)
    with pytest.raises(DecodeError, match="several"):
        LowRank.decoder(1, 2, ((4, 4), (4, 4)), 16, model)
    with pytest.raises(DecodeError, match="element type"):
        LowRank.decoder(1, 17, ((40, 30),), 1 << 18, model)
