"""The C++ engine: kernels and chunk coders. One section per folder of cpp/."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__version__: str

# Anything with a C-contiguous buffer; numpy arrays of ml_dtypes types go as their uint8 view.
Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[np.generic]

# base

def crc32c(data: Buffer, seed: int = 0) -> int: ...
def force_isa(name: str) -> None: ...
def hardware_threads() -> int: ...
def isa() -> str: ...
def supported_isas() -> list[str]: ...

# codecs

class ChunkDecoder: ...

# (decoder, chunk index, payload, CRC seed, CRC, writable output)
ChunkJob: TypeAlias = tuple[ChunkDecoder, int, Buffer, int, int, Buffer]

def decode_chunks(jobs: Sequence[ChunkJob], threads: int = 0) -> tuple[int, str] | None: ...
def stored_decoder() -> ChunkDecoder: ...
