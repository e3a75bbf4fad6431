"""Codec 4: dithered lattice quantiser and universal source coding.

After Choi, El-Khamy and Lee (arXiv:1802.02271): weights are rounded to a lattice, with or without a subtractive dither
that both sides generate, and the points are coded without knowledge of their statistics. See docs/codecs/universal.md.
"""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from nncodec._core import (
    ChunkDecoder,
    UniversalPlan,
    crc32c,
    lattice_random_bits,
    universal_decoder,
    universal_encode,
    universal_plans,
)
from nncodec.codecs.base import Codec, Encoded, LossyCodec, Part, Setting, Trial, in_windows
from nncodec.dtypes import item_size
from nncodec.errors import DecodeError

__all__ = ["Universal", "UniversalExact", "dither_key"]

Lattice = Literal["z", "a2", "d4", "e8", "leech"]
Coder = Literal["mixing", "lzw", "deflate", "bzip2", "lzma"]

LATTICES = {"z": 1, "a2": 2, "d4": 4, "e8": 8, "leech": 24}
CODERS = ("mixing", "lzw", "deflate", "bzip2", "lzma")
_ENGINE = ("mixing", "lzw")
_QUANTISABLE = frozenset((1, 2, 3, 4))
# Raw LZMA2 streams; the dictionary holds any chunk's packed bytes.
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 22}]


def dither_key(seed: int, name: str) -> int:
    """The key of a tensor's dither, which the file stores."""
    return lattice_random_bits(seed % (1 << 64), crc32c(name.encode()))


@dataclass(frozen=True)
class Universal(LossyCodec):
    """Lattice quantisation of float64, float32, float16 and bfloat16 tensors, coded without a model header.

    Parameters
    ----------
    lattice : {"z", "a2", "d4", "e8", "leech"}
        Scaled so that cells have volume ``step**n``: at high rates the same step costs the same bits everywhere, and
        the error falls with the lattice's second moment, by 0.66 dB from ``z`` to ``e8``.
    dither : {"auto", "on", "off"}
        Subtractive dither makes the error independent of the weights, for 0.13 bits per weight at a rate of 2 and less
        above. Automatic: from 2 bits per weight on. With a mask, weights of exactly 0 stay 0.
    coder : {"mixing", "lzw", "deflate", "bzip2", "lzma"}
        ``mixing`` is ours: adaptive binary range coding of mixed context predictions.
    dimension : int
        Elements of a symbol of a table of distinct vectors, as in the paper: a multiple of the lattice's dimension. 0:
        no table, points are coded coordinate by coordinate.
    reconstruction : {"centroid", "lattice"}
        Whether a table holds mean vectors (float32) or points.
    seed : int
        Of the dither.

    Notes
    -----
    NaN or infinite elements, and a step below 2**-29 of the largest magnitude, raise ValueError naming the tensor.
    """

    lattice: Lattice = "z"
    dither: Literal["auto", "on", "off"] = "off"
    coder: Coder = "mixing"
    dimension: int = 1
    reconstruction: Literal["centroid", "lattice"] = "centroid"
    seed: int = 0

    name: ClassVar[str] = "universal"
    id: ClassVar[int] = 4
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.lattice, self.coder)
        if self.dither not in ("auto", "on", "off"):
            raise ValueError(f"dither must be 'auto', 'on' or 'off', got {self.dither!r}")
        if self.reconstruction not in ("centroid", "lattice"):
            raise ValueError(f"reconstruction must be 'centroid' or 'lattice', got {self.reconstruction!r}")

    @property
    def _dimension(self) -> int:
        """A table of single levels is for the scalar lattice; others code coordinates unless asked."""
        n = LATTICES[self.lattice]
        if self.dimension % n == 0:
            return self.dimension
        if self.dimension == 1:
            return 0
        raise ValueError(
            f"dimension must be a multiple of {n} for lattice {self.lattice!r}, got {self.dimension!r}"
        )

    def supports(self, dtype: int, shape: tuple[int, ...]) -> bool:
        """float64, float32, float16 and bfloat16 of any shape."""
        return dtype in _QUANTISABLE

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts, each at its setting's step. The bytes do not depend on ``threads``."""
        if settings is None:
            raise ValueError("codec 'universal' needs a setting per part")
        return _encoded(self._plans(parts, settings, threads), parts, self.coder, threads)

    def trial(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[Trial]:
        """Size and error at these settings: everything is coded, to nowhere."""
        plans = self._plans(parts, settings, threads)
        sizes = []
        for encoded in _encoded(plans, parts, self.coder, threads):
            sizes.append(len(encoded.model) + sum(len(chunk) for chunk in encoded.chunks))
        return [Trial(8.0 * size, plan.squared_error) for size, plan in zip(sizes, plans, strict=True)]

    def _plans(self, parts: Sequence[Part], settings: Sequence[Setting], threads: int) -> list[UniversalPlan]:
        return universal_plans(
            [_described(part, dither_key(self.seed, "\n".join(part.names))) for part in parts],
            [(setting.step, setting.importance) for setting in settings],
            self.lattice,
            self.dither,
            self.coder,
            self._dimension,
            self.reconstruction == "centroid",
            False,
            None,
            threads,
        )

    @classmethod
    def decoder(
        cls, version: int, dtype: int, shapes: tuple[tuple[int, ...], ...], chunk_elements: int, model: bytes
    ) -> ChunkDecoder:
        """A decoder for one record. Raises DecodeError when the model is bad."""
        elements = sum(math.prod(shape) for shape in shapes)
        return universal_decoder(dtype, elements, chunk_elements, model, _unpack)

    @classmethod
    def describe(cls, version: int, model: bytes) -> dict[str, Any]:
        """Lattice, coder, step, and whether there are dither and a table."""
        found = universal_decoder(2, 0, 1, model)
        facts: dict[str, Any] = {
            "lattice": tuple(LATTICES)[found.lattice],
            "coder": CODERS[found.coder],
            "step": found.step,
            "dither": found.dithered,
        }
        if found.rows:
            facts["table"] = found.rows
        return facts


@dataclass(frozen=True)
class UniversalExact(Codec):
    """Stores exactly what a universal quantiser made, such as the weights of ``nncodec.train.Universal``.

    Same bytes as ``Universal``; ValueError where a tensor is not of this kind.

    Parameters
    ----------
    step : float, optional
        The tensor holds multiples of it (rounded to its upper 20 bits). None: few distinct values or vectors, which go
        into a table; zeros apart where ``dimension`` is above 1 or there is dither.
    lattice, dimension, coder
        As in ``Universal``; ``dimension`` is that of the table.
    key : int, optional
        Of the dither that was subtracted; ``step`` and ``table`` are then needed.
    table : bytes
        float32 rows of the table, where they cannot be seen from the tensor for the dither.
    """

    step: float | None = None
    lattice: Lattice = "z"
    dimension: int = 1
    coder: Coder = "mixing"
    key: int | None = None
    table: bytes = b""

    name: ClassVar[str] = "universal"
    id: ClassVar[int] = 4
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.lattice, self.coder)
        if self.dimension < 1 or self.dimension % LATTICES[self.lattice] != 0:
            raise ValueError(
                f"dimension must be a multiple of {LATTICES[self.lattice]}, got {self.dimension!r}"
            )
        if self.key is not None and (self.step is None or not self.table):
            raise ValueError("dither needs step and table")

    def encode(
        self, parts: Sequence[Part], settings: Sequence[Setting] | None, threads: int
    ) -> list[Encoded]:
        """Encode parts. The bytes do not depend on ``threads``."""
        for part in parts:
            if part.dtype not in _QUANTISABLE:
                raise ValueError(
                    f"{', '.join(map(repr, part.names))}: only floats of 16 to 64 bits can be stored so"
                )
        grid = self.step is not None and not self.table
        plans = universal_plans(
            [_described(part, self.key or 0) for part in parts],
            [(1.0 if self.step is None else self.step, None)] * len(parts),
            self.lattice,
            "off" if self.key is None else "on",
            self.coder,
            0 if grid else self.dimension,
            True,
            True,
            self.table or None,
            threads,
        )
        return _encoded(plans, parts, self.coder, threads)

    decoder = Universal.decoder
    describe = Universal.describe


def _check(lattice: str, coder: str) -> None:
    if lattice not in LATTICES:
        raise ValueError(f"lattice must be one of {', '.join(LATTICES)}, got {lattice!r}")
    if coder not in CODERS:
        raise ValueError(f"coder must be one of {', '.join(CODERS)}, got {coder!r}")


def _described(part: Part, key: int) -> tuple[int, Any, Any, str, int]:
    return part.dtype, part.shapes, part.data, ", ".join(map(repr, part.names)) or "a tensor", key


def _encoded(
    plans: Sequence[UniversalPlan], parts: Sequence[Part], coder: str, threads: int
) -> list[Encoded]:
    if coder not in _ENGINE:
        return [Encoded(plan.chunk_elements, plan.model, _packed(plan, coder)) for plan in plans]
    if len(plans) == 1:
        return [_lazily(plans[0], parts[0], threads)]
    chunks = universal_encode(plans, 0, max((plan.chunks for plan in plans), default=0), threads)
    return [Encoded(plan.chunk_elements, plan.model, of) for plan, of in zip(plans, chunks, strict=True)]


def _lazily(plan: UniversalPlan, part: Part, threads: int) -> Encoded:
    chunk_bytes = plan.chunk_elements * item_size(part.dtype)
    chunks = in_windows(
        plan.chunks, chunk_bytes, threads, lambda first, end: universal_encode([plan], first, end, threads)[0]
    )
    return Encoded(plan.chunk_elements, plan.model, chunks)


def _packed(plan: UniversalPlan, coder: str) -> Iterator[bytes]:
    for chunk in range(plan.chunks):
        head, body = plan.raw_chunk(chunk)
        yield head + _pack(coder, body)


def _pack(coder: str, body: bytes) -> bytes:
    if coder == "bzip2":
        return bz2.compress(body, 9)
    if coder == "lzma":
        return lzma.compress(body, lzma.FORMAT_RAW, filters=_LZMA)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush()


def _unpack(coder: int, stream: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes, and no byte of the stream left over."""
    name = CODERS[coder]
    try:
        if name == "deflate":
            inflater = zlib.decompressobj(-15)
            body = inflater.decompress(stream, size + 1)
            whole = inflater.eof and not inflater.unused_data and not inflater.unconsumed_tail
        else:
            unpacker: Any = (
                bz2.BZ2Decompressor()
                if name == "bzip2"
                else lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
            )
            body = unpacker.decompress(stream, size + 1)
            whole = unpacker.eof and not unpacker.unused_data
    except (zlib.error, OSError, EOFError, lzma.LZMAError) as error:
        raise DecodeError(f"{name}: {error}") from None
    if len(body) != size or not whole:
        raise DecodeError(f"{name}: {len(body)} bytes instead of {size}, or the stream has another end")
    return body
