"""Packed lists of tensors: what is packed comes back, and hostile bytes are refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncodec import DecodeError, NNCodecError, _core
from nncodec.container import table
from nncodec.container.descriptor import Descriptor
from nncodec.container.fields import FieldReader, FieldWriter
from nncodec.container.table import TensorEntry

SHAPES = st.lists(st.integers(0, 300), max_size=5).map(tuple)


@st.composite
def entries(draw: st.DrawFn) -> list[TensorEntry]:
    names = draw(st.lists(st.text(max_size=12), min_size=1, max_size=30, unique=True))
    ordinal, made = -1, []
    for name in names:
        ordinal += 1 + draw(st.integers(0, 3))
        made.append(TensorEntry(name, ordinal, draw(st.integers(0, 1)), draw(SHAPES)))
    return made


@settings(max_examples=60, deadline=None)
@given(entries(), st.integers(0, 10**6), st.integers(0, 255))
def test_round_trip_and_damage(tensors: list[TensorEntry], at: int, byte: int) -> None:
    packed = table.pack(tensors)
    assert packed is not None
    fields = FieldReader(packed, 0)
    assert table.unpack(fields, len(tensors), 2) == tensors
    fields.end("packed tensors")
    damaged = bytearray(packed)
    damaged[at % len(packed)] = byte
    with suppress(NNCodecError):
        table.unpack(FieldReader(bytes(damaged), 0), len(tensors), 2)


@settings(max_examples=150, deadline=None)
@given(entries(), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=2), st.booleans())
def test_engine_and_parser_agree(
    tensors: list[TensorEntry], damages: list[tuple[int, int]], cut: bool
) -> None:
    packed = FieldReader(table.pack(tensors) or b"", 0)
    raw = bytearray(packed.varint("size"))
    _core.adaptive_decode_bytes(packed.block("table"), raw)
    for at, byte in damages:
        raw[at % len(raw)] = byte
    if cut:
        del raw[-1]
    found = _core.unpack_tensors(raw, len(tensors), 4, len(table.ORIGINS))
    try:
        want = table.parse(FieldReader(bytes(raw), 0), len(tensors), 2)
    except NNCodecError:
        assert found is None
    else:
        assert found == want


def test_names_of_a_network_shrink() -> None:
    names = [f"layer{i}.{j}.bn{k}.{w}" for i in (1, 2, 3) for j in range(5) for k in (1, 2) for w in "wbmv"]
    tensors = [TensorEntry(name, 3 * i, 0, (16 << i % 2,)) for i, name in enumerate(names)]
    plain = FieldWriter()
    table.write(plain, tensors)
    packed = table.pack(tensors)
    assert packed is not None
    assert len(packed) < len(plain.data) / 4
    one = Descriptor(1, 1, 2, tuple(tensors), 1 << 18, b"model")
    assert Descriptor.read(one.write(), 0) == one
    assert len(one.write()) < len(packed) + 20


@pytest.mark.parametrize(
    "tensors",
    [
        [TensorEntry("a" * 300, 0, 0, ())],
        [TensorEntry("a", 300, 0, ())],
        [TensorEntry("a", 5, 0, ()), TensorEntry("b", 4, 0, ())],
        [TensorEntry(f"{i:x}".zfill(4)[::-1], i, 0, ()) for i in range(4000)],
    ],
    ids=["long name", "gap", "order", "many suffixes"],
)
def test_what_does_not_fit_is_written_out(tensors: list[TensorEntry]) -> None:
    assert table.pack(tensors) is None
    descriptor = Descriptor(0, 1, 2, tuple(tensors), 1 << 18, b"")
    assert Descriptor.read(descriptor.write(), 0) == descriptor


def _packed(raw: bytes) -> FieldReader:
    out = FieldWriter()
    out.varint(len(raw))
    out.block(_core.adaptive_encode_bytes(raw))
    return FieldReader(bytes(out.data), 0)


def test_hostile_tables() -> None:
    good = bytes([0, 0, 0, 0, 0]) + bytes([0, 1]) + b"x"  # one tensor "x" of no dimensions
    assert table.unpack(_packed(good), 1, 2) == [TensorEntry("x", 0, 0, ())]
    for at, byte, match in (
        (0, 1, "refers to what is not there"),
        (1, 1, "refers to what is not there"),
        (3, 2, "origin is 2"),
        (4, 65, "number of dimensions is 65"),
        (7, 0xFF, "not UTF-8"),
    ):
        bad = bytearray(good)
        bad[at] = byte
        with pytest.raises(DecodeError, match=match):
            table.unpack(_packed(bytes(bad)), 1, 2)
    with pytest.raises(DecodeError, match="too many"):
        table.unpack(_packed(good + b"y"), 1, 2)
    long = FieldWriter()
    long.varint((1 << 20) + 1)
    with pytest.raises(DecodeError, match="above"):
        table.unpack(FieldReader(bytes(long.data), 0), 1, 2)
