"""Damaged and hostile files: an error of ours, every time, and never other values in silence."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nncodec
from bitstreams import bitstream, descriptor, record
from nncodec._core import crc32c
from nncodec.codecs import CODECS
from nncodec.container.descriptor import TensorEntry
from nncodec.container.sections import (
    Alias,
    Footer,
    IndexEntry,
    frame,
    header,
    write_aliases,
    write_index,
    write_metadata,
)
from nncodec.errors import DecodeError, LimitError, NNCodecError, VersionError

LOSSLESS = sorted(name for name, codec in CODECS.items() if not codec.lossy)
LOSSY = sorted(name for name, codec in CODECS.items() if codec.lossy)


def checkpoint() -> dict:
    rng = np.random.default_rng(5)
    weight = torch.from_numpy(rng.normal(size=(6, 8)).astype(np.float32))
    return {
        "conv": {"weight": weight, "tied": weight[1:3], "half": weight.to(torch.bfloat16)},
        "steps": [np.arange(5), 3, "x"],
        "mask": np.array([True, False]),
    }


def blob_of(codec: str) -> bytes:
    budget = {"snr_db": 20.0} if CODECS[codec].budgeted else {}
    return nncodec.encode(checkpoint(), codec, metadata={"k": "v"}, **budget)


def with_index(codec: str) -> bytes:
    """The same with an index, which small files do not have by themselves."""
    from nncodec import encoding

    before = encoding.INDEX_FROM_BYTES
    encoding.INDEX_FROM_BYTES = 0
    try:
        return blob_of(codec)
    finally:
        encoding.INDEX_FROM_BYTES = before


@pytest.fixture(scope="module", params=[*LOSSLESS, *LOSSY])
def blob(request) -> bytes:
    return with_index(request.param)


def read_all(path) -> dict:
    """Every tensor, through random access."""
    with nncodec.open(path, framework="np") as file:
        return {name: file[name].tobytes() for name in file.keys()}  # noqa: SIM118


def test_every_cut(blob):
    nncodec.decode(blob)
    for length in range(len(blob)):
        with pytest.raises(DecodeError):
            nncodec.decode(blob[:length])
        with pytest.raises(DecodeError):
            nncodec.load_file(io.BytesIO(blob[:length]))


def test_every_flipped_bit(blob):
    damaged = bytearray(blob)
    for place in range(len(blob)):
        for bit in range(8):
            damaged[place] ^= 1 << bit
            with pytest.raises(NNCodecError):
                nncodec.decode(damaged)
            damaged[place] ^= 1 << bit


GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.nncz"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_cut_and_flipped(path):
    """Every bit and every length with NNCODEC_EXHAUSTIVE set; otherwise one bit in some bytes, and some lengths."""
    whole = path.read_bytes()
    every = bool(os.environ.get("NNCODEC_EXHAUSTIVE"))
    damaged = bytearray(whole)
    for place in range(0, len(whole), 1 if every else 37):
        with pytest.raises(NNCodecError):
            nncodec.decode(whole[:place], framework="np")
        for bit in range(8) if every else [place % 8]:
            damaged[place] ^= 1 << bit
            with pytest.raises(NNCodecError):
                nncodec.decode(damaged, framework="np")
            damaged[place] ^= 1 << bit


def test_every_flipped_byte_in_a_stream(blob):
    damaged = bytearray(blob)
    for place in range(len(blob)):
        damaged[place] ^= 0xFF
        with pytest.raises(NNCodecError):
            list(nncodec.iter_file(io.BytesIO(damaged)))
        damaged[place] ^= 0xFF


def test_random_access_to_a_damaged_file_never_gives_other_values(blob, tmp_path):
    path = tmp_path / "x.nncz"
    path.write_bytes(blob)
    right = read_all(path)
    for place in range(0, len(blob)):
        damaged = bytearray(blob)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert read_all(path) == right
        except NNCodecError:
            continue


def test_verify_finds_every_flipped_byte(blob, tmp_path):
    path = tmp_path / "x.nncz"
    path.write_bytes(blob)
    with nncodec.open(path) as file:
        file.verify()
    for place in range(0, len(blob)):
        damaged = bytearray(blob)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(NNCodecError), nncodec.open(path) as file:
            file.verify()


def test_a_truncated_file_gives_back_every_whole_tensor(blob):
    whole = nncodec.recover(io.BytesIO(blob), framework="np")
    assert whole.error is None
    assert whole.metadata == {"k": "v"}
    counts = []
    for length in range(len(blob)):
        found = nncodec.recover(io.BytesIO(blob[:length]), framework="np")
        assert isinstance(found.error, DecodeError)
        counts.append(len(found.tensors))
        for name, tensor in found.tensors.items():
            assert tensor.tobytes() == whole.tensors[name].tobytes()
    assert counts == sorted(counts)
    assert counts[-1] == len(whole.tensors)


def test_bytes_after_the_end(blob):
    with pytest.raises(DecodeError):
        nncodec.decode(blob + b"\0")
    with pytest.raises(DecodeError, match="after the footer"):
        nncodec.load_file(io.BytesIO(blob + b"\0"))


def test_errors_name_place_tensor_and_cause():
    weight = np.arange(100, dtype=np.float32).reshape(10, 10)
    blob = bytearray(nncodec.encode({"a": weight, "layer.weight": weight * 2000.0}, "stored"))
    place = blob.index(np.float32(2000 * 50).tobytes())
    blob[place] ^= 1
    with pytest.raises(DecodeError, match=r"'layer\.weight'|'a'") as caught:
        nncodec.decode(blob)
    assert caught.value.tensor is not None
    assert 16 < caught.value.offset < place
    assert "checksum" in caught.value.cause


def header_with(major: int, minor: int, flags: int = 0) -> bytes:
    start = struct.pack("<8sBBH", b"\x89NNC\r\n\x1a\n", major, minor, flags)
    return start + crc32c(start).to_bytes(4, "little")


def test_versions():
    good = bitstream(record(descriptor()))
    assert nncodec.decode(good)["t"].tolist() == [1, 2, 3, 4]
    newer_minor = header_with(1, 9) + good[16:]
    assert nncodec.decode(newer_minor)["t"].tolist() == [1, 2, 3, 4]
    with pytest.raises(VersionError, match=r"version 2\.0"):
        nncodec.decode(header_with(2, 0) + good[16:])
    with pytest.raises(DecodeError, match=r"version 0\.1"):
        nncodec.decode(header_with(0, 1) + good[16:])
    with pytest.raises(DecodeError, match="flags"):
        nncodec.decode(header_with(1, 0, 1) + good[16:])
    with pytest.raises(VersionError, match="payload version 9"):
        nncodec.decode(bitstream(record(descriptor(version=9))))


def test_not_a_bitstream(tmp_path):
    for data in (b"", b"PK\3\4" + bytes(60), bytes(100), b"\x89NNC\n\x1a\n" + bytes(60)):
        with pytest.raises(DecodeError):
            nncodec.decode(data)
        path = tmp_path / "x"
        path.write_bytes(data)
        with pytest.raises(DecodeError):
            nncodec.open(path)
        with pytest.raises(DecodeError):
            nncodec.load_file(path)
    with pytest.raises(DecodeError, match="line ends"):
        nncodec.decode(nncodec.encode({"a": np.ones(3)}, "stored").replace(b"\r\n", b"\n"))


def test_unknown_sections():
    good = bitstream(frame(b"q", b"anything"), record(descriptor()), frame(b"z", b""))
    assert nncodec.decode(good)["t"].tolist() == [1, 2, 3, 4]
    with pytest.raises(DecodeError, match="'Q' is unknown"):
        nncodec.decode(bitstream(frame(b"Q", b""), record(descriptor())))
    with pytest.raises(DecodeError, match="does not exist"):
        nncodec.decode(bitstream(frame(b"\x07", b""), record(descriptor())))


ALIAS = frame(b"A", write_aliases([]))
META = frame(b"M", write_metadata({}))
RECORD = record(descriptor())
VIEW = Alias("v", 1, 0, "t", 0, (2,), (1,))

LIES = {
    "codec unknown": lambda: bitstream(record(descriptor(codec=99))),
    "payload version zero": lambda: bitstream(record(descriptor(version=0))),
    "element type unknown": lambda: bitstream(record(descriptor(dtype=23).write().replace(b"\x17", b"\x63"))),
    "no tensors": lambda: bitstream(record(descriptor(tensors=())), tensors=0),
    "chunks of nothing": lambda: bitstream(record(descriptor(chunk_elements=0))),
    "chunks too large": lambda: bitstream(record(descriptor(chunk_elements=(1 << 20) + 1))),
    "shape beyond 64 bits": lambda: bitstream(record(descriptor(shape=(1 << 40, 1 << 40)))),
    "shape beyond 64 bits times zero": lambda: bitstream(record(descriptor(shape=(1 << 40, 1 << 40, 0)), [])),
    "65 dimensions": lambda: bitstream(record(descriptor(shape=(1,) * 65))),
    "payload short": lambda: bitstream(record(descriptor(), [b"\1\2\3"])),
    "payload long": lambda: bitstream(record(descriptor(), [b"\1\2\3\4\5"])),
    "model where none belongs": lambda: bitstream(record(descriptor(model=b"x"))),
    "descriptor with more bytes": lambda: bitstream(record(descriptor().write() + b"\0")),
    "descriptor cut": lambda: bitstream(record(descriptor().write()[:-2])),
    "origin unknown": lambda: bitstream(record(descriptor(origin=7))),
    "name no UTF-8": lambda: bitstream(record(descriptor("q").write().replace(b"q", b"\xff"))),
    "name too long": lambda: bitstream(record(descriptor("n" * 65536))),
    "name twice": lambda: bitstream(RECORD, record(descriptor(ordinal=1)), tensors=2),
    "ordinal twice": lambda: bitstream(RECORD, record(descriptor("u")), tensors=2),
    "footer counts wrong": lambda: bitstream(RECORD, tensors=2),
    "metadata twice": lambda: bitstream(META, META, RECORD),
    "metadata after a record": lambda: bitstream(RECORD, META),
    "record after aliases": lambda: bitstream(ALIAS, RECORD),
    "aliases twice": lambda: bitstream(RECORD, ALIAS, ALIAS),
    "metadata key twice": lambda: bitstream(frame(b"M", b"\2\1a\1b\1a\1c"), RECORD),
    "metadata count lies": lambda: bitstream(frame(b"M", b"\xff\xff\x7f"), RECORD),
    "varint overlong": lambda: bitstream(frame(b"M", b"\x80\0"), RECORD),
    "varint endless": lambda: bitstream(frame(b"M", b"\xff" * 12), RECORD),
    "alias without target": lambda: bitstream(
        RECORD, frame(b"A", write_aliases([Alias("v", 1, 0, "x")])), tensors=2
    ),
    "alias of an alias": lambda: bitstream(
        RECORD, frame(b"A", write_aliases([Alias("u", 1, 0, "t"), Alias("v", 2, 0, "u")])), tensors=3
    ),
    "alias by a name that is there": lambda: bitstream(
        RECORD, frame(b"A", write_aliases([Alias("t", 1, 0, "t")])), tensors=2
    ),
    "view past the end": lambda: bitstream(
        RECORD, frame(b"A", write_aliases([Alias("v", 1, 0, "t", 3, (2,), (1,))])), tensors=2
    ),
    "view with a wild stride": lambda: bitstream(
        RECORD, frame(b"A", write_aliases([Alias("v", 1, 0, "t", 0, (2,), (1 << 62,))])), tensors=2
    ),
    "view with too many elements": lambda: bitstream(
        RECORD, frame(b"A", write_aliases([Alias("v", 1, 0, "t", 0, (1 << 40, 1 << 40), (0, 0))])), tensors=2
    ),
    "empty view with an offset": lambda: bitstream(
        RECORD, frame(b"A", write_aliases([Alias("v", 1, 0, "t", 1, (0,), (1,))])), tensors=2
    ),
    "structure is no JSON": lambda: bitstream(frame(b"S", b"{"), RECORD),
    "structure forgets": lambda: bitstream(frame(b"S", b"[]"), RECORD),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_lies_with_right_checksums(lie, tmp_path):
    data = lie()
    with pytest.raises(DecodeError):
        nncodec.decode(data)
    with pytest.raises(DecodeError):
        nncodec.load_file(io.BytesIO(data))


@pytest.mark.parametrize(
    "where", ["offset", "descriptor_length", "payload_lengths", "dtype", "codec", "tensors"]
)
def test_an_index_that_lies(where, tmp_path):
    head = descriptor()
    true = IndexEntry(16, len(head.write()), (4,), head.dtype, head.codec, head.tensors)
    lies = {
        "offset": 17,
        "descriptor_length": 3,
        "payload_lengths": (5,),
        "dtype": 19,
        "codec": 1,
        "tensors": (TensorEntry("u", 0, 0, (4,)),),
    }
    path = tmp_path / "x.nncz"
    path.write_bytes(bitstream(RECORD, index=frame(b"I", write_index([true]))))
    assert read_all(path) == {"t": b"\1\2\3\4"}
    fields = {name: getattr(true, name) for name in lies}
    false = IndexEntry(**fields | {where: lies[where]})
    data = bitstream(RECORD, index=frame(b"I", write_index([false])))
    with pytest.raises(DecodeError):
        nncodec.decode(data)
    path.write_bytes(data)
    with pytest.raises(DecodeError):
        read_all(path)


def test_an_index_that_points_outside(tmp_path):
    path = tmp_path / "x.nncz"
    for offset, length in [(1 << 60, 30), (20, 1 << 31), (5, 20), (0, 5), (16, 0), (30, 10)]:
        start = header() + RECORD
        path.write_bytes(start + Footer(length, offset, len(start) + 32, 1).write())
        with pytest.raises(DecodeError):
            nncodec.open(path)
    head = descriptor()
    far = IndexEntry(1 << 40, len(head.write()), (4,), head.dtype, head.codec, head.tensors)
    path.write_bytes(bitstream(RECORD, index=frame(b"I", write_index([far]))))
    with pytest.raises(DecodeError, match=r"outside|above"):
        nncodec.open(path)


def test_limits():
    blob = nncodec.encode({"t": np.zeros(1000, np.uint8)}, "stored")
    assert nncodec.decode(blob, max_bytes=1000)["t"].size == 1000
    for read in (nncodec.decode, lambda data, **o: nncodec.load_file(io.BytesIO(data), **o)):
        with pytest.raises(LimitError, match="1000 bytes, the limit is 999"):
            read(blob, max_bytes=999)


def test_a_small_file_cannot_claim_physical_memory():
    claimed = 1 << 50
    chunks = claimed >> 20
    assert chunks * 5 > 1 << 20
    data = bitstream(record(descriptor(shape=(claimed,), chunk_elements=1 << 20)))
    with pytest.raises(DecodeError, match="cannot lie"):
        nncodec.decode(data)
    with pytest.raises(LimitError):
        nncodec.load_file(io.BytesIO(data))


def test_names_cannot_multiply():
    # Each tensor adds four bytes to the file and, through prefix coding, 64 KiB of name.
    entries = tuple(TensorEntry("n" * 65000 + str(i), i, 0, (0,)) for i in range(3000))
    data = bitstream(record(descriptor(tensors=entries), []), tensors=3000)
    assert len(data) < 200_000
    with pytest.raises(LimitError, match="names"):
        nncodec.decode(data)


def test_errors_travel():
    import pickle

    error = DecodeError("cause", offset=7, tensor="t")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (DecodeError, "tensor 't', byte 7: cause")


BASE = nncodec.encode({"a": np.arange(6.0).reshape(2, 3), "b": np.ones(3, np.int8)}, "stored")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_descriptors_with_any_bytes(data):
    good = descriptor().write()
    body = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    blob = bitstream(record(bytes(body)))
    outcomes = []
    for read in (nncodec.decode, lambda blob: nncodec.load_file(io.BytesIO(blob))):
        try:
            outcomes.append(list(read(blob)))
        except NNCodecError as error:
            outcomes.append(isinstance(error, NNCodecError))
    assert (outcomes[0] is True) == (outcomes[1] is True)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40), st.sampled_from([b"M", b"S", b"A", b"I"]))
def test_sections_with_any_bytes(body, kind):
    section = frame(kind, body)
    if kind in b"MS":
        blob = bitstream(section, RECORD)
    elif kind == b"A":
        blob = bitstream(RECORD, section)
    else:
        blob = bitstream(RECORD, index=section)
    with contextlib.suppress(NNCodecError):  # anything else is a failure
        nncodec.decode(blob)


def test_a_decoder_without_memory_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    blob = nncodec.encode({"w": np.ones(3, np.float32)}, "stored")

    def no_memory(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(CODECS["stored"], "decoder", no_memory)
    with pytest.raises(LimitError, match="decoder cannot be had"):
        nncodec.decode(blob)
