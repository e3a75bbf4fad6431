"""The lossless codec gives back every bit, of every type, and is small where there is something to save."""

import random
import zlib
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncodec import _core
from nncodec.codecs.base import Part
from nncodec.codecs.lossless import Lossless, columns_of
from nncodec.errors import DecodeError

# code: (bytes of an element, bytes of a number)
TYPES = {
    1: (8, 8), 2: (4, 4), 3: (2, 2), 4: (2, 2), 5: (1, 1), 6: (1, 1), 7: (1, 1), 8: (1, 1), 9: (1, 1), 10: (1, 1),
    16: (8, 8), 17: (4, 4), 18: (2, 2), 19: (1, 1), 20: (8, 8), 21: (4, 4), 22: (2, 2), 23: (1, 1), 32: (1, 1),
    48: (16, 8), 49: (8, 4), 50: (4, 2),
}  # fmt: skip
UINT = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def part_of(dtype, shape, data):
    return Part(dtype, (tuple(shape),), np.frombuffer(data, np.uint8))


def encode(parts, threads=1):
    records = Lossless().encode(parts, None, threads)
    return [(record.chunk_elements, record.model, list(record.chunks)) for record in records]


def decode(part, record, threads=1):
    chunk_elements, model, chunks = record
    decoder = Lossless.decoder(2, part.dtype, part.shapes, chunk_elements, model)
    n = sum(prod(shape) for shape in part.shapes)
    size = TYPES[part.dtype][0]
    assert len(chunks) == -(-n // chunk_elements)
    out = np.full(n * size, 0xA5, np.uint8)
    step = chunk_elements * size
    jobs = [
        (decoder, i, chunk, 7, _core.crc32c(chunk, 7), out[i * step : (i + 1) * step])
        for i, chunk in enumerate(chunks)
    ]
    failure = _core.decode_chunks(jobs, threads)
    if failure is not None:
        raise DecodeError(failure[1])
    return out


def size_of(record):
    return len(record[1]) + sum(len(chunk) for chunk in record[2])


def check(part):
    [record] = encode([part])
    assert np.array_equal(decode(part, record), part.data)
    chunks = len(record[2])
    assert size_of(record) <= part.data.size + chunks
    return size_of(record)


def numbers(dtype, n, kind, seed):
    """n elements of a type as bytes, in one of the ways that tensors come."""
    rng = np.random.default_rng(seed)
    element, size = TYPES[dtype]
    n = n * element // size
    noise = rng.integers(0, 2 ** (8 * size), n, dtype=np.uint64).astype(UINT[size])
    if kind == "noise":
        return noise
    if kind == "constant":
        return np.full(n, noise[0] if n else 0, UINT[size])
    if kind == "few":
        return noise[rng.integers(0, max(1, min(5, n)), n)] if n else noise
    if kind == "counting":
        return (np.arange(n, dtype=np.uint64) * 3 + 5).astype(UINT[size])
    weights = rng.standard_normal(n) * np.exp2(rng.integers(-3, 3, -(-n // 50)).repeat(50)[:n])
    if kind == "sparse":
        weights[rng.random(n) < 0.7] = 0
    if kind == "special":
        weights[rng.random(n) < 0.1] = -0.0
        weights[rng.random(n) < 0.1] = np.inf
        weights[rng.random(n) < 0.1] = np.nan
        weights *= 1e-5
    floats = {
        1: np.float64,
        2: np.float32,
        3: np.float16,
        4: ml_dtypes.bfloat16,
        48: np.float64,
        49: np.float32,
        50: np.float16,
    }
    if dtype in floats:
        with np.errstate(over="ignore"):
            result = weights.astype(floats[dtype]).view(UINT[size])
    else:
        result = np.clip(np.nan_to_num(weights * 20, posinf=0), -128, 127).astype(np.int64).astype(UINT[size])
    if kind == "special" and n:
        result[rng.integers(0, n, 3)] = noise[:3] if n >= 3 else noise[0]
    return result


KINDS = ["noise", "constant", "few", "counting", "weights", "sparse", "special"]


@given(
    st.sampled_from(sorted(TYPES)),
    st.sampled_from(KINDS),
    st.lists(st.integers(0, 40), max_size=4),
    st.integers(0, 2**32),
)
def test_round_trip(dtype, kind, shape, seed):
    if prod(shape) > 30_000:
        shape = shape[:2]
    check(part_of(dtype, shape, numbers(dtype, prod(shape), kind, seed).tobytes()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", sorted(TYPES))
def test_round_trip_over_several_chunks(dtype, kind):
    shape = (1001, 257) if TYPES[dtype][0] == TYPES[dtype][1] else (1001, 129)
    check(part_of(dtype, shape, numbers(dtype, prod(shape), kind, 1).tobytes()))


@pytest.mark.parametrize("dtype", [3, 4])
def test_every_pattern_of_two_bytes(dtype):
    check(part_of(dtype, (256, 256), np.arange(1 << 16, dtype=np.uint16).tobytes()))


@pytest.mark.parametrize("dtype", sorted(TYPES))
def test_noise_costs_at_most_a_thousandth(dtype):
    for n in (300_000, 1_000, 3):
        part = part_of(dtype, (n,), numbers(dtype, n, "noise", 3).tobytes())
        assert check(part) <= part.data.size * 1.001 + 2


@pytest.mark.parametrize("dtype", sorted(TYPES))
def test_a_constant_costs_nothing(dtype):
    part = part_of(dtype, (500, 100), numbers(dtype, 50_000, "constant", 4).tobytes())
    assert check(part) <= TYPES[dtype][0] + 1


@pytest.mark.parametrize(("source", "dtype"), [(ml_dtypes.bfloat16, 4), (np.float16, 3)])
@pytest.mark.parametrize(("target", "code"), [(np.float32, 2), (np.float64, 1)])
def test_a_widened_tensor_shrinks_to_what_it_was(source, dtype, target, code):
    narrow = (np.random.default_rng(5).standard_normal((500, 200)) / 30).astype(source)
    small = check(part_of(dtype, narrow.shape, narrow.tobytes()))
    # One exponent more for each of float16's denormals is all that may differ.
    assert check(part_of(code, narrow.shape, narrow.astype(target).tobytes())) <= small * 1.002 + 32


def test_rows_that_were_once_narrow_shrink():
    weights = np.random.default_rng(6).standard_normal((400, 256)).astype(np.float32)
    plain = check(part_of(2, weights.shape, weights.tobytes()))
    weights[::2] = weights[::2].astype(np.float16)
    mixed = check(part_of(2, weights.shape, weights.tobytes()))
    assert mixed <= plain - 200 * 256 * 13 / 8 * 0.98


def test_zeros_cost_no_mantissa():
    rng = np.random.default_rng(7)
    weights = rng.standard_normal((300, 300)).astype(np.float32)
    weights[rng.random(weights.shape) < 0.9] = 0
    dense = check(part_of(2, (9_000,), rng.standard_normal(9_000).astype(np.float32).tobytes()))
    assert check(part_of(2, weights.shape, weights.tobytes())) <= dense * 1.02 + 90_000 * 0.47 / 8 + 500


def test_rows_of_different_scale_get_tables_of_their_own():
    rng = np.random.default_rng(8)
    weights = rng.standard_normal((512, 512)).astype(ml_dtypes.bfloat16)
    same = check(part_of(4, weights.shape, weights.tobytes()))
    scaled = (weights.astype(np.float32) * np.exp2(rng.integers(-9, 9, (512, 1)))).astype(ml_dtypes.bfloat16)
    assert check(part_of(4, scaled.shape, scaled.tobytes())) <= same * 1.01


def test_small_tensors_in_one_part():
    """Batch-norm vectors of a network: about 27 bits a value, everything included."""
    rng = np.random.default_rng(9)
    pieces = []
    for _ in range(15):
        n = int(rng.choice([16, 32, 64]))
        pieces += [
            1 + 0.2 * rng.standard_normal(n), 0.3 * rng.standard_normal(n),
            0.5 * rng.standard_normal(n), np.exp(rng.standard_normal(n)),
        ]  # fmt: skip
    data = np.concatenate(pieces).astype(np.float32)
    part = Part(2, tuple((len(p),) for p in pieces), data.view(np.uint8))
    assert check(part) * 8 <= 27.5 * data.size


@pytest.mark.parametrize("dtype", [2, 4, 23, 17])
def test_threads_and_instruction_sets_change_nothing(dtype):
    parts = [
        part_of(dtype, (700, 450), numbers(dtype, 315_000, kind, 10).tobytes())
        for kind in ("weights", "sparse", "few")
    ]
    expected = encode(parts)
    assert encode(parts, threads=2) == expected
    best = _core.isa()
    for isa in _core.supported_isas():
        _core.force_isa(isa)
        assert encode(parts) == expected
        for part, record in zip(parts, expected, strict=True):
            assert np.array_equal(decode(part, record, threads=2), part.data)
    _core.force_isa(best)


@pytest.mark.parametrize(
    ("dtype", "kind", "n"),
    [(2, "weights", 500), (2, "sparse", 3000), (4, "weights", 20_000), (1, "special", 800), (17, "counting", 300),
     (17, "few", 20_000), (5, "weights", 20_000), (32, "constant", 50)],
)  # fmt: skip
def test_damage_is_refused_or_gives_some_values(dtype, kind, n):
    """Checksums are made right again here, so that the parser alone stands guard."""
    part = part_of(dtype, (n // 50, 50), numbers(dtype, n, kind, 11).tobytes())
    [(chunk_elements, model, chunks)] = encode([part])
    dice = random.Random(zlib.crc32(f"{dtype}{kind}".encode()))
    for _ in range(300):
        damaged_model, damaged = bytearray(model), bytearray(chunks[0])
        target = damaged_model if damaged_model and dice.random() < 0.4 else damaged
        for _ in range(dice.randint(1, 3)):
            action, at = dice.randint(0, 3), dice.randrange(len(target) + 1)
            if action == 0:
                del target[at:]
            elif action == 1:
                target.insert(at, dice.randrange(256))
            elif at < len(target):
                target[at] ^= 1 << dice.randrange(8)
        try:
            out = decode(part, (chunk_elements, bytes(damaged_model), [bytes(damaged)]))
        except DecodeError:
            continue
        assert out.size == part.data.size


@pytest.mark.parametrize("payload", [b"", b"\x09", b"\x00", b"\x01", b"\x02", b"\x03"])
def test_bad_chunks_are_refused(payload):
    with pytest.raises(DecodeError):
        decode(part_of(2, (3,), bytes(12)), (64, b"", [payload]))


def test_rows_are_what_has_a_scale_of_its_own():
    assert columns_of([(100, 384)]) == 384
    assert columns_of([(64, 16, 3, 3)]) == 144
    assert columns_of([(64, 1, 3, 3)]) == 72
    assert columns_of([(10, 512, 7, 7)]) == 512 * 49 or columns_of([(10, 512, 7, 7)]) == 49 * 2
    assert columns_of([(1000,)]) == 64
    assert columns_of([()]) == 64
    assert columns_of([(5, 0)]) >= 1


def test_real_networks_come_back():
    from bench.datasets import networks, read_safetensors

    files, reason = networks()
    if not files:
        pytest.skip(reason or "no networks")
    codes = {"float32": 2, "float16": 3, "bfloat16": 4, "int64": 16}
    for path in list(files.values()):
        tensors = read_safetensors(Path(path))
        parts = [
            part_of(codes[str(t.dtype)], t.shape, np.ascontiguousarray(t).tobytes()) for t in tensors.values()
        ]
        for part, record in zip(parts, encode(parts, threads=0), strict=True):
            assert np.array_equal(decode(part, record, threads=0), part.data)


def test_empty_plane_that_claims_to_be_coded():
    """A sparse chunk of zeros has planes of no bytes; coded ones are legal, if odd, and decode to nothing."""
    table = _core.rans_write_tables([[4096]], 12)
    coded = b"\x02\x00" + table + b"\x04" + (1 << 16).to_bytes(4, "little")
    model = (
        b"\x01\x03\x04\x00\x00\x01\x00\x00\x01\x00\x00"  # floats, escaped and sparse, one layout, one class
    )
    chunk = b"\x03\x00\x00" + 3 * coded + b"\x01\x00"
    part = part_of(2, (4,), bytes(16))
    assert not decode(part, (4, model, [chunk])).any()
    odd = coded[:-5] + b"\x06" + coded[-4:] + b"\0\0"
    with pytest.raises(DecodeError, match="goes on"):
        decode(part, (4, model, [b"\x03\x00\x00" + 3 * odd + b"\x01\x00"]))


def _scaled_columns(rows=64, columns=96, seed=1):
    rng = np.random.default_rng(seed)
    scales = 2.0 ** rng.integers(0, 8, columns)
    return (rng.standard_normal((rows, columns)) * scales).astype(np.float32)


def test_columns_of_different_scale_get_classes():
    weights = _scaled_columns()
    part = part_of(2, weights.shape, weights.tobytes())
    [record] = Lossless().encode([part], None, 1)
    assert record.version == 2
    made = (record.chunk_elements, record.model, list(record.chunks))
    assert np.array_equal(decode(part, made), part.data)
    mixed = np.random.default_rng(2).permuted(weights, axis=1)  # the same numbers, and no scale to find
    [plain] = Lossless().encode([part_of(2, mixed.shape, mixed.tobytes())], None, 1)
    assert plain.version == 1
    other = (plain.chunk_elements, plain.model, list(plain.chunks))
    assert size_of(made) < 0.98 * size_of(other)


def _columns_model(count=2, columns=bytes([0, 1] * 8), table=0):
    tables = _core.rans_write_tables([[1, 4095], [2048, 2048]], 12)
    floats = b"\x01\x0c\x10\x00\x01\x00\x00"  # tables and column classes, 16 columns, one layout
    return floats + tables + bytes([1, 0, table, count]) + b"\x00" + columns


def test_column_classes_need_version_2_whole_rows_and_tables():
    Lossless.decoder(2, 2, ((32,),), 64, _columns_model())
    Lossless.decoder(2, 2, ((32,),), 64, _columns_model(columns=bytes([1] * 16)))
    for cause, version, n, model in [
        ("flags", 1, 32, _columns_model()),
        ("number of column classes", 2, 32, _columns_model(1)),
        ("number of column classes", 2, 32, _columns_model(65)),
        ("table of a column class", 2, 32, _columns_model(3)),
        ("table of a column class", 2, 32, _columns_model(table=1)),
        ("class of a column", 2, 32, _columns_model(columns=bytes([2] * 16))),
        ("whole rows", 2, 33, _columns_model()),
        ("whole rows", 2, 15, _columns_model()),
        ("whole rows", 2, 0, _columns_model()),
        ("need tables", 2, 32, b"\x01\x08\x10\x00\x01\x00\x00\x01\x00\x00\x02\x00" + bytes(16)),
    ]:
        with pytest.raises(DecodeError, match=cause):
            Lossless.decoder(version, 2, ((n,),), 64, model)


def test_symbols_that_were_not_counted():
    """Rows of long tensors are counted in part; a chunk with a symbol that no table has does without tables."""
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((1024, 256)).astype(ml_dtypes.bfloat16)
    weights[:, 0] = 0
    weights[-1, 1] = 2.0**-80
    part = part_of(4, weights.shape, weights.tobytes())
    [(chunk_elements, model, chunks)] = encode([part])
    assert [chunk[0] for chunk in chunks] == [3]
    assert np.array_equal(decode(part, (chunk_elements, model, chunks)), part.data)
    weights[-1, 1] = 1
    [(_, _, chunks)] = encode([part_of(4, weights.shape, weights.tobytes())])
    assert [chunk[0] for chunk in chunks] == [2]


def test_a_bad_model_of_a_long_record_is_reported_by_its_chunks():
    """Decoders of long records are built where their first chunk is decoded."""
    weights = np.random.default_rng(4).standard_normal(1 << 17).astype(np.float32)
    part = part_of(2, weights.shape, weights.tobytes())
    [(chunk_elements, model, chunks)] = encode([part])
    with pytest.raises(DecodeError, match="kind of a lossless model"):
        decode(part, (chunk_elements, b"\xff" + model[1:], chunks))


def test_long_float16_tensors_have_few_enough_symbols_for_registers():
    """Two bits of the mantissa for weights of one scale; none where exponents alone are many."""
    rng = np.random.default_rng(5)
    weights = (0.05 * rng.standard_normal((512, 512))).astype(np.float16)
    wide = np.exp2(rng.uniform(-14, 15, (512, 512))).astype(np.float16)
    for array, most in ((weights, 2), (wide, 1)):
        (part,) = _core.lossless_encode([(3, 512, array.reshape(-1).view(np.uint8))])
        kind, _, low, high, bits = part.model[:5]
        assert (kind, low, high) == (1, 0x80, 4)  # floats, 512 columns
        assert bits <= most
        assert (array is wide) or bits == most
        check(part_of(3, array.shape, array.tobytes()))


def test_threads_share_an_encoding():
    """Each takes other chunks of one part, and waits for the same batch; nothing else is promised."""
    weights = np.random.default_rng(6).standard_normal(3 << 18).astype(np.float32)
    (alone,) = _core.lossless_encode([(2, 256, weights)])
    (shared,) = _core.lossless_encode([(2, 256, weights)])
    want = [bytes(chunk) for chunk in alone.encode(0, alone.n_chunks)]
    with ThreadPoolExecutor(4) as callers:
        chunks = list(callers.map(lambda i: bytes(shared.encode(i, i + 1)[0]), range(shared.n_chunks)))
    assert chunks == want
    out = np.zeros_like(weights)
    step = shared.chunk_elements
    decoder = _core.lossless_decoder(shared.version, 2, len(weights), step, shared.model)
    batch = _core.ChunkBatch(
        [
            (decoder, i, chunk, 0, _core.crc32c(chunk), out[i * step : (i + 1) * step])
            for i, chunk in enumerate(chunks)
        ],
        2,
    )
    with ThreadPoolExecutor(4) as callers:
        assert list(callers.map(lambda _: batch.wait(), range(4))) == [None] * 4
    assert np.array_equal(out, weights)
