"""Codec `uniform`: what comes back is near what went in, says how near, and never depends on threads or machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nncodec
from nncodec import DecodeError, _core
from nncodec.codecs import Uniform
from nncodec.codecs.base import Encoded, Part, Setting

DTYPES = {1: np.float64, 2: np.float32, 3: np.float16, 4: ml_dtypes.bfloat16}


def part_of(*tensors: NDArray[np.generic]) -> Part:
    code = next(c for c, t in DTYPES.items() if tensors[0].dtype == t)
    data = np.concatenate([np.frombuffer(t.tobytes(), np.uint8) for t in tensors])
    return Part(code, tuple(t.shape for t in tensors), data, tuple(f"t{i}" for i in range(len(tensors))))


def encode(
    part: Part, step: float, codec: Uniform | None = None, threads: int = 1, w: object = None
) -> Encoded:
    encoded = (codec or Uniform()).encode([part], [Setting(step, w)], threads)[0]  # type: ignore[arg-type]
    return Encoded(encoded.chunk_elements, encoded.model, list(encoded.chunks))


def decode(part: Part, encoded: Encoded) -> NDArray[np.float64]:
    decoder = Uniform.decoder(1, part.dtype, part.shapes, encoded.chunk_elements, encoded.model)
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


def scaled_matrix(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    scale = np.exp2(rng.normal(0, 1, (rows, 1)) + rng.normal(0, 1, (1, columns)))
    return (rng.normal(size=(rows, columns)) * scale).astype(np.float32)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shapes = draw(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=3))
    tensors = []
    for shape in shapes:
        x = rng.standard_t(2, shape) * draw(st.sampled_from([0.0, 1e-3, 1.0, 30.0]))
        tensors.append(np.clip(x, -3e4, 3e4).astype(DTYPES[dtype]))
    return part_of(*tensors)


@settings(max_examples=80)
@given(parts(), st.sampled_from([1e-3, 0.1, 3.0]), st.booleans(), st.sampled_from([0.0, 0.8, 2.0]))
def test_round_trip(part: Part, step: float, centroid: bool, strength: float) -> None:
    codec = Uniform(reconstruction="centroid" if centroid else "midpoint", strength=strength)
    encoded = encode(part, step, codec)
    x, y = values(part), decode(part, encoded)
    ulp = np.abs(x) * 2.0 ** -{1: 52, 2: 23, 3: 10, 4: 7}[part.dtype] + 1e-7
    assert (np.abs(x - y) <= 2 * step + ulp).all()
    if strength == 0 and not centroid:
        assert (np.abs(x - y) <= step / 2 * (1 + 1e-6) + ulp).all()
    trial = codec.trial([part], [Setting(step)], 1)[0]
    assert trial.squared_error == pytest.approx(((x - y) ** 2).sum(), rel=1e-3, abs=4 * step * ulp.sum())
    assert abs(trial.bits - size_bits(encoded)) <= 0.01 * trial.bits + 80


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_large_tensor_in_several_chunks(dtype: int) -> None:
    part = part_of(scaled_matrix(1500, 400).astype(DTYPES[dtype]))
    encoded = encode(part, 0.5)
    assert len(list(encoded.chunks)) == 3
    error = ((values(part) - decode(part, encoded)) ** 2).sum()
    trial = Uniform().trial([part], [Setting(0.5)], 1)[0]
    assert trial.squared_error == pytest.approx(error, rel=1e-6)
    assert trial.bits == pytest.approx(size_bits(encoded), rel=2e-3)


def test_what_a_trial_left_is_used_only_for_the_same_setting() -> None:
    part = part_of(scaled_matrix(60, 70))
    codec = Uniform()
    (study,) = codec.study([part], [Setting(0.1)], 1)
    weights = np.linspace(0.5, 2, 4200, dtype=np.float32)
    for step, importance in ((0.1, None), (0.3, None), (0.3, weights), (0.1, None)):
        codec.trial([part], [Setting(step, importance, study)], 1)
        kept = study.last[3]
        for other in (Setting(0.1, None, study), Setting(0.3, None, study), Setting(0.3, weights, study)):
            for coder in (codec, Uniform(strength=0)):
                (made,) = coder.encode([part], [other], 1)
                want = encode(part, other.step, coder, w=other.importance)
                assert (made.model, list(made.chunks)) == (want.model, list(want.chunks))
        assert codec._plans([part], [Setting(step, importance, study)], 1) == [kept]


def test_what_trials_leave_is_bounded() -> None:
    for many, kept in (
        ([part_of(np.ones((3, 3), np.float32))] * 128, True),
        ([part_of(np.ones(9, np.float32))] * 129, False),
    ):
        settings_of = [
            Setting(0.1, None, study) for study in Uniform().study(many, [Setting(0.1)] * len(many), 1)
        ]
        Uniform().trial(many, settings_of, 1)
        assert all((setting.study.last is not None) == kept for setting in settings_of)


def test_chunks_that_are_coded_first_by_several_threads() -> None:
    part = part_of(scaled_matrix(1500, 900))
    one, four = (b"".join(Uniform().encode([part], [Setting(0.3)], threads)[0].chunks) for threads in (1, 4))
    assert one == four


@pytest.mark.parametrize("isa", _core.supported_isas())
@pytest.mark.parametrize("transform", [False, True])
def test_same_bytes_on_every_isa_and_thread_count(transform: bool, isa: str, isa_restored: None) -> None:
    part = part_of(correlated_matrix(5000, 72) if transform else scaled_matrix(900, 700))
    small = [part_of(scaled_matrix(20, 30, i)) for i in range(5)]
    _core.force_isa("scalar")
    one = encode(part, 0.3)
    one_small = Uniform().encode(small, [Setting(0.3)] * 5, 1)
    y = decode(part, one)
    _core.force_isa(isa)
    for threads in (1, 3):
        assert encode(part, 0.3, threads=threads) == one
        assert Uniform().encode(small, [Setting(0.3)] * 5, threads) == one_small
    np.testing.assert_array_equal(decode(part, one), y)


@pytest.fixture
def isa_restored() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


def test_classes_centroids_and_rate_awareness_each_pay() -> None:
    part = part_of(scaled_matrix(512, 512))
    plain = Uniform(reconstruction="midpoint", strength=0.0, classes="none")

    def rate_at_equal_error(codec: Uniform) -> float:
        """Bits per weight, moved to the error of step 1 along the 6 dB per bit line."""
        trial = codec.trial([part], [Setting(1.0)], 1)[0]
        return trial.bits / values(part).size + 0.5 * math.log2(trial.squared_error)

    rates = [
        rate_at_equal_error(codec)
        for codec in (
            plain,
            Uniform(reconstruction="midpoint", strength=0.0),
            Uniform(strength=0.0),
            Uniform(),
        )
    ]
    assert rates[1] < rates[0] - 0.3  # scales that spread over an octave
    assert rates[2] < rates[1] - 0.002
    assert rates[3] < rates[2]


def test_smooth_sources_cost_no_more_than_their_entropy() -> None:
    x = np.random.default_rng(3).normal(size=1 << 18).astype(np.float32)
    part = part_of(x)
    step = 0.5
    level = np.rint(x / step).astype(int)
    counts = np.bincount(level - level.min())
    counts = counts[counts > 0]
    entropy = (counts * np.log2(counts.sum() / counts)).sum()
    coded = size_bits(encode(part, step, Uniform(strength=0.0)))
    assert entropy < coded < 1.004 * entropy


@pytest.mark.parametrize("step", [1e-7, 1e-4, 100.0])
def test_any_step_works(step: float) -> None:
    part = part_of(scaled_matrix(60, 50))
    error = np.abs(values(part) - decode(part, encode(part, step))).max()
    assert error <= 1.0 * step + 1e-6 * np.abs(values(part)).max()


def test_group_of_small_tensors_shares_tables() -> None:
    tensors = [
        scaled_matrix(8, 72, 1).reshape(8, 8, 3, 3),
        scaled_matrix(10, 16, 2) * 100,
        np.float32([1, 2, 3]),
        np.zeros((4, 4), np.float32),
        np.zeros((0, 4), np.float32),
        np.float32(5),
    ]
    part = part_of(*map(np.asarray, tensors))
    encoded = encode(part, 0.2)
    assert np.abs(values(part) - decode(part, encoded)).max() <= 0.2
    alone = sum(size_bits(encode(part_of(np.asarray(t)), 0.2)) for t in tensors)
    assert size_bits(encoded) < alone


def test_constant_tensors_cost_next_to_nothing() -> None:
    for value in (0.0, 0.25, -3.0):
        part = part_of(np.full((300, 300), value, np.float32))
        encoded = encode(part, 0.1)
        assert size_bits(encoded) < 8 * 60
        assert np.abs(decode(part, encoded) - value).max() <= 0.1


def test_importance_buys_precision() -> None:
    rng = np.random.default_rng(5)
    part = part_of(rng.normal(size=(256, 256)).astype(np.float32))
    w = np.where(np.arange(256 * 256) % 2 == 0, 4.0, 0.0).astype(np.float32)
    encoded = encode(part, 1.0, w=w)
    error = (values(part) - decode(part, encoded)) ** 2
    assert error[::2].mean() < 0.7 * error[1::2].mean()
    trial = Uniform().trial([part], [Setting(1.0, w)], 1)[0]
    assert trial.squared_error == pytest.approx((w * error).sum(), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (np.nan, r"'t0' has 1 NaN or infinite"),
        (-np.inf, r"'t0' has 1 NaN or infinite"),
        (1e30, r"'t0': step .* is too small"),
    ],
)
def test_values_that_cannot_be_quantised(change: float, match: str) -> None:
    x = scaled_matrix(5, 5)
    x[2, 3] = change
    with pytest.raises(ValueError, match=match):
        encode(part_of(x), 0.1)


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_bad_steps(step: float) -> None:
    with pytest.raises(ValueError, match="step must be positive"):
        encode(part_of(scaled_matrix(5, 5)), step)


@pytest.mark.parametrize(
    "kw",
    [{"transform": "dct"}, {"reconstruction": "x"}, {"strength": -1.0}, {"strength": 9.0}, {"classes": 3}],
)
def test_bad_options(kw: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(kw))):
        Uniform(**kw)  # type: ignore[arg-type]


def test_only_floats() -> None:
    assert [c for c in range(60) if Uniform().supports(c, (3, 3))] == [1, 2, 3, 4]


def test_description() -> None:
    encoded = encode(part_of(scaled_matrix(5, 5)), 0.3)
    assert Uniform.describe(1, encoded.model)["step"] == pytest.approx(0.3, rel=1e-6)


def correlated_matrix(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(columns, columns)) * np.exp2(rng.normal(0, 1, columns))
    return (rng.normal(size=(rows, columns)) @ mixing / columns**0.5).astype(np.float32)


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_transform_pays_where_columns_are_correlated(dtype: int) -> None:
    part = part_of(correlated_matrix(6000, 48).astype(DTYPES[dtype]))
    plain, better = encode(part, 0.3, Uniform(transform="none")), encode(part, 0.3)
    assert (plain.model[5], better.model[5]) == (0, 1)
    errors = [((values(part) - decode(part, e)) ** 2).sum() for e in (plain, better)]
    assert errors[1] < 1.02 * errors[0]
    assert size_bits(better) < size_bits(plain) - 0.3 * 6000 * 48
    trial = Uniform().trial([part], [Setting(0.3)], 1)[0]
    assert trial.squared_error == pytest.approx(errors[1], rel=1e-4)
    assert trial.bits == pytest.approx(size_bits(better), rel=2e-3)
    assert len(list(better.chunks)) == 2
    assert better.chunk_elements % 48 == 0


def test_transform_only_where_it_pays() -> None:
    for x in (scaled_matrix(4000, 32), correlated_matrix(64, 64), correlated_matrix(400, 8)):
        assert encode(part_of(x), 0.3).model[5] == 0
    part = part_of(scaled_matrix(4000, 32))
    forced = encode(part, 0.3, Uniform(transform="klt"))
    assert forced.model[5] == 1
    assert ((values(part) - decode(part, forced)) ** 2).mean() < 0.3**2 / 9


def test_unequal_importance_excludes_a_transform() -> None:
    part = part_of(correlated_matrix(3000, 32))
    w = np.ones(3000 * 32, np.float32)
    assert encode(part, 0.3, w=w).model[5] == 1
    w[7] = 2
    assert encode(part, 0.3, w=w).model[5] == 0


@pytest.mark.parametrize("x", [np.zeros((200, 20)), np.full((200, 20), 3.5), np.eye(200, 20) * 1e-30])
def test_transform_of_odd_matrices(x: NDArray[np.float64]) -> None:
    part = part_of(x.astype(np.float32))
    step = max(0.01 * float(x.max()), 1e-35)
    y = decode(part, encode(part, step, Uniform(transform="klt")))
    assert np.abs(y - values(part)).max() <= 20**0.5 * step


def test_transform_refuses_what_does_not_fit() -> None:
    part = part_of(correlated_matrix(200, 20))
    encoded = encode(part, 0.3, Uniform(transform="klt"))
    assert encoded.model[5:7] == bytes([1, 20])
    for at, byte, match in (
        (6, 21, "do not divide"),
        (6, 1, "fewer than 2"),
        (6, 100, "more than the rows"),
        (5, 2, "unknown kind 2"),
    ):
        model = bytearray(encoded.model)
        model[at] = byte
        with pytest.raises(DecodeError, match=match):
            Uniform.decoder(1, 2, part.shapes, 4000, bytes(model))
    with pytest.raises(DecodeError, match="several tensors"):
        Uniform.decoder(1, 2, ((100, 20), (100, 20)), 4000, encoded.model)
    with pytest.raises(DecodeError, match="do not divide"):
        Uniform.decoder(1, 2, part.shapes, 3990, encoded.model)


def test_unknown_transforms_are_refused() -> None:
    part = part_of(scaled_matrix(5, 5))
    encoded = encode(part, 0.3)
    assert encoded.model[5] == 0
    model = encoded.model[:5] + b"\xfe" + encoded.model[6:]
    with pytest.raises(DecodeError, match="transform is of the unknown kind 254"):
        decode(part, Encoded(encoded.chunk_elements, model, encoded.chunks))


@pytest.mark.parametrize(
    ("shapes", "transform"), [(((40, 30),), "none"), (((10, 30), (5, 6, 30)), "none"), (((40, 12),), "klt")]
)
def test_damaged_models_and_payloads_never_crash(
    shapes: tuple[tuple[int, ...], ...], transform: Literal["none", "klt"]
) -> None:
    rng = np.random.default_rng(7)
    part = part_of(*[(scaled_matrix(math.prod(s), 1, 3).reshape(s) * 40) for s in shapes])
    encoded = encode(part, 0.4, Uniform(transform=transform))
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
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [bytes(payload)]))
        with pytest.raises(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [chunk[:at]]))


def test_info_names_the_transform(tmp_path: Path) -> None:
    mixed = np.random.default_rng(3).standard_normal((512, 4)) @ np.random.default_rng(4).standard_normal(
        (4, 32)
    )
    for transform in ("klt", "none"):
        nncodec.save_file(
            {"w": mixed.astype(np.float32)}, tmp_path / transform, Uniform(transform=transform), step=0.1
        )
    with nncodec.open(tmp_path / "klt") as klt, nncodec.open(tmp_path / "none") as none:
        assert klt.info("w").options == {"step": pytest.approx(0.1, rel=1e-5), "transform": "klt"}
        assert none.info("w").options == {"step": pytest.approx(0.1, rel=1e-5)}
        assert klt.info("w").stored_bytes < none.info("w").stored_bytes
