"""Codec `trellis`: what comes back is near what went in, says how near, and never depends on threads or machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nncodec
from nncodec import DecodeError, _core
from nncodec.codecs import Trellis
from nncodec.codecs.base import Encoded, Part, Setting

DTYPES = {1: np.float64, 2: np.float32, 3: np.float16, 4: ml_dtypes.bfloat16}
FAST = Trellis(states=8)


def part_of(*tensors: NDArray[np.generic]) -> Part:
    code = next(c for c, t in DTYPES.items() if tensors[0].dtype == t)
    data = np.concatenate([np.frombuffer(t.tobytes(), np.uint8) for t in tensors])
    return Part(code, tuple(t.shape for t in tensors), data, tuple(f"t{i}" for i in range(len(tensors))))


def encode(part: Part, step: float, codec: Trellis = FAST, threads: int = 1, w: object = None) -> Encoded:
    encoded = codec.encode([part], [Setting(step, w)], threads)[0]  # type: ignore[arg-type]
    return Encoded(encoded.chunk_elements, encoded.model, list(encoded.chunks), encoded.version)


def decode(part: Part, encoded: Encoded) -> NDArray[np.float64]:
    decoder = Trellis.decoder(
        encoded.version or 1, part.dtype, part.shapes, encoded.chunk_elements, encoded.model
    )
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
    return 8 * (len(encoded.model) + sum(map(len, encoded.chunks)))


def decoder_of(part: Part, encoded: Encoded) -> _core.TrellisDecoder:
    return _core.trellis_decoder(
        part.dtype, part.shapes, encoded.chunk_elements, encoded.model, encoded.version or 1
    )


def scaled_matrix(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    scale = np.exp2(rng.normal(0, 1, (rows, 1)) + rng.normal(0, 1, (1, columns)))
    return (rng.normal(size=(rows, columns)) * scale).astype(np.float32)


def correlated_matrix(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(columns, columns)) * np.exp2(rng.normal(0, 1, columns))
    return (rng.normal(size=(rows, columns)) @ mixing / columns**0.5).astype(np.float32)


def smooth_kernels(out: int, into: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(out, into, 5, 5))
    return sum(x[:, :, i : i + 3, j : j + 3] for i in range(3) for j in range(3)).astype(np.float32) / 3


@st.composite
def parts(draw: st.DrawFn) -> Part:
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = draw(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=3))
    tensors = []
    for shape in shapes:
        x = rng.standard_t(2, shape) * draw(st.sampled_from([0.0, 1e-3, 1.0, 30.0]))
        tensors.append(np.clip(x, -900, 900).astype(DTYPES[dtype]))
    return part_of(*tensors)


@settings(max_examples=60, deadline=None)
@given(parts(), st.sampled_from([0.1, 3.0]), st.sampled_from([8, 64]), st.booleans(), st.booleans())
def test_round_trip(part: Part, step: float, states: int, transform: bool, centroid: bool) -> None:
    codec = Trellis(
        states=states,
        transform="auto" if transform else "none",
        reconstruction="centroid" if centroid else "midpoint",
    )
    encoded = encode(part, step, codec)
    x, y = values(part), decode(part, encoded)
    ulp = np.abs(x) * 2.0 ** -{1: 24, 2: 23, 3: 10, 4: 7}[part.dtype] + 1e-7
    assert (np.abs(x - y) <= (40 if transform else 8) * step + ulp).all()
    assert np.mean((x - y) ** 2) <= 6 * step**2 + np.mean(ulp**2) if x.size else True


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_large_tensor_in_several_chunks(dtype: int) -> None:
    part = part_of(scaled_matrix(1500, 400).astype(DTYPES[dtype]))
    setting = Setting(0.5)
    setting = Setting(0.5, None, FAST.study([part], [setting], 1)[0])
    trial = FAST.trial([part], [setting], 1)[0]
    encoded = FAST.encode([part], [setting], 1)[0]
    encoded = Encoded(encoded.chunk_elements, encoded.model, list(encoded.chunks))
    assert len(list(encoded.chunks)) == 3
    error = ((values(part) - decode(part, encoded)) ** 2).sum()
    assert trial.squared_error == pytest.approx(error, rel=1e-2)
    assert trial.bits == pytest.approx(size_bits(encoded), rel=1e-2)


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("kind", ["scales", "columns", "kernels"])
def test_same_bytes_on_every_isa_and_thread_count(kind: str, isa: str, isa_restored: None) -> None:
    x = {
        "scales": lambda: scaled_matrix(900, 700),
        "columns": lambda: correlated_matrix(4000, 72),
        "kernels": lambda: smooth_kernels(128, 64),
    }[kind]()
    part = part_of(x)
    small = [part_of(scaled_matrix(20, 30, i)) for i in range(3)]
    _core.force_isa("scalar")
    one = encode(part, 0.3)
    one_small = FAST.encode(small, [Setting(0.3)] * 3, 1)
    y = decode(part, one)
    assert decoder_of(part, one).transform in {"scales": ("none",), "columns": ("klt",)}.get(
        kind, ("dct", "kernel klt")
    )
    _core.force_isa(isa)
    for threads in (1, 3):
        assert encode(part, 0.3, threads=threads) == one
        assert FAST.encode(small, [Setting(0.3)] * 3, threads) == one_small
    np.testing.assert_array_equal(decode(part, one), y)


@pytest.fixture
def isa_restored() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


def rate_at_equal_error(part: Part, codec: Trellis, step: float) -> float:
    """Bits per weight, moved to an error of 1 along the 6 dB per bit line."""
    encoded = encode(part, step, codec)
    error = ((values(part) - decode(part, encoded)) ** 2).mean()
    return size_bits(encoded) / values(part).size + 0.5 * math.log2(error)


def test_distance_to_the_rate_distortion_function() -> None:
    x = np.random.default_rng(1).standard_normal((512, 512)).astype(np.float32)
    part = part_of(x)
    for states, most in ((8, 0.085), (64, 0.055)):
        for step in (0.8, 0.25):
            assert 0.01 < rate_at_equal_error(part, Trellis(states=states), step) < most


def test_scales_transforms_and_centroids_each_pay() -> None:
    scaled = part_of(scaled_matrix(256, 256))
    assert (
        rate_at_equal_error(scaled, FAST, 1.0)
        < rate_at_equal_error(scaled, Trellis(8, classes="none"), 1.0) - 0.3
    )
    for x in (smooth_kernels(64, 32), correlated_matrix(4000, 48)):
        plain = rate_at_equal_error(part_of(x), Trellis(8, transform="none"), 0.2)
        assert rate_at_equal_error(part_of(x), FAST, 0.2) < plain - 0.1
    peaked = part_of(np.random.default_rng(2).laplace(size=(300, 300)).astype(np.float32))
    midpoint = Trellis(8, reconstruction="midpoint")
    assert rate_at_equal_error(peaked, FAST, 1.5) < rate_at_equal_error(peaked, midpoint, 1.5)


def test_two_zeros_serve_peaked_sources_at_low_rates() -> None:
    part = part_of(np.random.default_rng(2).laplace(size=(512, 512)).astype(np.float32))
    encoded = encode(part, 2.0)
    assert decoder_of(part, encoded).alphabet == "both_zero"
    assert size_bits(encoded) < 0.8 * 512 * 512


def test_laplacian_source_at_a_low_rate() -> None:
    x = np.random.default_rng(1).laplace(size=(512, 512)).astype(np.float32)
    blob = nncodec.encode({"w": x}, FAST, bits_per_weight=0.3)
    assert 8 * len(blob) / x.size == pytest.approx(0.3, rel=5e-3)
    error = x.astype(float) - nncodec.decode(blob, framework="np")["w"]
    assert 0.5 < error.var() / x.var() < 0.635


@pytest.mark.parametrize("step", [1e-3, 100.0])
def test_any_step_works(step: float) -> None:
    part = part_of(np.clip(scaled_matrix(60, 50), -20, 20))
    error = values(part) - decode(part, encode(part, step))
    assert (error**2).mean() <= step**2


def test_group_of_small_tensors_shares_tables() -> None:
    tensors = [
        smooth_kernels(8, 8),
        scaled_matrix(10, 16, 2) * 10,
        np.float32([1, 2, 3]),
        np.zeros((4, 4), np.float32),
        np.zeros((0, 4), np.float32),
        np.float32(5),
    ]
    part = part_of(*map(np.asarray, tensors))
    encoded = encode(part, 0.2)
    assert ((values(part) - decode(part, encoded)) ** 2).mean() <= 0.2**2
    alone = sum(size_bits(encode(part_of(np.asarray(t)), 0.2)) for t in tensors)
    assert size_bits(encoded) < alone


def test_constant_tensors_cost_next_to_nothing() -> None:
    for value in (0.0, 0.25, -3.0):
        part = part_of(np.full((300, 300), value, np.float32))
        encoded = encode(part, 0.1)
        assert size_bits(encoded) < 0.03 * 300 * 300
        assert np.abs(decode(part, encoded) - value).max() <= 0.2


def test_importance_moves_the_steps_of_rows_and_columns() -> None:
    rng = np.random.default_rng(5)
    part = part_of(rng.normal(size=(256, 256)).astype(np.float32))
    row, column = np.ones((256, 1)), np.ones((1, 256))
    row[::2] = 16
    column[0, ::4] = 1 / 16
    w = (row * column).astype(np.float32).reshape(-1)
    encoded = encode(part, 0.1, w=w)
    error = ((values(part) - decode(part, encoded)) ** 2).reshape(256, 256)
    assert error[::2].mean() == pytest.approx(error[1::2].mean() / 16, rel=0.2)
    assert error[:, ::4].mean() == pytest.approx(error[:, 1::4].mean() * 16, rel=0.2)
    weighted = (w * error.reshape(-1)).sum()
    plain = encode(part, 0.1)
    # At equal size the error that is asked for is smaller.
    equal = (w * (values(part) - decode(part, plain)) ** 2).sum()
    bits = (size_bits(plain) - size_bits(encoded)) / 65536
    assert weighted < 0.7 * equal * 4**bits


def test_importance_of_tensors_that_share_a_record() -> None:
    rng = np.random.default_rng(5)
    part = part_of(*rng.normal(size=(2, 64, 64)).astype(np.float32))
    w = np.repeat(np.float32([1, 16]), 4096)
    error = ((values(part) - decode(part, encode(part, 0.05, w=w))) ** 2).reshape(2, -1).mean(axis=1)
    assert error[0] == pytest.approx(16 * error[1], rel=0.2)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (np.nan, r"'t0' has 1 NaN or infinite"),
        (-np.inf, r"'t0' has 1 NaN or infinite"),
        (1e30, r"'t0' has a magnitude|'t0': step .* is too small"),
        (1e8, r"'t0': step .* is too small"),
    ],
)
def test_values_that_cannot_be_quantised(change: float, match: str) -> None:
    x = scaled_matrix(5, 5)
    x[2, 3] = change
    with pytest.raises(ValueError, match=match):
        encode(part_of(x), 0.1)


def test_nonfinite_tensors_can_be_lossless() -> None:
    x = scaled_matrix(30, 20)
    bad = x.copy()
    bad[3, 4], bad[5, 6] = np.nan, np.inf
    with pytest.raises(ValueError, match="'bad' has 2 NaN or infinite"):
        nncodec.encode({"x": x, "bad": bad}, "trellis", rel_mse=0.01)
    out = nncodec.decode(nncodec.encode({"x": x, "bad": bad}, Trellis(8, nonfinite="lossless"), rel_mse=0.01))
    np.testing.assert_array_equal(out["bad"], bad)
    assert 0 < ((out["x"] - x) ** 2).sum() / (x**2).sum() < 0.011


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_bad_steps(step: float) -> None:
    with pytest.raises(ValueError, match="step must be"):
        encode(part_of(scaled_matrix(5, 5)), step)


@pytest.mark.parametrize(
    "kw",
    [
        {"states": 7},
        {"alphabet": "x"},
        {"transform": "dct"},
        {"classes": 3},
        {"nonfinite": True},
        {"states": True},
    ],
)
def test_bad_options(kw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(kw))):
        Trellis(**kw)  # type: ignore[arg-type]


def test_only_floats() -> None:
    assert [c for c in range(60) if Trellis().supports(c, (3, 3))] == [1, 2, 3, 4]


def test_description(tmp_path: Path) -> None:
    nncodec.save_file({"w": correlated_matrix(3000, 24)}, tmp_path / "w", Trellis(16), step=0.1)
    with nncodec.open(tmp_path / "w") as file:
        assert file.info("w").options == {
            "step": pytest.approx(0.1, rel=1e-5),
            "states": 16,
            "transform": "klt",
        }


def test_budgets_are_met() -> None:
    rng = np.random.default_rng(7)
    tensors = {f"w{i}": (scaled_matrix(60, 70, i) * 2.0**i) for i in range(4)}
    tensors["conv"] = smooth_kernels(32, 16)
    tensors["bias"] = rng.normal(size=100).astype(np.float32)
    energy = sum(float((x.astype(float) ** 2).sum()) for k, x in tensors.items() if k != "bias")
    raw = sum(x.nbytes for x in tensors.values())
    for budget in ({"rel_mse": 0.02}, {"snr_db": 25}, {"bits_per_weight": 2.5}, {"ratio": 9}):
        blob = nncodec.encode(tensors, FAST, **budget)
        out = nncodec.decode(blob)
        error = sum(float(((tensors[k].astype(float) - out[k]) ** 2).sum()) for k in tensors)
        got = {
            "rel_mse": error / energy,
            "snr_db": -10 * math.log10(error / energy),
            "bits_per_weight": 8 * len(blob) / (raw / 4),
            "ratio": raw / len(blob),
        }
        ((name, value),) = budget.items()
        assert got[name] == pytest.approx(value, rel=5e-3)


def test_more_bits_never_give_more_error() -> None:
    tensors = {f"w{i}": scaled_matrix(60, 70, i) for i in range(3)}
    tensors["conv"] = smooth_kernels(32, 16)
    elements = sum(x.size for x in tensors.values())
    last = math.inf
    for bits in np.linspace(1.3, 6, 50):
        blob = nncodec.encode(tensors, FAST, bits_per_weight=float(bits))
        assert 8 * len(blob) / elements == pytest.approx(bits, rel=5e-3)
        out = nncodec.decode(blob, framework="np")
        error = sum(float(((x.astype(float) - out[k]) ** 2).sum()) for k, x in tensors.items())
        assert error < last
        last = error


# --- levels from elsewhere


@pytest.mark.parametrize("by_columns", [False, True])
def test_levels_that_were_chosen_elsewhere(by_columns: bool) -> None:
    rng = np.random.default_rng(3)
    shape, states, lanes, step = (50, 6, 3), 16, 4, 0.25
    levels = rng.integers(-3, 4, shape).astype(np.int16)
    levels[7, 2, 1] = -900
    column_steps = list(rng.integers(-9, 9, 18))
    chunk = 20 * 18
    plan = _core.trellis_plan_of_levels(
        2, shape, levels, step, states, "plain", by_columns, 1, lanes, chunk, [], column_steps
    )
    part = part_of(np.zeros(shape, np.float32))
    got = decode(part, Encoded(chunk, plan.model, _core.trellis_encode([plan], 0, 9, 1)[0])).reshape(50, 18)
    want = np.empty((50, 18), np.float32)
    flat = levels.reshape(50, 18)
    for first in range(0, 50, 20):
        rows = min(20, 50 - first)
        piece = -(-rows // lanes)
        runs = (
            [
                [(r, c) for c in range(18) for r in range(lane, min(lane + piece, first + rows))]
                for lane in range(first, first + rows, piece)
            ]
            if by_columns
            else [
                [divmod(i + first * 18, 18) for i in range(lane, rows * 18, lanes)] for lane in range(lanes)
            ]
        )
        for run in runs:
            out = np.empty(len(run), np.float32)
            _core.trellis_dequantise(np.array([flat[r, c] for r, c in run]), out, step, states, lanes=1)
            for (r, c), x in zip(run, out, strict=True):
                want[r, c] = x * np.float32(2.0 ** (column_steps[c] / 8))
    np.testing.assert_allclose(got, want, rtol=1e-6)


# --- hostile input


@pytest.mark.parametrize("kind", ["plain", "group", "columns", "kernels", "large"])
def test_damaged_models_and_payloads_never_crash(kind: str) -> None:
    rng = np.random.default_rng(7)
    tensors = {
        "plain": lambda: [scaled_matrix(30, 20, 3)],
        "group": lambda: [scaled_matrix(10, 30, 3), scaled_matrix(30, 4, 4), smooth_kernels(3, 4)],
        "columns": lambda: [correlated_matrix(600, 16, 3)],
        "kernels": lambda: [smooth_kernels(16, 8, 3)],
        "large": lambda: [scaled_matrix(10, 10, 3) * 300],
    }[kind]()
    part = part_of(*tensors)
    encoded = encode(part, 0.4)
    chunk = bytes(next(iter(encoded.chunks)))
    for at in range(0, len(encoded.model), 1 + len(encoded.model) // 300):
        model = bytearray(encoded.model)
        model[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, bytes(model), [chunk]))
        with pytest.raises(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model[:at], [chunk]))
    for at in range(0, len(chunk), 1 + len(chunk) // 300):
        payload = bytearray(chunk)
        payload[at] ^= 1 << rng.integers(8)
        with suppress(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [bytes(payload)]))
        with pytest.raises(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [chunk[:at]]))


# Without a grid of their own at low rates 0.0504, with all rare levels 0.0790.
@pytest.mark.parametrize(("states", "bits", "rows", "gap"), [(64, 0.5, 700, 0.0497), (8, 4.0, 2200, 0.0784)])
def test_large_gaussian_is_near_the_bound(states: int, bits: float, rows: int, gap: float) -> None:
    codec = Trellis(states, alphabet="plain", transform="none", classes="none")
    gaps = []
    for seed in (5, 6):
        x = np.random.default_rng(seed).standard_normal((rows, 1024)).astype(np.float32)
        blob = nncodec.encode({"x": x}, codec, bits_per_weight=bits)
        error = np.mean((x.astype(np.float64) - nncodec.decode(blob, framework="np")["x"]) ** 2) / x.var()
        gaps.append(8 * len(blob) / x.size + 0.5 * math.log2(error))
    assert np.mean(gaps) < gap


def test_rare_levels_are_given_up_but_outliers_are_kept() -> None:
    x = np.random.default_rng(5).standard_normal((2200, 1024)).astype(np.float32)
    x[900, 500] = 40
    codec = Trellis(8, transform="none", classes="none", reconstruction="midpoint")

    def values(rows: int) -> int:
        """How many different values lie beyond four standard deviations."""
        blob = nncodec.encode({"x": x[:rows]}, codec, bits_per_weight=4)
        decoded = nncodec.decode(blob, framework="np")["x"]
        assert abs(decoded[900, 500] - 40) < 0.3
        return len(np.unique(decoded[np.abs(decoded) > 4]))

    few, many = values(1000), values(2200)
    assert many < few  # though there is more of the tails


@pytest.mark.parametrize("bits", [0.25, 0.3, 0.4, 0.5, 0.6, 0.7])
def test_low_budgets_of_one_alphabet_are_met(bits: float) -> None:
    x = np.random.default_rng(3).standard_normal((600, 600)).astype(np.float32)
    blob = nncodec.encode({"x": x}, Trellis(8, alphabet="plain"), bits_per_weight=bits)
    assert 8 * len(blob) / x.size == pytest.approx(bits, rel=0.01)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 65535), (1, 65536), (2, 32768), (4, 16384), (8, 4096), (8, 8192), (8, 65536), (64, 1024),
        (4096, 8), (16384, 16), (32768, 2), (65536, 1), (1, 1, 65536), (128, 64, 3, 3),
    ],
)  # fmt: skip
def test_scales_of_few_elements_are_left_out(shape):
    """Elements of one distribution: whatever the shape and size, scales must not cost what they cannot bring."""
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    errors = {}
    for classes in ("auto", "none"):
        codec = nncodec.codecs.Trellis(states=8, classes=classes)
        got = nncodec.decode(nncodec.encode({"w": x}, codec, bits_per_weight=2))["w"]
        errors[classes] = float(np.square(got - x, dtype=np.float64).sum())
    assert errors["auto"] < 1.01 * errors["none"]


@pytest.mark.parametrize(
    ("shape", "scaled"), [((16, 8192), (16, 1)), ((8192, 16), (8192, 1)), ((64, 1024), (1, 1024))]
)
@pytest.mark.parametrize("bits", [1, 3])
def test_scales_stay_where_they_tell_something(shape, scaled, bits):
    """Rows or columns whose standard deviations differ by a factor of e, as a rule."""
    rng = np.random.default_rng(6)
    x = (rng.standard_normal(shape) * np.exp(rng.standard_normal(scaled))).astype(np.float32)
    errors = {}
    for classes in ("auto", "none"):
        codec = nncodec.codecs.Trellis(states=8, classes=classes)
        got = nncodec.decode(nncodec.encode({"w": x}, codec, bits_per_weight=bits))["w"]
        errors[classes] = float(np.square(got - x, dtype=np.float64).sum())
    assert errors["auto"] < 0.9 * errors["none"]


@pytest.mark.parametrize("order", [(2, 3, 1, 0), (0, 2, 3, 1), (2, 3, 0, 1)])
@pytest.mark.parametrize("rel_mse", [0.1, 0.01])
def test_scales_of_channels_are_found_wherever_they_are(order, rel_mse):
    """Kernels with scales of outputs and inputs take as much as in torch's order if channels come last."""
    rng = np.random.default_rng(7)
    of = np.exp(0.7 * rng.standard_normal((64, 1, 1, 1))) * np.exp(0.7 * rng.standard_normal((1, 32, 1, 1)))
    x = (rng.standard_normal((64, 32, 3, 3)) * of).astype(np.float32)
    sizes = [
        len(nncodec.encode({"w": np.ascontiguousarray(w)}, Trellis(8, transform="none"), rel_mse=rel_mse))
        for w in (x, x.transpose(order))
    ]
    assert sizes[1] < 1.03 * sizes[0]


def test_sizes_that_paths_leap_over_are_met_without_the_worse_alphabet():
    """At 0.7 bits the sizes of neighbouring steps differ by 2 %: two zeros would hit the budget, at 0.4 dB less."""
    x = np.random.default_rng(12).standard_normal((16, 16384)).astype(np.float32)
    errors = {}
    for alphabet in ("auto", "plain", "both_zero"):
        blob = nncodec.encode({"w": x}, Trellis(8, alphabet=alphabet), bits_per_weight=0.7)
        errors[alphabet] = float(np.square(nncodec.decode(blob)["w"] - x, dtype=np.float64).sum())
        assert alphabet != "auto" or abs(8 * len(blob) / x.size - 0.7) < 0.0035
    assert errors["auto"] < 0.95 * errors["both_zero"]


def test_errors_that_paths_leap_over_are_met():
    """A Gaussian's seventh power: few large weights, so that the errors of neighbouring steps differ by per cents."""
    x = (np.random.default_rng(0).standard_normal((100, 100)) ** 7).astype(np.float32)
    energy = float(np.square(x, dtype=np.float64).sum())
    for rel_mse in (0.2, 0.1, 0.03):
        got = nncodec.decode(nncodec.encode({"w": x}, Trellis(8), rel_mse=rel_mse))["w"]
        error = float(np.square(got - x, dtype=np.float64).sum()) / energy
        assert error == pytest.approx(rel_mse, rel=0.01)


def test_errors_are_not_met_at_any_price():
    """Three values at an error that no step has: another price of bits has it with the plain alphabet, 17 % dearer."""
    rng = np.random.default_rng(0)
    x = (np.sign(rng.standard_normal((512, 512))) * (rng.random((512, 512)) < 0.5)).astype(np.float32)
    sizes = [
        len(nncodec.encode({"w": x}, Trellis(8, alphabet=a), rel_mse=0.1)) for a in ("auto", "both_zero")
    ]
    assert sizes[0] <= 1.005 * sizes[1]


def test_finer_grids_stay_within_what_levels_span():
    x = np.float32([[1.0], [-2.6e-5], [1.3e-4]])
    got = nncodec.decode(nncodec.encode({"w": x}, Trellis(8), rel_mse=1e-9))["w"]
    np.testing.assert_allclose(got, x, atol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (16, 8), (8, 32)])
def test_scales_of_many_small_tensors_are_left_out(shape):
    """600 tensors that share a record: what each saves by scales must pay for them."""
    x = np.random.default_rng(3).standard_normal((600, *shape)).astype(np.float32)
    tensors = {f"t{i}": one for i, one in enumerate(x)}
    sizes = [len(nncodec.encode(tensors, Trellis(8, classes=c), rel_mse=0.03)) for c in ("auto", "none")]
    assert sizes[0] <= 1.005 * sizes[1]


def test_scales_stay_where_a_low_rate_makes_them_look_dear():
    """The demo's network, 64 weights for each scale of its largest matrix: without those the error is 7 % more."""
    state = nncodec.load_file(Path(nncodec.__file__).parent / "demo" / "digits.nncz", framework="np")
    out = nncodec.decode(nncodec.encode(state, "trellis", ratio=32))
    weights = [name for name, value in state.items() if value.ndim > 1]
    error = sum(np.square(out[name] - state[name], dtype=np.float64).sum() for name in weights)
    assert error < 0.16 * sum(np.square(state[name], dtype=np.float64).sum() for name in weights)
