"""Codec `universal`: every lattice, coder and table decodes to what was promised; dither; exact storage; damage."""

from __future__ import annotations

import bz2
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nncodec
from nncodec import DecodeError, _core
from nncodec.codecs import Universal
from nncodec.codecs.base import Codec, Encoded, Part, Setting
from nncodec.codecs.universal import UniversalExact, dither_key

DTYPES = {1: np.float64, 2: np.float32, 3: np.float16, 4: ml_dtypes.bfloat16}
LATTICES = {"z": 1, "a2": 2, "d4": 4, "e8": 8, "leech": 24}
CODERS = ("mixing", "lzw", "deflate", "bzip2", "lzma")
# Largest distance from a point of volume-1 cells, over all axes: bounds each coordinate's error.
RADIUS = {"z": 0.5, "a2": 0.63, "d4": 0.85, "e8": 1.0, "leech": 1.42}


def part_of(*tensors: NDArray[Any]) -> Part:
    code = next(c for c, t in DTYPES.items() if tensors[0].dtype == t)
    data = np.concatenate([np.frombuffer(t.tobytes(), np.uint8) for t in tensors])
    return Part(code, tuple(t.shape for t in tensors), data, tuple(f"t{i}" for i in range(len(tensors))))


def encode(part: Part, codec: Codec, step: float | None = None, threads: int = 1, w: Any = None) -> Encoded:
    chosen = None if step is None else [Setting(step, w)]
    encoded = codec.encode([part], chosen, threads)[0]
    return Encoded(encoded.chunk_elements, encoded.model, [bytes(c) for c in encoded.chunks])


def decode(part: Part, encoded: Encoded) -> NDArray[np.float64]:
    decoder = Universal.decoder(1, part.dtype, part.shapes, encoded.chunk_elements, encoded.model)
    out = np.full(part.data.size, 0xAA, np.uint8)
    chunk_bytes = encoded.chunk_elements * np.dtype(DTYPES[part.dtype]).itemsize
    jobs = [
        (decoder, i, bytes(c), 0, _core.crc32c(bytes(c)), out[i * chunk_bytes : (i + 1) * chunk_bytes])
        for i, c in enumerate(encoded.chunks)
    ]
    assert len(jobs) == -(-out.size // chunk_bytes)
    failure = _core.decode_chunks(jobs, 2)
    if failure is not None:
        raise DecodeError(failure[1])
    return out.view(DTYPES[part.dtype]).astype(np.float64)


def values(part: Part) -> NDArray[np.float64]:
    return part.data.view(DTYPES[part.dtype]).astype(np.float64)


def size_bits(encoded: Encoded) -> int:
    return 8 * (len(encoded.model) + sum(len(bytes(c)) for c in encoded.chunks))


def weights(*shape: int, seed: int = 0, density: float = 1.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    x = rng.laplace(0, 1, shape) * np.exp2(rng.normal(0, 0.5, (shape[0],) + (1,) * (len(shape) - 1)))
    return (x * (rng.random(shape) < density)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 6), max_size=4),
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(LATTICES)),
    st.sampled_from(["on", "off", "auto"]),
    st.sampled_from(CODERS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1e-3, 0.2, 3.0]),
    st.sampled_from([0.2, 1.0]),
)
def test_round_trip(
    dtype: int, shape: list[int], seed: int, lattice: Any, dither: Any, coder: Any, table: bool, centroid: bool,
    step: float, density: float,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * (rng.random(shape) < density)
    part = part_of(np.asarray(x).astype(DTYPES[dtype]))
    codec = Universal(
        lattice, dither, coder, LATTICES[lattice] if table else 0, "centroid" if centroid else "lattice"
    )
    encoded = encode(part, codec, step)
    x, y = values(part), decode(part, encoded)
    ulp = np.abs(x) * 2.0 ** -{1: 52, 2: 23, 3: 10, 4: 7}[dtype] + 1e-7
    # A centroid lies in the same cell, so it is at most a diameter away; shrinking moves values towards 0.
    assert (np.abs(x - y) <= 2 * RADIUS[lattice] * step + 2 * np.abs(x) + ulp).all()
    trial = codec.trial([part], [Setting(step)], 1)[0]
    assert trial.squared_error == pytest.approx(((x - y) ** 2).sum(), rel=1e-9, abs=1e-300)
    assert trial.bits == size_bits(encoded)


@pytest.mark.parametrize("lattice", LATTICES)
def test_plain_points_are_nearest(lattice: Any) -> None:
    """Without dither, table and shrinking the error is that of the lattice."""
    part = part_of(weights(40, 60))
    encoded = encode(part, Universal(lattice, "off", dimension=0), 0.25)
    error = (values(part) - decode(part, encoded)).reshape(-1, LATTICES[lattice])
    assert np.sqrt((error**2).sum(1)).max() <= RADIUS[lattice] * 0.25 * (1 + 1e-6)
    moment = {"z": 1 / 12, "a2": 0.0802, "d4": 0.0766, "e8": 0.0717, "leech": 0.0658}[lattice]
    assert (error**2).mean() == pytest.approx(moment * 0.25**2, rel=0.15)


@pytest.mark.parametrize("coder", CODERS)
def test_coders_agree_on_the_values(coder: Any) -> None:
    part = part_of(weights(30, 50, density=0.4))
    for dither in ("on", "off"):
        reference = decode(part, encode(part, Universal("e8", dither), 0.5))
        np.testing.assert_array_equal(
            decode(part, encode(part, Universal("e8", dither, coder), 0.5)), reference
        )


def test_dithered_error_is_independent_of_the_weights() -> None:
    """A constant tensor: undithered, one error for all; dithered, that of the cell less the Wiener factor."""
    part = part_of(np.full((500, 100), 0.3, np.float32))
    plain = decode(part, encode(part, Universal("z", "off", dimension=0), 1.0))
    assert np.ptp(plain) == 0
    dithered = decode(part, encode(part, Universal("z", "on", dimension=0), 1.0)) - 0.3
    energy, noise = 0.09, 1 / 12
    assert (dithered**2).mean() == pytest.approx(energy * noise / (energy + noise), rel=0.02)


def test_wiener_factor_helps_at_low_rates() -> None:
    part = part_of(weights(200, 200))
    shrunk = encode(part, Universal("z", "on", dimension=0), 4.0)
    model = bytearray(shrunk.model)
    assert int.from_bytes(model[8:10], "little") > 0
    model[8:10] = b"\0\0"
    plain = Encoded(shrunk.chunk_elements, bytes(model), shrunk.chunks)
    errors = [((values(part) - decode(part, e)) ** 2).mean() for e in (shrunk, plain)]
    assert errors[0] < 0.8 * errors[1]


def test_dither_depends_on_seed_and_name() -> None:
    part = part_of(weights(20, 20))
    other = Part(part.dtype, part.shapes, part.data, ("elsewhere",))
    one = decode(part, encode(part, Universal("z", "on", seed=1), 0.5))
    assert not np.array_equal(one, decode(part, encode(part, Universal("z", "on", seed=2), 0.5)))
    assert not np.array_equal(one, decode(part, encode(other, Universal("z", "on", seed=1), 0.5)))
    np.testing.assert_array_equal(one, decode(part, encode(part, Universal("z", "on", seed=1), 0.5)))


def test_automatic_dither_is_on_from_two_bits() -> None:
    part = part_of(np.random.default_rng(1).normal(size=(100, 400)).astype(np.float32))
    for step, on in ((0.3, True), (0.9, True), (1.2, False), (3.0, False)):
        plan = encode(part, Universal("z", "auto"), step)
        assert Universal.describe(1, plan.model)["dither"] is on


def test_pruned_weights_stay_zero() -> None:
    part = part_of(weights(60, 60, density=0.1))
    for lattice in LATTICES:
        y = decode(part, encode(part, Universal(lattice, "on"), 0.5))  # type: ignore[arg-type]
        np.testing.assert_array_equal(y == 0, values(part) == 0)


def test_centroids_pay() -> None:
    part = part_of(weights(200, 300))
    errors = {}
    for reconstruction in ("lattice", "centroid"):
        encoded = encode(part, Universal("z", reconstruction=reconstruction), 2.0)  # type: ignore[arg-type]
        errors[reconstruction] = ((values(part) - decode(part, encoded)) ** 2).sum()
    assert errors["centroid"] < 0.95 * errors["lattice"]


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_tables_of_vectors(dimension: int) -> None:
    part = part_of(weights(120, 200))
    encoded = encode(part, Universal("z", coder="bzip2", dimension=dimension, reconstruction="lattice"), 3.0)
    rows = Universal.describe(1, encoded.model)["table"]
    levels = np.rint(values(part) / 3.0).reshape(-1, dimension)
    assert rows == len(np.unique(levels, axis=0))
    np.testing.assert_allclose(decode(part, encoded), levels.reshape(-1) * 3.0)


def test_ours_is_smaller_than_the_others() -> None:
    part = part_of(weights(128, 64, 3, 3))
    sizes = {coder: size_bits(encode(part, Universal(coder=coder), 0.7)) for coder in CODERS}  # type: ignore[arg-type]
    assert sizes["mixing"] < 0.95 * min(size for coder, size in sizes.items() if coder != "mixing")
    levels = np.rint(values(part) / 0.7).astype(np.int64)
    folded = np.where(levels >= 0, 2 * levels, -2 * levels - 1).astype(np.uint8)
    assert sizes["bzip2"] < 8 * len(bz2.compress(folded.tobytes(), 9)) + 2000


@pytest.fixture
def isa_restored() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("lattice", LATTICES)
def test_same_bytes_on_every_isa_and_thread_count(lattice: Any, isa: str, isa_restored: None) -> None:
    part = part_of(weights(90, 70))
    codec = Universal(lattice, "on")
    _core.force_isa("scalar")
    one = encode(part, codec, 0.4)
    y = decode(part, one)
    _core.force_isa(isa)
    assert encode(part, codec, 0.4, threads=3) == one
    np.testing.assert_array_equal(decode(part, one), y)


def test_large_tensor_in_several_chunks() -> None:
    part = part_of(weights(1100, 1000))
    encoded = encode(part, Universal("e8", "on"), 1.0)
    assert len(list(encoded.chunks)) == 5
    error = ((values(part) - decode(part, encoded)) ** 2).sum()
    trial = Universal("e8", "on").trial([part], [Setting(1.0)], 2)[0]
    assert trial.squared_error == pytest.approx(error, rel=1e-9)
    assert trial.bits == size_bits(encoded)


def test_importance_weighs_the_error() -> None:
    part = part_of(weights(40, 40))
    w = np.random.default_rng(1).random(1600).astype(np.float32)
    error = (values(part) - decode(part, encode(part, Universal(), 0.5, w=w))) ** 2
    trial = Universal().trial([part], [Setting(0.5, w)], 1)[0]
    assert trial.squared_error == pytest.approx((w * error).sum(), rel=1e-6)


@pytest.mark.parametrize("budget", [{"snr_db": 15}, {"rel_mse": 0.05}, {"bits_per_weight": 3}, {"ratio": 9}])
def test_budgets(budget: dict[str, float], tmp_path: Path) -> None:
    tensors = {"a": weights(100, 200), "b": weights(64, 16, 3, 3, seed=1), "bias": weights(64, seed=2)}
    blob = nncodec.encode(tensors, Universal("e8"), **budget)
    out = nncodec.decode(blob)
    lossy = ("a", "b")
    error = sum(float(((tensors[k] - out[k]).astype(np.float64) ** 2).sum()) for k in lossy)
    energy = sum(float((tensors[k].astype(np.float64) ** 2).sum()) for k in lossy)
    raw = sum(t.nbytes for t in tensors.values())
    found = {
        "snr_db": -10 * math.log10(error / energy), "rel_mse": error / energy,
        "bits_per_weight": 32 * len(blob) / raw, "ratio": raw / len(blob),
    }  # fmt: skip
    ((name, wanted),) = budget.items()
    assert found[name] == pytest.approx(wanted, rel=0.01)
    np.testing.assert_array_equal(out["bias"], tensors["bias"])


# --- exact storage


def test_exact_table() -> None:
    rng = np.random.default_rng(1)
    x = np.array([-0.31, 0, 0.27, 0.9], np.float32)[rng.choice(4, (50, 40), p=[0.05, 0.9, 0.04, 0.01])]
    part = part_of(x)
    encoded = encode(part, UniversalExact())
    np.testing.assert_array_equal(decode(part, encoded), values(part))
    entropy = 0.9 * math.log2(1 / 0.9) + 0.05 * math.log2(20) + 0.04 * math.log2(25) + 0.01 * math.log2(100)
    assert size_bits(encoded) < 1.15 * 2000 * entropy + 400


def test_exact_vectors_with_zeros_apart() -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(9, 2)).astype(np.float32)
    x = np.zeros(3001, np.float32)
    alive = np.flatnonzero(rng.random(3001) < 0.3)
    x[alive] = table[rng.integers(0, 9, -(-alive.size // 2))].reshape(-1)[: alive.size]
    part = part_of(x)
    encoded = encode(part, UniversalExact(dimension=2))
    assert Universal.describe(1, encoded.model)["table"] <= 10
    np.testing.assert_array_equal(decode(part, encoded), values(part))


def test_exact_grid() -> None:
    x = (np.random.default_rng(3).integers(-40, 40, (30, 5)) * 0.0625).astype(np.float32)
    part = part_of(x)
    encoded = encode(part, UniversalExact(step=0.0625))
    np.testing.assert_array_equal(decode(part, encoded), values(part))
    changed = x.copy()
    changed[1, 2] += 0.01
    with pytest.raises(ValueError, match="'t0': element 7 is no value"):
        encode(part_of(changed), UniversalExact(step=0.0625))


@pytest.mark.parametrize(("lattice", "n"), [("z", 1), ("z", 2), ("e8", 8)])
def test_exact_after_dither(lattice: Any, n: int) -> None:
    """Weights that are a table's rows less a dither, as after tuning: the rows are found again."""
    rng = np.random.default_rng(4)
    step, key, count = 0.25, dither_key(3, "layer"), 100 * n
    noise = np.empty(count)
    _core.lattice_dither(lattice, key, 0, noise)
    table = (rng.integers(-3, 4, (30, n)) * step + rng.normal(0, 0.02, (30, n))).astype(np.float32)
    rows = rng.integers(0, 30, 100)
    x = (table[rows].astype(np.float64).reshape(-1) - step * noise).astype(np.float32)
    part = part_of(x)
    codec = UniversalExact(step, lattice, n, key=key, table=table.tobytes())
    np.testing.assert_array_equal(decode(part, encode(part, codec)), values(part))
    x[5] += 0.01
    with pytest.raises(ValueError, match="not in the table"):
        encode(part_of(x), codec)


def test_exact_refuses_what_was_not_trained() -> None:
    with pytest.raises(ValueError, match="more than 65536 distinct"):
        encode(part_of(np.random.default_rng(1).normal(size=70_000).astype(np.float32)), UniversalExact())
    with pytest.raises(ValueError, match="no float32"):
        encode(part_of(np.array([0.1, 0.1])), UniversalExact())
    with pytest.raises(ValueError, match="is no value"):
        encode(part_of(np.array([-0.0, 0.0, 1.0], np.float32)), UniversalExact())
    with pytest.raises(ValueError, match="needs step and table"):
        UniversalExact(key=3)


def test_exact_in_a_file() -> None:
    rng = np.random.default_rng(6)
    tensors = {
        "conv": np.array([-0.5, 0, 0.25], np.float32)[rng.integers(0, 3, (16, 8, 3, 3))],
        "norm.weight": (rng.integers(20, 40, 16) / 32).astype(np.float32),
        "norm.bias": (rng.integers(-20, 20, 16) / 32).astype(np.float32),
        "count": np.array(7),
    }
    blob = nncodec.encode(
        tensors, {"conv": UniversalExact(), "norm.*": UniversalExact(step=1 / 32), "*": "lossless"}
    )
    out = nncodec.decode(blob)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(out[name], tensor)


# --- refusals


@pytest.mark.parametrize(
    ("change", "match"),
    [(np.nan, r"'t0' has 1 NaN"), (-np.inf, r"'t0' has 1 NaN"), (1e30, r"'t0': step .* is too small")],
)
def test_values_that_cannot_be_quantised(change: float, match: str) -> None:
    x = weights(5, 5)
    x[2, 3] = change
    with pytest.raises(ValueError, match=match):
        encode(part_of(x), Universal(), 0.1)


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_bad_steps(step: float) -> None:
    with pytest.raises(ValueError, match="step must be positive"):
        encode(part_of(weights(5, 5)), Universal(), step)


@pytest.mark.parametrize(
    "kw", [{"lattice": "e7"}, {"dither": True}, {"coder": "gzip"}, {"reconstruction": "x"}, {"dimension": 3}]
)
def test_bad_options(kw: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(kw))):
        encode(part_of(weights(5, 5)), Universal(**({"lattice": "e8"} | kw)), 1.0)


def test_only_floats() -> None:
    assert [c for c in range(60) if Universal().supports(c, (3, 3))] == [1, 2, 3, 4]


def test_version_and_description() -> None:
    encoded = encode(part_of(weights(5, 5)), Universal("leech", "on", "lzw"), 0.25)
    facts = {"lattice": "leech", "coder": "lzw", "step": 0.25, "dither": True}
    assert Universal.describe(1, encoded.model) == facts


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize(("lattice", "dimension"), [("z", 1), ("z", 2), ("e8", 0), ("leech", 0)])
def test_damaged_models_and_payloads_never_crash(coder: Any, lattice: Any, dimension: int) -> None:
    rng = np.random.default_rng(7)
    part = part_of(weights(12, 20, density=0.7))
    encoded = encode(part, Universal(lattice, "on", coder, dimension), 0.8)
    (chunk,) = map(bytes, encoded.chunks)
    for at in range(len(encoded.model)):
        model = bytearray(encoded.model)
        model[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, bytes(model), [chunk]))
        with pytest.raises(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model[:at], [chunk]))
    for at in range(0, len(chunk), 2):
        payload = bytearray(chunk)
        payload[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [bytes(payload)]))
    for wrong in (chunk + bytes(range(1, 10)), chunk[: len(chunk) // 2]):
        with pytest.raises(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [wrong]))


def test_packed_streams_cannot_grow() -> None:
    """A stream that unpacks to more than a chunk needs is refused when it has given one byte too many."""
    part = part_of(np.zeros((4, 4), np.float32))
    for coder, bomb in (("bzip2", bz2.compress(bytes(10_000_000), 9)),):
        encoded = encode(part, Universal(coder=coder), 1.0)  # type: ignore[arg-type]
        (chunk,) = map(bytes, encoded.chunks)
        with pytest.raises(DecodeError, match="bytes instead of 16"):
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [chunk[:1] + bomb]))
