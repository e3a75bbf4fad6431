"""Codec `weightless`: weights come back exactly, false positives as many as there should be, none in exact mode."""

from __future__ import annotations

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
from nncodec.codecs import Weightless
from nncodec.container.catalogue import open_catalogue
from nncodec.container.fields import FieldReader, FieldWriter

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
MODES = [
    {},
    {"exact": True},
    {"structure": "bloomier"},
    {"structure": "bloomier", "packed": True},
    {"structure": "bloomier", "exact": True},
    {"structure": "bloomier", "exact": True, "packed": True},
]


def sparse(
    shape: tuple[int, ...], density: float, values: int, seed: int = 0, dtype: Any = np.float32
) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    flat = np.zeros(int(np.prod(shape)), dtype)
    keys = rng.choice(flat.size, round(density * flat.size), replace=False)
    levels = (np.arange(values) - values // 2 + 0.5) / 16  # exact in every type
    flat[keys] = levels[rng.integers(0, values, keys.size)].astype(dtype)
    return flat.reshape(shape)


def opened(blob: bytes) -> nncodec.File:
    """A blob as an open file."""
    data = memoryview(blob)
    return nncodec.File(data, open_catalogue(data))


def both(tensor: NDArray[Any], codec: Weightless) -> tuple[bytes, NDArray[Any]]:
    blob = nncodec.encode({"w": tensor}, {"w": codec})
    return blob, nncodec.decode(blob)["w"]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 12), min_size=0, max_size=4).map(tuple),
    density=st.floats(0, 1),
    values=st.integers(1, 30),
    dtype=st.sampled_from(DTYPES),
    mode=st.sampled_from(MODES),
    bits=st.one_of(st.none(), st.integers(5, 16)),
    seed=st.integers(0, 2**32 - 1),
)
def test_weights_come_back(
    shape: tuple[int, ...],
    density: float,
    values: int,
    dtype: Any,
    mode: dict[str, Any],
    bits: int | None,
    seed: int,
) -> None:
    tensor = sparse(shape, density, values, seed, dtype)
    codec = Weightless(bits, clusters=32, seed=seed, **mode)
    blob, out = both(tensor, codec)
    assert out.dtype == tensor.dtype
    assert out.shape == tensor.shape
    weights = tensor != 0
    np.testing.assert_array_equal(out[weights], tensor[weights])
    if codec.exact:
        np.testing.assert_array_equal(out, tensor)
    else:  # what is wrong is wrong in the tensor's own values
        assert np.isin(out[~weights].astype(np.float64), [*np.unique(tensor.astype(np.float64)), 0.0]).all()
    with opened(blob) as file:
        np.testing.assert_array_equal(file.lookup("w")[...], out)


@pytest.mark.parametrize("structure", ["ribbon", "bloomier"])
def test_false_positives_are_as_many_as_there_should_be(structure: Any) -> None:
    tensor = sparse((600, 700), 0.02, 5)
    for bits in (5, 8, 10):
        _, out = both(tensor, Weightless(bits, structure))
        n, p = int((tensor == 0).sum()), 5 / 2**bits
        assert abs(int((out[tensor == 0] != 0).sum()) - n * p) < 3.5 * np.sqrt(n * p)


def test_size_is_what_the_cells_take() -> None:
    tensor = sparse((1000, 1000), 0.03, 4)
    weights = int((tensor != 0).sum())
    ribbon = len(both(tensor, Weightless(8))[0])
    paper = len(both(tensor, Weightless(8, "bloomier"))[0])
    packed = len(both(tensor, Weightless(8, "bloomier", packed=True))[0])
    exact = len(both(tensor, Weightless(exact=True, clusters=4))[0])
    assert weights < ribbon < 1.006 * weights + 200
    assert 1.22 * weights < paper < 1.25 * weights + 200
    assert packed < 1.12 * weights + 200
    # papers: 5 filter bits, a flag for a weight and one for each zero that passes, 2 bits of value
    assert exact < 1.02 * weights * 9.1 / 8 + 200


def test_many_chunks_and_an_uneven_one() -> None:
    """A dense stretch in a sparse tensor makes shards smaller; chunks are independent of threads."""
    tensor = sparse((3 << 19,), 0.004, 9)
    tensor[700_000:730_000] = 0.25
    for mode in ({}, {"structure": "bloomier"}, {"exact": True}):
        codec = Weightless(9, **mode)  # type: ignore[arg-type]
        blobs = [nncodec.encode({"w": tensor}, {"w": codec}, threads=threads) for threads in (1, 2)]
        assert blobs[0] == blobs[1]
        out = nncodec.decode(blobs[0])["w"]
        assert ((out == tensor) | (tensor == 0)).all()
        with opened(blobs[0]) as file:
            table = file.lookup("w")
            places = np.random.default_rng(1).integers(0, tensor.size, 5000)
            np.testing.assert_array_equal(table[places], out[places])
            np.testing.assert_array_equal(table[1_048_570:1_048_590], out[1_048_570:1_048_590])


def test_a_lookup_is_indexed_as_an_array(tmp_path: Path) -> None:
    tensor = sparse((12, 20, 9), 0.3, 7)
    out = both(tensor, Weightless(6))[1]
    nncodec.save_file({"w": tensor, "b": np.ones(3)}, tmp_path / "x.nncz", {"w": Weightless(6)})
    with nncodec.open(tmp_path / "x.nncz") as file:
        table = file.lookup("w")
        assert table.shape == (12, 20, 9)
        assert table.dtype == np.float32
        assert len(table) == 12
        mask = tensor > 0
        rows = np.array([[0, 3], [11, 5]])
        for index in [0, -1, (3, 4, 5), slice(2, 7), (..., 2), (rows, 1), (rows, rows, 0), mask, (slice(None), [1, 1]),
                      (slice(8, 2, -2), None, 3), np.array([], int)]:  # fmt: skip
            expected = out[index]
            np.testing.assert_array_equal(table[index], expected)
            assert table[index].shape == np.shape(expected)
        for index in (12, (0, 20), (0, 0, 0, 0)):
            with pytest.raises(IndexError):
                table[index]
        with pytest.raises(ValueError, match="'b' cannot be looked up"):
            file.lookup("b")
        with pytest.raises(KeyError):
            file.lookup("c")
    with pytest.raises(ValueError, match="closed"):
        table[0]


def test_a_lookup_checks_the_chunk(tmp_path: Path) -> None:
    blob = bytearray(both(sparse((100, 100), 0.1, 4), Weightless(8))[0])
    blob[-60] ^= 1
    (tmp_path / "x.nncz").write_bytes(blob)
    with nncodec.open(tmp_path / "x.nncz") as file, pytest.raises(DecodeError, match="checksum"):
        file.lookup("w")[3, 3]


def test_many_values_are_clustered() -> None:
    rng = np.random.default_rng(2)
    tensor = rng.normal(size=(200, 100)).astype(np.float32)
    tensor[np.abs(tensor) < 1.5] = 0
    out = both(tensor, Weightless(exact=True, clusters=8))[1]
    assert np.unique(out[out != 0]).size == 8
    assert ((out == 0) == (tensor == 0)).all()
    error = ((out - tensor) ** 2).sum() / (tensor**2).sum()
    assert error < 0.01
    few = both(tensor, Weightless(cell_bits=2, clusters=16))[1]
    assert np.unique(few[few != 0]).size == 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_cluster_is_lost_at_zero(dtype: Any) -> None:
    """Centroids are 0, or round to it; what is stored lies among the weights."""
    tensor = np.tile(np.array([0.125, -0.125, 0, 0.25, -0.25], dtype), 20)
    out = both(tensor, Weightless(exact=True, clusters=1))[1]
    assert np.unique(np.abs(out[out != 0].astype(np.float64))).tolist() == [0.125]
    tensor = np.concatenate(
        [np.tile(np.array([0.125, -0.125], dtype), 50), np.array([8, -8, 8, -8, 16, -16], dtype)]
    )
    out = both(tensor, Weightless(exact=True, clusters=3))[1]
    np.testing.assert_array_equal(np.abs(out[:100]).astype(np.float64), 0.125)


def test_extreme_numbers_are_clustered() -> None:
    tensor = np.random.default_rng(3).normal(size=3000)
    outs = [both(np.ldexp(tensor, e), Weightless(exact=True, clusters=5))[1] for e in (0, 700, -700)]
    assert np.unique(outs[0]).size == 5
    for out, e in zip(outs[1:], (700, -700), strict=True):
        np.testing.assert_array_equal(out, np.ldexp(outs[0], e))


def _heads(payload: bytes, exact: bool) -> list[tuple[int, ...]]:
    """Cells of the tables of each shard."""
    fields = FieldReader(payload, 0)
    heads = []
    for _ in range(fields.varint("shards")):
        cells: tuple[int, ...] = ()
        for _table in range(2 if exact else 1):
            cells += (fields.varint("cells"),)
            if cells[-1] == 0:
                break
            fields.varint("seed")
        heads.append(cells)
    return heads


def test_no_encoder_needs_more_cells_than_decoders_take() -> None:
    # The engine's own count after each of its tries, for any number of keys of a shard.
    for keys in [*range(1, 3000), 4096, 6144, 1 << 16, 1 << 20]:
        ribbon = max(keys + 4 + 8 * (f // 4) + (f // 16) * (keys // 64) + 7 for f in (0, 15, 16, 1023)) // 8
        assert ribbon <= keys // 4 + 257 <= max(keys, 512)
        bloomier = max((keys * (123 + 2 * (f // 16)) + 299) // 300 for f in (0, 1023))
        assert bloomier <= keys


@pytest.mark.parametrize("words", [1, 2, 4])  # narrow windows need many tries, hence many slots
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("structure", ["ribbon", "bloomier"])
def test_cells_of_what_is_encoded(structure: str, exact: bool, words: int) -> None:
    several = 0
    for elements in [1, 2, 3, 5, 17, 255, 256, 300, 511, 512, 513, 700, 1023, 1025, 5000, 9001, 20_000]:
        for density in (0.02, 0.7, 1.0):
            if words == 1 and elements * density > 3000:
                continue
            tensor = sparse((elements,), density, 2, elements)
            model = _core.WeightlessModel(structure, 1, words, exact, False)
            values = np.unique(tensor[tensor != 0]) if tensor.any() else np.ones(1, np.float32)
            plan = _core.weightless_plan(2, tensor.view(np.uint8), values.view(np.uint8), model, 7, "w")
            try:
                (payload,) = _core.weightless_encode(plan, 0, 1)
            except ValueError:
                assert words < 4  # no seed gives a table
                continue
            heads = _heads(bytes(payload), exact)
            size = -(-elements // len(heads))
            several += len(heads) > 1
            for shard, cells in enumerate(heads):
                positions = min(max(elements - shard * size, 0), size)
                assert max(cells) <= (
                    positions if structure == "bloomier" else max(positions, 4096 if len(heads) == 1 else 512)
                )
            decoder = Weightless.decoder(1, 2, ((elements,),), plan.chunk_elements, plan.model)
            out = np.empty(elements, np.float32)
            decoder.look_up(
                [0], [payload], [0, elements], np.arange(elements, dtype=np.uint32), out.view(np.uint8)
            )
            np.testing.assert_array_equal(out[tensor != 0], tensor[tensor != 0])
    assert several or structure == "bloomier" or words == 1


def _varint(value: int) -> bytes:
    out = FieldWriter()
    out.varint(value)
    return bytes(out.data)


@pytest.mark.parametrize("shards", [1, 2, 2048])
def test_tables_are_no_larger_than_positions_ask_for(shards: int) -> None:
    """Packed tables of nothing take a few bytes, and expanded as many as their cells say."""
    elements = 1 << 19
    codec = Weightless(16, "bloomier", exact=True, packed=True)
    decoder = Weightless.decoder(
        1, 2, ((elements,),), 1 << 20, codec.encode([_part(sparse((9,), 0.5, 2))], None, 1)[0].model
    )
    most = max(elements // shards, 512)
    for cells in (most, most + 1):
        streams = b""
        for bits in (16, 1):
            table = _core.bloomier_shrink(bytes((3 * cells * bits + 7) // 8), cells, bits)
            streams += _varint(len(table)) + table
        payload = _varint(shards) + 2 * shards * (_varint(cells) + b"\0") + shards * streams
        assert len(payload) < elements // 16
        out = np.empty(1, np.float32)
        look_up = ([0], [payload], [0, 1], np.zeros(1, np.uint32), out.view(np.uint8))
        if cells == most:
            decoder.look_up(*look_up)
        else:
            with pytest.raises(DecodeError, match="cells"):
                decoder.look_up(*look_up)


def test_what_was_encoded_before_is_stored_as_it_is() -> None:
    tensor = sparse((300, 400), 0.02, 6)
    part = _part(tensor)
    made = Weightless(7).encode([part], None, 1)[0]
    encoded = (made.model, *(bytes(chunk) for chunk in made.chunks))
    out = both(tensor, Weightless(7))[1]  # with false positives
    blob, again = both(out, Weightless(7, encoded=encoded))
    np.testing.assert_array_equal(again, out)
    assert len(blob) < 1.05 * both(tensor, Weightless(7))[0].__len__()
    with pytest.raises(ValueError, match="not the tensor"):
        both(tensor, Weightless(7, encoded=encoded))
    with pytest.raises(ValueError, match="not the tensor"):
        both(out, Weightless(7, encoded=(made.model, b"\0")))


def _part(tensor: NDArray[Any]) -> Any:
    from nncodec.codecs.base import Part

    return Part(2, (tensor.shape,), tensor.reshape(-1).view(np.uint8), ("w",))


def test_takes_no_budget_and_leaves_others_alone() -> None:
    tensors = {"w": sparse((40, 50), 0.1, 3), "bias": np.ones(5, np.float32), "n": np.arange(6).reshape(2, 3)}
    blob = nncodec.encode(tensors, "weightless")
    with opened(blob) as file:
        assert [file.info(name).codec for name in tensors] == ["weightless", "lossless", "lossless"]
        assert file.info("w").options == {
            "structure": "ribbon", "cell_bits": 5, "exact": False, "packed": False, "values": 3,
        }  # fmt: skip
    with pytest.raises(ValueError, match="budget"):
        nncodec.encode(tensors, "weightless", snr_db=20)
    mixed = nncodec.encode(
        tensors | {"v": np.random.default_rng(1).normal(size=(9, 9))},
        {"w": Weightless(), "v": "uniform"},
        snr_db=20,
    )
    assert list(nncodec.decode(mixed)) == [*tensors, "v"]


def test_bad_numbers_and_options() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="'w' has NaN or infinite"):
            both(np.array([0, bad, 1], np.float32), Weightless())
        with pytest.raises(ValueError, match="'w' has NaN or infinite"):
            both(np.append(np.arange(100, dtype=np.float32), np.float32(bad)), Weightless())
    for wrong in ({"cell_bits": 0}, {"cell_bits": 17}, {"clusters": 0}, {"structure": "tree"}, {"packed": True},
                  {"seed": -1}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Weightless(**wrong)  # type: ignore[arg-type]


def test_bad_models_are_refused() -> None:
    made = Weightless(7).encode([_part(sparse((30, 30), 0.1, 4))], None, 1)[0]
    good = made.model
    Weightless.decoder(1, 2, ((30, 30),), 1 << 20, good)
    for bad in (b"", good[:-1], good + b"\0", b"\x08" + good[1:], b"\x05" + good[1:], b"\1\0" + good[2:],
                b"\1\x11" + good[2:], good[:2] + b"\x08" + good[3:], good[:3] + b"\0" + good[4:],
                good[:4] + b"\x05" + good[5:], good[:4] + b"\0" + good[5:]):  # fmt: skip
        with pytest.raises(DecodeError):
            Weightless.decoder(1, 2, ((30, 30),), 1 << 20, bad)
    with pytest.raises(DecodeError):
        Weightless.decoder(1, 2, ((30, 30),), 1 << 21, good)
    with pytest.raises(DecodeError):
        Weightless.decoder(1, 16, ((30, 30),), 1 << 20, good)


def test_the_same_on_every_instruction_set() -> None:
    before, blobs, outs = _core.isa(), set(), set()
    tensor = sparse((300, 400), 0.05, 9)
    for name in _core.supported_isas():
        _core.force_isa(name)
        blob, out = both(tensor, Weightless(7, exact=False))
        blobs.add(blob)
        outs.add(out.tobytes())
    _core.force_isa(before)
    assert len(blobs) == len(outs) == 1
