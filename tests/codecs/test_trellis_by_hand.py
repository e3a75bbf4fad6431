"""Records of codec `trellis` written as docs/format.md says, without the engine's encoder."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from nncodec import _core
from nncodec.codecs import Trellis
from nncodec.codecs.base import Part, Setting
from nncodec.container.fields import FieldReader, FieldWriter
from nncodec.errors import DecodeError
from nncodec.reference import rans_trellis
from nncodec.reference.range_coder import BinaryEncoder, BitModel, ExpGolomb
from nncodec.reference.trellis import next_state, point_of
from nncodec.reference.trellis_tables import parametric_table

STEP, STATES, LANES = np.float32(0.25), 16, 16
PARAMETERS = [(60, 14, 6), (72, 10, 9)]  # scale, shape, radius of each class
EIGHTHS = np.array(
    [1, 1.09050775, 1.1892071, 1.29683959, 1.41421354, 1.54221082, 1.68179286, 1.83400810], np.float32
)


class Side:
    """A stream of side information."""

    def __init__(self) -> None:
        self.coder = BinaryEncoder()
        self.numbers: dict[str, ExpGolomb] = {}

    def number(self, kind: str, value: int) -> None:
        self.numbers.setdefault(kind, ExpGolomb()).code(self.coder, value)

    def signed(self, kind: str, value: int) -> None:
        self.number(kind, 2 * value if value >= 0 else -2 * value - 1)

    def list(self, values: Sequence[int]) -> None:
        """The first of its kind."""
        before = BitModel()
        self.coder.code(0, before.p)  # as they are
        models = [ExpGolomb(), ExpGolomb(), ExpGolomb()]
        context = 1
        for value in values:
            folded = 2 * value if value >= 0 else -2 * value - 1
            models[context].code(self.coder, folded)
            context = 0 if folded < 2 else 1 if folded < 6 else 2

    def classes(self, bound: int) -> None:
        self.number("count", 1)
        self.number("bound", bound)
        self.number("count", 1)  # parametric
        last = (64, 14, 0)
        for parameters in PARAMETERS:
            for kind, now, then in zip(("scale", "shape", "radius"), parameters, last, strict=True):
                self.signed(kind, now - then)
            last = parameters
        for _ in PARAMETERS:
            self.number("count", 0)  # centroids

    def model(self, head: bytes = b"\0") -> bytes:
        """What lies before it is `head`, from the transform on."""
        out = FieldWriter()
        out.data += struct.pack("<fBB", STEP, STATES.bit_length() - 4, LANES.bit_length() - 1) + head
        out.block(self.coder.finish())
        return bytes(out.data)


def payload_of(levels: NDArray[np.int64], classes: NDArray[np.int64]) -> tuple[bytes, NDArray[np.float32]]:
    """A chunk of order 0 and its values before steps."""
    order = np.argsort(classes, kind="stable")
    tables = [parametric_table(*p, "plain", u) for p in PARAMETERS for u in (0, 1)]
    symbols, contexts = (128 + levels[order]).tolist(), classes[order].tolist()
    stream = rans_trellis.encode(symbols, tables, STATES, LANES, contexts, 0)
    values = np.empty(len(levels), np.float32)
    states = [0] * LANES
    for place, i in enumerate(order):
        lane, level = place % LANES, int(levels[i])
        values[i] = np.float32(256 * point_of("plain", states[lane] & 1, level)) * (STEP / np.float32(256))
        states[lane] = next_state(STATES, states[lane], level & 1)
    return stream, values


def decode(
    shape: tuple[int, ...],
    model: bytes,
    chunk_elements: int,
    chunk: int,
    payload: bytes,
    n: int,
    version: int = 1,
) -> NDArray[np.float32]:
    decoder = Trellis.decoder(version, 2, (shape,), chunk_elements, model)
    out = np.empty(n, np.float32)
    failure = _core.decode_chunks([(decoder, chunk, payload, 0, _core.crc32c(payload), out)], 1)
    if failure is not None:
        raise DecodeError(failure[1])
    return out


@pytest.mark.parametrize("chunk_elements", [4, 7, 15, 16, 45, 60])
def test_classes_and_steps_of_chunks_of_any_length(chunk_elements: int) -> None:
    rng = np.random.default_rng(1)
    rows, columns, positions, bound, offset = [10, -3, 10, 0], [-20, 7, 0], [0, 5, -40, 3, 1], 104, 100
    row_steps, column_steps = [0, 9, -7, 16], rng.integers(-20, 20, 15).tolist()
    side = Side()
    side.number("head", 31)
    side.number("split", 1 | 2 << 4)
    side.number("offset", offset)
    for scales in (rows, columns, positions):
        side.number("unit", 1)
        side.list(scales)
    side.list(row_steps)
    side.list(column_steps)
    side.classes(bound)
    model = side.model()
    sums = offset + 2 * (
        np.array(rows)[:, None, None] + np.array(columns)[:, None] + np.array(positions)
    ).reshape(-1)
    classes = (np.clip(sums, 0, 255) >= bound).astype(np.int64)
    assert 10 < classes.sum() < 50
    exponents = (np.array(row_steps)[:, None] + np.array(column_steps)).reshape(-1)
    factors = np.ldexp(EIGHTHS[exponents & 7], exponents >> 3)
    levels = rng.integers(-6, 7, 60)
    for chunk, first in enumerate(range(0, 60, chunk_elements)):
        part = slice(first, first + chunk_elements)
        payload, values = payload_of(levels[part], classes[part])
        got = decode((4, 3, 5), model, chunk_elements, chunk, payload, len(values))
        np.testing.assert_array_equal(got, values * factors[part])


def test_a_row_may_be_far_longer_than_memory() -> None:
    side = Side()
    side.number("head", 2)  # one column of so many positions
    side.number("split", 1 | 2 << 4)
    side.number("offset", 100)
    side.number("unit", 0)
    side.list([5])
    side.classes(105)
    levels = np.random.default_rng(2).integers(-6, 7, 100)
    payload, values = payload_of(levels, np.ones(100, np.int64))
    got = decode((1, 1, 1 << 40), side.model(), 100, 1 << 33, payload, 100)
    np.testing.assert_array_equal(got, values)


def test_columns_and_kernels_are_not_both_transformed() -> None:
    rng = np.random.default_rng(3)
    matrix = (rng.normal(size=(600, 16)) @ rng.normal(size=(16, 16))).astype(np.float32)
    part = Part(2, (matrix.shape,), np.frombuffer(matrix.tobytes(), np.uint8), ("w",))
    whole = Trellis(states=8).encode([part], [Setting(0.4, None)], 1)[0].model
    fields = FieldReader(whole[6:], 0)
    assert fields.u8("kind") & 3 == 1
    fields.varint("columns")
    fields.block("classes")
    fields.block("entries")
    transform = whole[6 : 6 + fields.at]

    def model(head: int) -> bytes:
        side = Side()
        side.number("head", head)
        side.number("offset", 0)
        side.classes(100)
        return side.model(transform)

    Trellis.decoder(1, 2, ((600, 4, 4),), 9600, model(0))
    for head, why in ((64, "basis that is not there"), (128, "columns are transformed"), (192, "two")):
        with pytest.raises(DecodeError, match=why):
            Trellis.decoder(1, 2, ((600, 4, 4),), 9600, model(head))
    with pytest.raises(DecodeError, match="several"):
        Trellis.decoder(1, 2, ((600, 4), (600, 12)), 9600, model(0))


# What a tensor of shape (output, input, places ...) becomes in each layout.
AXES = {0: (0, 1, 2, 3), 1: (0, 2, 3, 1), 2: (2, 3, 1, 0)}


@pytest.mark.parametrize("layout", AXES)
def test_layouts(layout: int) -> None:
    coded = (5, 4, 2, 3)
    inputs = [-20, 7, 0, 12]
    side = Side()
    side.number("layout", layout)
    side.number("head", 2)
    side.number("split", 1 | 2 << 4)
    side.number("offset", 100)
    side.number("unit", 0)
    side.list(inputs)
    side.classes(104)
    levels = np.random.default_rng(4).integers(-6, 7, 120)
    of_input = (100 + np.array(inputs) >= 104).astype(np.int64)
    payload, values = payload_of(levels, np.tile(np.repeat(of_input, 6), 5))
    want = values.reshape(coded).transpose(AXES[layout])
    got = decode(want.shape, side.model(), 120, 0, payload, 120, version=2)
    np.testing.assert_array_equal(got.reshape(want.shape), want)


def test_rows_of_channels_last_come_chunk_by_chunk() -> None:
    side = Side()
    side.number("layout", 1)
    side.number("head", 0)
    side.number("offset", 0)
    side.classes(100)
    levels = np.random.default_rng(5).integers(-6, 7, 120)
    for chunk, first in enumerate((0, 48, 96)):
        payload, values = payload_of(
            levels[first : first + 48], np.zeros(len(levels[first : first + 48]), np.int64)
        )
        want = values.reshape(-1, 4, 2, 3).transpose(0, 2, 3, 1)
        got = decode((5, 2, 3, 4), side.model(), 48, chunk, payload, len(values), version=2)
        np.testing.assert_array_equal(got.reshape(want.shape), want)


@pytest.mark.parametrize(
    ("layout", "shape", "chunk_elements", "why"),
    [
        (3, (5, 2, 3, 4), 120, "layout is above 2"),
        (1, (30, 4), 120, "layout needs three dimensions"),
        (1, (5, 2, 3, 4), 36, "another layout"),
        (2, (2, 3, 4, 5), 60, "another layout"),
    ],
)
def test_layouts_that_cannot_be(layout: int, shape: tuple[int, ...], chunk_elements: int, why: str) -> None:
    side = Side()
    side.number("layout", layout)
    side.number("head", 0)
    side.number("offset", 0)
    side.classes(100)
    with pytest.raises(DecodeError, match=why):
        Trellis.decoder(2, 2, (shape,), chunk_elements, side.model())


def test_layouts_of_nothing() -> None:
    side = Side()
    for _ in range(2):
        side.number("layout", 2)
        side.number("head", 0)
        side.number("offset", 0)
    side.classes(100)
    Trellis.decoder(2, 2, ((0, 3, 4, 5), (1 << 40, 1 << 40, 0)), 1, side.model())
