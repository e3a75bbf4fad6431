"""Builds bitstreams by hand, so that tests can lie in one field and keep every checksum right."""

from __future__ import annotations

from collections.abc import Sequence

from nncodec._core import crc32c
from nncodec.container.descriptor import Descriptor, TensorEntry
from nncodec.container.fields import FieldWriter
from nncodec.container.sections import FOOTER_BYTES, Footer, frame, header
from nncodec.container.walk import chunk_seed


def descriptor(name: str = "t", shape: tuple[int, ...] = (4,), **changes) -> Descriptor:
    """A record of uint8, stored, one chunk; ``changes`` are fields of it or of its tensor."""
    tensor = {key: changes.pop(key) for key in ("ordinal", "origin") if key in changes}
    entry = TensorEntry(name, **{"ordinal": 0, "origin": 0} | tensor, shape=shape)
    fields = {"codec": 0, "version": 1, "dtype": 23, "chunk_elements": 1 << 18, "model": b""}
    return Descriptor(**{"tensors": (entry,)} | fields | changes)


def record(head: Descriptor | bytes, payloads: Sequence[bytes] = (b"\1\2\3\4",)) -> bytes:
    """A tensor record with right checksums."""
    framed = frame(b"T", head.write() if isinstance(head, Descriptor) else head)
    crc = int.from_bytes(framed[-4:], "little")
    out = FieldWriter()
    out.data += framed
    for number, payload in enumerate(payloads):
        out.block(payload)
        out.u32(crc32c(payload, chunk_seed(crc, number, len(payload))))
    return bytes(out.data)


def bitstream(*sections: bytes, tensors: int = 1, index: bytes = b"") -> bytes:
    """Header, sections, index, footer."""
    start = header() + b"".join(sections)
    offset = len(start) if index else 0
    total = len(start) + len(index) + FOOTER_BYTES
    return start + index + Footer(len(index), offset, total, tensors).write()
