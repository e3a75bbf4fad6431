"""Codec `codebook`: few values come back exactly, many near, and never depending on threads or machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import nncodec
from nncodec import DecodeError, _core
from nncodec.codecs import Codebook
from nncodec.codecs.base import Encoded, Part, Setting

DTYPES = {1: np.float64, 2: np.float32, 3: np.float16, 4: ml_dtypes.bfloat16}


def part_of(*tensors: NDArray[np.generic]) -> Part:
    code = next(c for c, t in DTYPES.items() if tensors[0].dtype == t)
    data = np.concatenate([np.frombuffer(t.tobytes(), np.uint8) for t in tensors])
    return Part(code, tuple(t.shape for t in tensors), data, tuple(f"t{i}" for i in range(len(tensors))))


def encode(part: Part, codec: Codebook, threads: int = 1, w: object = None) -> Encoded:
    encoded = codec.encode([part], [Setting(1.0, w)], threads)[0]  # type: ignore[arg-type]
    return Encoded(encoded.chunk_elements, encoded.model, list(encoded.chunks))


def decode(part: Part, encoded: Encoded) -> NDArray[np.uint8]:
    decoder = Codebook.decoder(1, part.dtype, part.shapes, encoded.chunk_elements, encoded.model)
    out = np.full(part.data.size, 0xAA, np.uint8)
    chunk_bytes = encoded.chunk_elements * np.dtype(DTYPES[part.dtype]).itemsize
    jobs = [
        (decoder, i, bytes(c), 0, _core.crc32c(bytes(c)), out[i * chunk_bytes : (i + 1) * chunk_bytes])
        for i, c in enumerate(encoded.chunks)
    ]
    failure = _core.decode_chunks(jobs, 2)
    if failure is not None:
        raise DecodeError(failure[1])
    return out


def bits_of(encoded: Encoded) -> int:
    return 8 * (len(encoded.model) + sum(map(len, encoded.chunks)))


@st.composite
def palettes(draw: st.DrawFn) -> Part:
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.sampled_from([1, 2, 16, 127, 129, 3000]))
    kind = DTYPES[dtype]
    values = np.frombuffer(rng.bytes(count * np.dtype(kind).itemsize), kind)  # NaN and infinities among them
    shapes = draw(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=3))
    return part_of(*(values[rng.integers(0, count, shape)].reshape(shape) for shape in shapes))


@settings(max_examples=120, deadline=None)
@given(palettes(), st.sampled_from([1, 2, 4]))
def test_few_values_come_back_to_the_bit(part: Part, dimension: int) -> None:
    np.testing.assert_array_equal(decode(part, encode(part, Codebook(dimension=dimension))), part.data)


@pytest.mark.parametrize("count", [3, 128, 129, 5000, 65536])
def test_several_chunks_of_few_values(count: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.normal(size=count).astype(np.float32)
    part = part_of(values[rng.integers(0, count, (700, 900))])
    encoded = encode(part, Codebook())
    assert len(list(encoded.chunks)) == 3
    np.testing.assert_array_equal(decode(part, encoded), part.data)
    ideal = 700 * 900 * math.log2(count) + 32 * count
    assert bits_of(encoded) < 1.02 * ideal + 4000


def test_coded_size_is_the_entropy_of_the_indices() -> None:
    rng = np.random.default_rng(1)
    x = rng.choice(np.float32([-0.1, 0.0, 0.2]), (500, 600), p=[0.1, 0.7, 0.2])
    p = np.unique(x, return_counts=True)[1] / x.size
    ideal = -x.size * (p * np.log2(p)).sum()
    assert ideal < bits_of(encode(part_of(x), Codebook())) < 1.005 * ideal


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("size", [1, 2, 16, 100])
def test_clustering_is_the_optimum(dtype: int, size: int) -> None:
    x = np.random.default_rng(2).normal(size=(40, 70)).astype(DTYPES[dtype])
    part = part_of(x)
    y = decode(part, encode(part, Codebook(size=size))).view(DTYPES[dtype]).astype(np.float64)
    assert len(np.unique(y)) <= size
    values = np.sort(x.astype(np.float64).ravel())
    best = _core.kmeans_optimal(values, None, size)[1]
    error = ((x.astype(np.float64).ravel() - y) ** 2).sum()
    tolerance = {1: 1e-9, 2: 1e-5, 3: 1e-2, 4: 0.05}[dtype]
    assert (
        error
        <= best * (1 + tolerance) + len(values) * (2.0 ** -{1: 52, 2: 23, 3: 10, 4: 7}[dtype] * 0.1) ** 2
    )
    trial = Codebook(size=size).trial([part], [Setting(1.0)], 1)[0]
    assert trial.squared_error == pytest.approx(error, rel=1e-9)
    assert trial.bits == bits_of(encode(part, Codebook(size=size)))


def test_many_values_are_binned_without_loss_to_speak_of() -> None:
    x = np.random.default_rng(3).standard_t(4, 120_000).astype(np.float32)
    part = part_of(x)
    y = decode(part, encode(part, Codebook(size=16))).view(np.float32)
    best = _core.kmeans_optimal(np.sort(x.astype(np.float64)), None, 16)[1]
    assert ((x.astype(np.float64) - y) ** 2).sum() < best * 1.0005


def test_vectors_gain_on_correlated_neighbours() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3000, 4)).astype(np.float32)
    x[:, 1:] = x[:, :1] + 0.2 * x[:, 1:]
    part = part_of(x)
    errors = {}
    for dimension, size in ((1, 2), (2, 4), (4, 16)):  # one bit a weight, before entropy coding
        codec = Codebook(size=size, dimension=dimension)
        y = decode(part, encode(part, codec)).view(np.float32).reshape(x.shape)
        errors[dimension] = ((x - y) ** 2).sum()
        assert len(np.unique(y.reshape(-1, dimension), axis=0)) <= size
    assert errors[4] < 0.8 * errors[2] < 0.8 * errors[1]


@pytest.mark.parametrize("shape", [(5, 7), (3,), (1, 1), (0, 4)])
def test_vectors_that_do_not_fill_up(shape: tuple[int, ...]) -> None:
    part = part_of(np.random.default_rng(5).normal(size=shape).astype(np.float32))
    for codec in (Codebook(size=3, dimension=4), Codebook(dimension=2)):
        y = decode(part, encode(part, codec))
        if codec.size is None:
            np.testing.assert_array_equal(y, part.data)


def test_entropy_trades_bits_for_error() -> None:
    x = np.random.default_rng(6).standard_t(5, (300, 300)).astype(np.float32)
    part = part_of(x)
    results = []
    for entropy in (0.0, 0.02, 0.1):
        encoded = encode(part, Codebook(size=32, entropy=entropy, classes=False))
        y = decode(part, encoded).view(np.float32)
        results.append((bits_of(encoded), float(((x.ravel() - y) ** 2).sum())))
    (b0, e0), (b1, e1), (b2, e2) = results
    assert b0 > b1 > b2
    assert e0 < e1 < e2
    # At equal error, by 6 dB a bit, nearest entries of smaller codebooks take more bits.
    for size in (12, 16):
        fewer = encode(part, Codebook(size=size, classes=False))
        y = decode(part, fewer).view(np.float32)
        error = float(((x.ravel() - y) ** 2).sum())
        assert b2 / x.size + 0.5 * math.log2(e2) < bits_of(fewer) / x.size + 0.5 * math.log2(error) - 0.04


def test_classes_pay_where_scales_differ() -> None:
    rng = np.random.default_rng(7)
    x = (rng.normal(size=(400, 300)) * np.exp2(rng.normal(0, 1.5, (400, 1)))).astype(np.float32)
    part = part_of(x)
    with_classes, without = (bits_of(encode(part, Codebook(size=32, classes=c))) for c in (True, False))
    assert with_classes < 0.97 * without


def test_powers_of_two() -> None:
    x = np.random.default_rng(8).normal(size=(60, 60)).astype(np.float32)
    for dimension in (1, 2):
        codec = Codebook(size=9, values="power_of_two", dimension=dimension)
        y = np.unique(decode(part_of(x), encode(part_of(x), codec)).view(np.float32))
        assert all(math.frexp(abs(v))[0] in (0.0, 0.5) for v in y.tolist())


def test_importance_moves_the_centroids() -> None:
    rng = np.random.default_rng(9)
    x = np.concatenate([rng.normal(-1, 0.3, 2000), rng.normal(1, 0.3, 2000)]).astype(np.float32)
    w = np.where(x > 0, 1.0, 0.001).astype(np.float32)
    part = part_of(x)
    plain, weighted = (decode(part, encode(part, Codebook(size=4), w=v)).view(np.float32) for v in (None, w))
    assert (w * (x - weighted) ** 2).sum() < 0.5 * (w * (x - plain) ** 2).sum()


@pytest.fixture
def isa_restored() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.force_isa(before)


@pytest.mark.parametrize("isa", _core.supported_isas())
def test_same_bytes_on_every_isa_and_thread_count(isa: str, isa_restored: None) -> None:
    x = np.random.default_rng(10).normal(size=(300, 400)).astype(np.float32)
    part = part_of(x)
    codecs = (Codebook(size=20), Codebook(size=12, dimension=2), Codebook(size=200, entropy=0.01))
    _core.force_isa("scalar")
    expected = [encode(part, codec) for codec in codecs]
    decoded = [decode(part, e) for e in expected]
    _core.force_isa(isa)
    for threads in (1, 3):
        assert [encode(part, codec, threads) for codec in codecs] == expected
    for e, d in zip(expected, decoded, strict=True):
        np.testing.assert_array_equal(decode(part, e), d)


def test_in_a_file() -> None:
    rng = np.random.default_rng(11)
    tensors = {
        "a": rng.normal(size=(80, 60)).astype(np.float32),
        "b": rng.normal(size=(50, 60)).astype(np.float32),
        "bias": rng.normal(size=60).astype(np.float32),
        "steps": np.arange(30).reshape(5, 6),
    }
    one = nncodec.encode(tensors, Codebook(bits=4))
    back = nncodec.decode(one)
    assert (back["bias"] == tensors["bias"]).all()
    assert (back["steps"] == tensors["steps"]).all()
    assert all(len(np.unique(back[n])) <= 16 for n in "ab")
    shared = nncodec.decode(nncodec.encode(tensors, Codebook(bits=4, share="network")))
    assert len(np.unique(np.concatenate([shared[n].ravel() for n in "ab"]))) <= 16
    assert [shared[n].shape for n in tensors] == [t.shape for t in tensors.values()]
    apart = tensors | {"b": tensors["b"] + np.float32(4)}  # four entries for two clouds of values
    error = []
    for importance in (None, {"a": np.full((80, 60), 1e4)}):
        blob = nncodec.encode(apart, Codebook(bits=2, share="network"), importance=importance)
        error.append(((nncodec.decode(blob)["a"] - apart["a"]) ** 2).mean())
    assert error[1] < 0.6 * error[0]
    with pytest.raises(ValueError, match="budget"):
        nncodec.encode(tensors, Codebook(bits=4), snr_db=10)
    mixed = nncodec.encode(tensors, {"a": Codebook(bits=4), "b": "uniform"}, snr_db=20)
    assert len(np.unique(nncodec.decode(mixed)["a"])) <= 16


def test_in_a_file_written_tensor_by_tensor(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "w.nncz"
    x = np.random.default_rng(12).normal(size=(50, 60)).astype(np.float32)
    with nncodec.Writer(path, Codebook(bits=3, share="network")) as writer:
        for name in "ab":
            y = x.copy()
            writer.add(name, y)
            y[:] = 0  # allowed as soon as add returns
    back = nncodec.load_file(path)
    assert (back["a"] == back["b"]).all()
    assert len(np.unique(back["a"])) == 8


def test_what_it_cannot_take() -> None:
    many = part_of(np.random.default_rng(13).normal(size=70_000).astype(np.float32))
    with pytest.raises(ValueError, match="65536 distinct"):
        encode(many, Codebook())
    odd = np.arange(100, dtype=np.float32)
    odd[3] = np.nan
    with pytest.raises(ValueError, match=r"'t0' has NaN"):
        encode(part_of(odd), Codebook(size=4))


# In powers of two, which change no digit: what comes back is what comes back at the usual scale.
@pytest.mark.parametrize(
    ("dtype", "dimension", "exponent"),
    [(1, 1, 660), (1, 1, -660), (1, 1, 1019), (1, 2, 660), (1, 4, -1000), (2, 2, -77), (2, 2, 122), (2, 4, 122),
     (4, 2, 120), (3, 2, 11)],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_extreme_scales_cluster_as_usual_ones_do(dtype: int, dimension: int, exponent: int) -> None:
    x = np.random.default_rng(15).normal(size=2000).astype(np.float32).astype(DTYPES[dtype])
    far = np.ldexp(x.astype(np.float64), exponent).astype(DTYPES[dtype])
    codecs = [Codebook(size=4, dimension=dimension)]
    if dimension == 1:
        codecs.append(Codebook(size=9, entropy=0.1))
    for codec in codecs:
        usual, extreme = (decode(p, encode(p, codec)).view(DTYPES[dtype]) for p in (part_of(x), part_of(far)))
        expected = np.ldexp(usual.astype(np.float64), exponent).astype(DTYPES[dtype])
        np.testing.assert_array_equal(extreme, expected)


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("values", ["float", "power_of_two"])
@pytest.mark.filterwarnings("error")
def test_entries_are_finite_at_the_end_of_the_range(dtype: int, dimension: int, values: str) -> None:
    largest = float(ml_dtypes.finfo(DTYPES[dtype]).max)
    x = (np.linspace(-1, 1, 700) * largest).astype(DTYPES[dtype])
    codec = Codebook(size=5, dimension=dimension, values=values)  # type: ignore[arg-type]
    y = decode(part_of(x), encode(part_of(x), codec)).view(DTYPES[dtype]).astype(np.float64)
    assert np.isfinite(y).all()
    if values == "power_of_two":
        assert np.isin(np.abs(np.frexp(y)[0]), [0.0, 0.5]).all()
    assert np.abs(y / largest - x.astype(np.float64) / largest).max() < 0.6


@pytest.mark.parametrize(
    "options",
    [
        {"size": 4, "bits": 2},
        {"size": 0},
        {"size": 65537},
        {"size": 5000, "dimension": 2},
        {"bits": 17},
        {"dimension": 3},
        {"share": "all"},
        {"values": "int"},
        {"entropy": -1},
        {"entropy": 0.1, "dimension": 2},
    ],
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"size|bits|dimension|share|values|entropy"):
        Codebook(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"bits": 3.5}, {"size": 4.5}, {"bits": True}, {"size": "4"}, {"dimension": 2.0}]
)
def test_options_that_are_no_whole_numbers(options: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(options))} must be a whole number"):
        Codebook(**options)  # type: ignore[arg-type]


def test_options_may_be_numpy_integers() -> None:
    assert Codebook(bits=np.int64(3), dimension=np.uint8(2)) == Codebook(bits=3, dimension=2)  # type: ignore[arg-type]
    assert type(Codebook(size=np.int32(9)).size) is int  # type: ignore[arg-type]


def test_damage_is_noticed_or_harmless() -> None:
    rng = np.random.default_rng(14)
    values = rng.normal(size=300).astype(np.float32)
    part = part_of(values[rng.integers(0, 300, (40, 40))])
    encoded = encode(part, Codebook())
    for at in range(0, 8 * len(encoded.model), 3):
        model = bytearray(encoded.model)
        model[at // 8] ^= 1 << at % 8
        with suppress(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, bytes(model), encoded.chunks))
    payload = bytes(next(iter(encoded.chunks)))
    for end in range(0, len(payload), 7):
        with pytest.raises(DecodeError):
            decode(part, Encoded(encoded.chunk_elements, encoded.model, [payload[:end]]))
