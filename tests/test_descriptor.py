"""Descriptors that the engine reads are those that Python reads; what is odd, it leaves to Python."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncodec import _core
from nncodec.container import table
from nncodec.container.descriptor import Descriptor, TensorEntry
from nncodec.container.fields import FieldWriter
from nncodec.container.walk import Memory, framed, read_record
from nncodec.dtypes import BY_CODE
from nncodec.errors import DecodeError

ENTRIES = st.builds(
    TensorEntry,
    st.text(max_size=12),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 1),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
)
DESCRIPTORS = st.builds(
    Descriptor,
    st.integers(0, 300),
    st.integers(0, 300),
    st.sampled_from(sorted(BY_CODE)),
    st.lists(ENTRIES, min_size=1, max_size=1).map(tuple),
    st.integers(1, 1 << 20),
    st.binary(max_size=9),
)


def record(body: bytes, crc: int | None = None) -> bytes:
    """A record without chunks."""
    out = FieldWriter()
    out.data += b"T"
    out.varint(len(body))
    if crc is None:
        crc = _core.crc32c(body, _core.crc32c(out.data))
    out.data += body
    out.u32(crc)
    return bytes(out.data)


def by_python(data: bytes) -> tuple[int, Descriptor, int]:
    source = Memory(memoryview(data), 1)
    body, place, crc = framed(source, b"T", "a tensor's descriptor")
    return len(body), Descriptor.read(body, place), crc


def by_engine(data: bytes) -> tuple[int, Descriptor, int] | None:
    source = Memory(memoryview(data), 1)
    found = source.record()
    assert source.position == (1 if found is None else len(data))
    return found


@given(DESCRIPTORS)
def test_the_engine_reads_what_is_written(descriptor):
    data = record(descriptor.write())
    assert by_engine(data) == by_python(data)
    assert by_engine(data)[1] == descriptor


@given(DESCRIPTORS, st.data())
def test_what_the_engine_takes_python_takes_alike(descriptor, data):
    body = bytearray(descriptor.write())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    blob = record(bytes(body[: data.draw(st.integers(0, len(body)))]))
    found = by_engine(blob)
    try:
        want = by_python(blob)
    except DecodeError:
        assert found is None
    else:
        assert found in (None, want)  # packed tensors are Python's alone


@pytest.mark.parametrize(
    ("shape", "dtype", "taken"),
    [
        (((1 << 60) - 1,), 1, True),
        ((1 << 60,), 1, False),
        ((1 << 62, 0, 2), 23, False),
        ((1 << 31, 1 << 31), 23, True),
        ((1 << 31, 1 << 32), 23, False),
        ((1 << 63,), 23, False),
        ((0, (1 << 60) - 1), 1, True),
        ((1,) * 64, 1, True),
        ((1,) * 65, 1, False),
    ],
)
def test_limits_of_shapes(shape, dtype, taken):
    data = record(Descriptor(1, 1, dtype, (TensorEntry("w", 0, 0, shape),), 7, b"").write())
    assert (by_engine(data) is not None) is taken
    if not taken:
        with pytest.raises(DecodeError):
            by_python(data)


def plain(tensors: list[TensorEntry]) -> bytes:
    """A record whose tensors are not packed, whatever they are."""
    body = FieldWriter()
    for value in (1, 1, 23, len(tensors)):
        body.varint(value)
    table.write(body, tensors)
    body.varint(7)
    body.block(b"")
    return record(bytes(body.data))


@given(st.lists(ENTRIES, min_size=1, max_size=4))
def test_several_tensors(tensors):
    data = plain(tensors)
    assert by_engine(data) == by_python(data)


def test_together_tensors_stay_below_the_limit():
    tensors = [TensorEntry(f"w{i}", i, 0, (1 << 61,)) for i in range(4)]
    assert by_engine(plain(tensors[:3])) == by_python(plain(tensors[:3]))
    assert by_engine(plain(tensors)) is None
    with pytest.raises(DecodeError, match="2\\^63"):
        by_python(plain(tensors))


def test_names_that_are_not_utf8_are_left_to_python():
    good = plain([TensorEntry("wx", 0, 0, ())])
    body = bytearray(good[2:-4])
    body[body.index(b"wx")] = 0xFF
    data = record(bytes(body))
    assert by_engine(good) is not None
    assert by_engine(data) is None
    with pytest.raises(DecodeError, match="UTF-8"):
        by_python(data)


def test_a_wrong_checksum_and_a_cut_record_are_left_to_python():
    body = Descriptor(1, 1, 23, (TensorEntry("w", 0, 0, (3,)),), 7, b"m").write()
    whole = record(body)
    assert by_engine(whole) is not None
    for data in [record(body, 5), *(whole[:end] for end in range(1, len(whole)))]:
        assert by_engine(data) is None
        with pytest.raises(DecodeError):
            read_record(Memory(memoryview(data), 1))
