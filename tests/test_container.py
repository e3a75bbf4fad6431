"""The bytes are those of docs/format.md, section by section."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nncodec
from bitstreams import bitstream, descriptor, record
from nncodec import _core
from nncodec.codecs import CODECS
from nncodec.container.descriptor import Descriptor, TensorEntry
from nncodec.container.fields import FieldReader, FieldWriter, shared_prefix, varint_size
from nncodec.container.sections import Alias, IndexEntry, read_aliases, read_index, write_aliases, write_index
from nncodec.container.walk import Memory, Record, Section, chunk_seed, walk
from nncodec.dtypes import BY_CODE
from nncodec.errors import DecodeError

FORMAT = Path(__file__).parent.parent / "docs" / "format.md"


def worked_example() -> list[tuple[int, bytes]]:
    """Rows of the table in docs/format.md: offset, bytes."""
    text = FORMAT.read_text(encoding="utf-8").split("<!-- worked example")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| `([0-9a-f ]+)` \|", text, re.MULTILINE)
    return [(int(offset), bytes.fromhex(digits)) for offset, digits in rows]


def test_the_worked_example_is_what_the_encoder_writes():
    w = np.array([[1.0], [-2.0]], np.float32)
    blob = nncodec.encode({"w": w, "v": w[1]}, "stored", metadata={"a": "b"})
    rows = worked_example()
    assert len(rows) > 30
    place = 0
    for offset, piece in rows:
        assert offset == place
        assert blob[offset : offset + len(piece)] == piece, f"byte {offset}"
        place += len(piece)
    assert place == len(blob)
    out = nncodec.decode(b"".join(piece for _, piece in rows))
    assert out["v"].tolist() == [-2.0]


def test_the_tables_of_the_format_are_those_of_the_code():
    text = FORMAT.read_text(encoding="utf-8")
    for row in BY_CODE.values():
        assert re.search(rf"\| {row.code} \| {row.name}\b.* \| {row.size} \|", text), row
    for codec in CODECS.values():
        assert re.search(rf"\| {codec.id} \| `{codec.name}` \| {codec.version} \|", text), codec


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=20), st.binary(max_size=12), st.integers(0, 20))
def test_integers_in_a_row_are_those_one_by_one(values, tail, most):
    out = FieldWriter()
    for value in values:
        out.varint(value)
    data = b"xy" + bytes(out.data)
    assert _core.read_varints(data, 2, len(values), (1 << 64) - 1) == (values, len(data))
    one_by_one = FieldReader(data + tail, 0)
    in_a_row = FieldReader(data + tail, 0)
    one_by_one.at = in_a_row.at = 2
    results = []
    for read in (
        lambda: [one_by_one.varint("size", most) for _ in range(len(values) + 2)],
        lambda: in_a_row.varints(len(values) + 2, "size", most),
    ):
        try:
            results.append(read())
        except DecodeError as error:
            results.append(str(error))
    assert results[0] == results[1]
    assert one_by_one.at == in_a_row.at


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(0, (1 << 32) - 1), st.data())
def test_chunks_that_are_skipped_lie_where_they_are_read(payloads, record_crc, data):
    sink = _core.Sink()
    sink.write(b"head")
    sink.write_pieces([(payload, record_crc, n) for n, payload in enumerate(payloads)])
    blob = sink.take()
    lengths, end = _core.skip_blocks(blob, 4, len(payloads))
    assert lengths == [len(payload) for payload in payloads]
    assert end == len(blob)
    at = 4
    for number, payload in enumerate(payloads):
        start, stop, seed, crc = _core.read_block(blob, at, record_crc, number)
        assert blob[start:stop] == payload
        assert seed == chunk_seed(record_crc, number, len(payload))
        assert crc == _core.crc32c(payload, seed)
        at = stop + 4
    if payloads:  # cut anywhere, nothing is found beyond the cut
        cut = data.draw(st.integers(0, len(blob) - 1))
        assert _core.skip_blocks(blob[:cut], 4, len(payloads)) is None
        _, first_end, _, _ = _core.read_block(blob, 4, 0, 0)
        assert (_core.read_block(blob[:cut], 4, 0, 0) is None) == (cut < first_end + 4)
    assert _core.read_block(b"\x80\x00abcdefgh", 0, 0, 0) is None  # a length with a byte too many


@given(st.integers(0, (1 << 64) - 1))
def test_varints(value):
    out = FieldWriter()
    out.varint(value)
    assert len(out.data) == varint_size(value) <= 10
    fields = FieldReader(bytes(out.data), 0)
    assert fields.varint("v") == value
    fields.end("v")


@pytest.mark.parametrize(
    "raw", [b"", b"\x80", b"\x80\x00", b"\xff" * 9 + b"\x02", b"\xff" * 10 + b"\x01"], ids=bytes.hex
)
def test_bad_varints(raw):
    with pytest.raises(DecodeError):
        FieldReader(raw, 0).varint("v")


@given(st.binary(max_size=30), st.binary(max_size=10), st.binary(max_size=10))
def test_shared_prefix(start, a, b):
    same = shared_prefix(start + a, start + b)
    assert same >= len(start)
    assert (start + a)[:same] == (start + b)[:same]
    assert same == min(len(start + a), len(start + b)) or (start + a)[same] != (start + b)[same]


shapes = st.lists(st.integers(0, 1 << 12), max_size=4).map(tuple)
entries = st.builds(
    TensorEntry, st.text(max_size=12), st.integers(0, (1 << 64) - 1), st.integers(0, 1), shapes
)


@given(
    st.builds(
        Descriptor,
        st.integers(0, (1 << 64) - 1),
        st.integers(0, 300),
        st.sampled_from(sorted(BY_CODE)),
        st.lists(entries, min_size=1, max_size=5).map(tuple),
        st.integers(1, 1 << 20),
        st.binary(max_size=30),
    )
)
def test_descriptors_come_back(head):
    assert Descriptor.read(head.write(), 0) == head


@given(
    st.lists(
        st.builds(Alias, st.text(max_size=8), st.integers(0, 99), st.integers(0, 1), st.text(max_size=8)),
        max_size=4,
    )
)
def test_aliases_come_back(aliases):
    views = [
        Alias("v", 3, 1, "t", 5, (2, 0, 3), (1, 0, 7)) if i % 2 else alias for i, alias in enumerate(aliases)
    ]
    views = [
        view if 0 not in (view.shape or ()) else Alias("v", 3, 1, "t", 0, (2, 0), (1, 4)) for view in views
    ]
    assert read_aliases(write_aliases(views), 0) == views


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.lists(st.integers(0, 1 << 30), max_size=4), entries), max_size=5
    )
)
def test_indices_come_back(rows):
    place = 16
    index = []
    for gap, lengths, tensor in rows:
        anonymous = TensorEntry(tensor.name, tensor.ordinal, 0, tensor.shape)
        index.append(IndexEntry(place + gap, 40, tuple(lengths), 2, 1, (anonymous,)))
        place = index[-1].end
    assert read_index(write_index(index), 0, place) == index


def test_small_lossless_tensors_share_records_and_large_ones_do_not():
    state = {f"bias{i}": np.full(100, i, np.float32) for i in range(50)}
    state |= {"big": np.ones((100, 100), np.float32)}
    state |= {f"count{i}": np.array(i) for i in range(50)}
    items = list(walk(Memory(memoryview(nncodec.encode(state, "stored")))))
    records = [item.descriptor for item in items if isinstance(item, Record)]
    assert sorted(len(head.tensors) for head in records) == [1, 50, 50]
    assert nncodec.decode(nncodec.encode(state, "stored"))["bias7"].tolist() == [7.0] * 100


@pytest.mark.parametrize("elements", [262_000, 263_000])
def test_only_files_from_a_mebibyte_on_have_an_index(elements):
    blob = nncodec.encode({"a": np.ones(elements, np.float32)}, "stored")
    kinds = [item.kind for item in walk(Memory(memoryview(blob))) if isinstance(item, Section)]
    assert kinds == (["I"] if len(blob) > 1 << 20 else [])
    assert (len(blob) > 1 << 20) == (elements == 263_000)


def test_an_optional_section_between_records_is_skipped_by_every_reader(tmp_path):
    from nncodec.container.sections import frame

    first, second = descriptor(), descriptor("u", ordinal=1)
    gap = frame(b"x", b"something new")
    start = 16
    lengths = [len(record(first)), len(gap)]
    index = [
        IndexEntry(start, len(first.write()), (4,), 23, 0, first.tensors),
        IndexEntry(start + sum(lengths), len(second.write()), (4,), 23, 0, second.tensors),
    ]
    blob = bitstream(record(first), gap, record(second), tensors=2, index=frame(b"I", write_index(index)))
    assert list(nncodec.decode(blob)) == ["t", "u"]
    assert [name for name, _ in nncodec.iter_file(io.BytesIO(blob))] == ["t", "u"]
    path = tmp_path / "x.nncz"
    path.write_bytes(blob)
    with nncodec.open(path) as file:
        assert file["u"].tolist() == [1, 2, 3, 4]


def test_the_bytes_are_a_function_of_the_input():
    def build(seed: int) -> bytes:
        state = {"s": {"b", "a", "c"}, "t": torch.arange(5), "n": np.arange(24.0).reshape(4, 6)[:, ::2]}
        return nncodec.encode(state, "lossless")

    assert len({build(seed) for seed in range(5)}) == 1


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=9), st.integers(1, 3), st.integers(0, 2**32 - 1)
)
def test_chunks_in_their_frames(payloads, threads, crc):
    sink = _core.Sink()
    first = 5
    sink.write(b"head")
    pieces: list[object] = [b"neck"]
    for number, payload in enumerate(payloads):
        pieces += [(payload, crc, first + number), payload]
    want = FieldWriter()
    want.data += b"neck"
    for number, payload in enumerate(payloads):
        want.block(payload)
        want.u32(_core.crc32c(payload, chunk_seed(crc, first + number, len(payload))))
        want.data += payload
    assert sink.write_pieces(pieces, threads) == len(want.data)
    assert sink.size == 4 + len(want.data)
    assert sink.take() == b"head" + want.data
    assert sink.size == 0


def test_a_sink_writes_while_the_caller_goes_on():
    blocks = [np.random.default_rng(n).bytes(1 << 20) for n in range(6)]
    sink = _core.Sink()
    sink.write_pieces(blocks[:3], 2)
    sink.write_pieces(blocks[3:], 2)
    changed = np.full(1 << 20, 7, np.uint8)
    sink.write_pieces([changed], 2)
    sink.finish()
    changed[:] = 8  # nobody looks at it any more
    sink.write(b"end")
    assert sink.take() == b"".join(blocks) + b"\7" * (1 << 20) + b"end"
    for _ in range(20):
        left = _core.Sink(8 << 20)
        left.write_pieces(blocks, 2)
        del left  # waits


def test_a_sink_hands_on_what_a_file_takes():
    sink = _core.Sink(1 << 20)
    data = bytes(range(256)) * 9
    sink.write(data)
    got = bytearray()
    kept = []

    def write(view):
        kept.append(view)
        got.extend(view[:100])
        return len(view[:100])

    sink.flush(write)
    assert bytes(got) == data
    with pytest.raises(ValueError, match="released"):
        kept[0][0]
    sink.write(b"x")
    with pytest.raises(ZeroDivisionError):
        sink.flush(lambda view: 1 // 0)
    assert sink.take() == b"x"
