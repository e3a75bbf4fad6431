"""The C++ engine: kernels and chunk coders. One section per folder of cpp/."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__version__: str
compiler: str  # name and version, for benchmark reports

# Anything with a C-contiguous buffer; numpy arrays of ml_dtypes types go as their uint8 view.
Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[np.generic]

# base

def bitpack(codes: Buffer, bits: int, code_bytes: int = 2) -> bytes: ...
def bitunpack(packed: Buffer, bits: int, out: Buffer, code_bytes: int = 2) -> None: ...
def crc32c(data: Buffer, seed: int = 0) -> int: ...
def force_isa(name: str) -> None: ...
def hardware_threads() -> int: ...
def isa() -> str: ...
def supported_isas() -> list[str]: ...

# codecs

class ChunkDecoder: ...
class Payload: ...  # owner of an encoded chunk; seen as a memoryview

# (decoder, chunk index, payload, CRC seed, CRC, writable output)
# (decoder, chunk, payload, crc_seed, crc, out)
ChunkJob: TypeAlias = tuple[ChunkDecoder, int, Buffer, int, int, Buffer]
# (decoder, first chunk, file, place in it, lengths of payloads, record_crc, out, bytes of out per chunk)
ChunkRun: TypeAlias = tuple[ChunkDecoder, int, Buffer, int, Sequence[int], int, Buffer, int]

class CodebookPlan:
    def __init__(self, part: tuple[object, ...], classes: bool, threads: int) -> None: ...
    @property
    def model(self) -> bytes: ...
    @property
    def chunk_elements(self) -> int: ...
    @property
    def chunks(self) -> int: ...
    def encode(self, first: int, end: int, threads: int = 0) -> list[bytes]: ...

def codebook_decoder(
    dtype: int, shapes: Sequence[Sequence[int]], chunk_elements: int, model: Buffer
) -> ChunkDecoder: ...

class TransformPlan:
    def __init__(
        self,
        part: tuple[object, ...],
        setting: tuple[object, ...],
        choices: Sequence[tuple[int, int, int]],
        threads: int,
    ) -> None: ...
    @property
    def model(self) -> bytes: ...
    @property
    def chunk_elements(self) -> int: ...
    @property
    def chunks(self) -> int: ...
    @property
    def bits(self) -> float: ...
    @property
    def squared_error(self) -> float: ...
    def encode(self, first: int, end: int, threads: int = 0) -> list[bytes]: ...

def transform_decoder(
    dtype: int, shapes: Sequence[Sequence[int]], chunk_elements: int, model: Buffer
) -> ChunkDecoder: ...

class LowRankDecoder(ChunkDecoder):
    rank: int

def lowrank_decoder(
    dtype: int, shapes: Sequence[Sequence[int]], chunk_elements: int, model: Buffer
) -> LowRankDecoder: ...
def lowrank_model(
    codec: int, scales: Buffer, chunk_elements: int, inner_model: Buffer, payloads: Sequence[bytes]
) -> bytes: ...
def low_rank_decompose(
    dtype: int, data: Buffer, rows: int, columns: int, rank: int, energy: float
) -> tuple[bytes, bytes, bytes, bytes]: ...
def low_rank_product(left: Buffer, scales: Buffer, right: Buffer, columns: int, out: Buffer) -> None: ...
def hadamard(numbers: Buffer, length: int) -> None: ...
def bzip2_decode(stream: Buffer, out: Buffer) -> None: ...

class LosslessEncoding:
    @property
    def chunk_elements(self) -> int: ...
    @property
    def n_chunks(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def model(self) -> bytes: ...
    def encode(self, first: int, end: int, threads: int = 0) -> list[memoryview]: ...

class Block: ...  # owner of fresh memory; seen as a memoryview

class Sink:
    def __init__(self, capacity: int = 0) -> None: ...
    @property
    def size(self) -> int: ...
    def write(self, data: Buffer) -> int: ...
    def write_pieces(self, pieces: Sequence[Buffer | tuple[Buffer, int, int]], threads: int = 0) -> int: ...
    def finish(self) -> None: ...
    def flush(self, write: Callable[[memoryview], int | None]) -> None: ...
    def take(self) -> bytes: ...

def new_block(size: int) -> memoryview: ...
def read_varints(data: Buffer, at: int, count: int, most: int) -> tuple[list[int], int] | None: ...
def read_block(data: Buffer, at: int, record_crc: int, number: int) -> tuple[int, int, int, int] | None: ...
def unpack_tensors(
    data: Buffer, count: int, item_size: int, origins: int
) -> list[tuple[str, int, int, tuple[int, ...]]] | None: ...
def read_descriptor(
    data: Buffer, at: int
) -> tuple[int, int, int, int, int, int, list[tuple[str, int, int, tuple[int, ...]]], int, bytes] | None: ...
def skip_blocks(data: Buffer, at: int, count: int) -> tuple[list[int], int] | None: ...

class ChunkBatch:
    def __init__(
        self, jobs: Sequence[ChunkJob | ChunkRun], threads: int = 0, fresh: bool = False
    ) -> None: ...
    def wait(self) -> tuple[int, str] | None: ...

def decode_chunks(jobs: Sequence[ChunkJob | ChunkRun], threads: int = 0) -> tuple[int, str] | None: ...
def lossless_decoder(
    version: int, dtype: int, elements: int, chunk_elements: int, model: Buffer
) -> ChunkDecoder: ...
def lossless_encode(parts: Sequence[tuple[int, int, Buffer]], threads: int = 0) -> list[LosslessEncoding]: ...
def stored_decoder() -> ChunkDecoder: ...

class UniformDecoder(ChunkDecoder):
    step: float
    contexts: int
    tables: int
    transformed: bool

class TrellisDecoder(ChunkDecoder):
    step: float
    states: int
    classes: int
    parametric: bool
    alphabet: str
    transform: str

class TrellisPlan:
    version: int
    model: bytes
    chunk_elements: int
    chunks: int
    bits: float
    squared_error: float

class TrellisStudy: ...
class ColumnStudy: ...  # what all steps of a part have in common

class UniformPlan:
    model: bytes
    chunk_elements: int
    chunks: int
    bits: float
    squared_error: float

def trellis_decoder(
    dtype: int, shapes: Sequence[Sequence[int]], chunk_elements: int, model: Buffer, version: int
) -> TrellisDecoder: ...
def trellis_encode(
    plans: Sequence[TrellisPlan], first: int, end: int, threads: int = 0
) -> list[list[bytes]]: ...
def trellis_plan_of_levels(
    dtype: int,
    shape: Sequence[int],
    levels: NDArray[np.int16],
    step: float,
    states: int,
    alphabet: str,
    by_columns: bool,
    row_dimensions: int,
    lanes: int,
    chunk_elements: int,
    row_steps: Sequence[int] = ...,
    column_steps: Sequence[int] = ...,
    threads: int = 0,
) -> TrellisPlan: ...
def trellis_plans(
    studies: Sequence[TrellisStudy], steps: Sequence[float], threads: int = 0
) -> list[TrellisPlan]: ...

# parts: (dtype, shapes, data, name); settings: (step, importance, strength)
def trellis_studies(
    parts: Sequence[tuple[int, Sequence[Sequence[int]], Buffer, str]],
    settings: Sequence[tuple[float, NDArray[np.float32] | None, float]],
    states: int = 256,
    alphabet: str = "auto",
    transform: bool = True,
    layouts: bool = True,
    classes: bool = True,
    centroids: bool = True,
    threads: int = 0,
) -> list[TrellisStudy]: ...
def trellis_trials(
    studies: Sequence[TrellisStudy], steps: Sequence[float], threads: int = 0
) -> list[tuple[float, float]]: ...
def uniform_decoder(
    dtype: int, shapes: Sequence[Sequence[int]], chunk_elements: int, model: Buffer
) -> UniformDecoder: ...
def uniform_encode(
    plans: Sequence[UniformPlan], first: int, end: int, threads: int = 0
) -> list[list[bytes]]: ...

# parts: (dtype, shapes, data, name); settings: (step, importance)
def uniform_plans(
    parts: Sequence[tuple[int, Sequence[Sequence[int]], Buffer, str]],
    settings: Sequence[tuple[float, NDArray[np.float32] | None, ColumnStudy | None]],
    centroid: bool,
    strength: float,
    classes: bool,
    transform: str = "auto",
    threads: int = 0,
) -> list[UniformPlan]: ...
def uniform_study(dtype: int, shapes: Sequence[Sequence[int]]) -> ColumnStudy | None: ...

class WeightlessModel:
    def __init__(
        self, structure: str, bits: int, words: int = 4, exact: bool = False, packed: bool = False
    ) -> None: ...

class WeightlessPlan:
    model: bytes
    chunk_elements: int
    chunks: int

class WeightlessDecoder(ChunkDecoder):
    structure: str
    bits: int
    values: int
    exact: bool
    packed: bool
    def look_up(
        self,
        chunks: Sequence[int],
        payloads: Sequence[Buffer],
        first: Sequence[int],
        positions: Buffer,
        out: Buffer,
    ) -> None: ...

def weightless_plan(
    dtype: int, data: Buffer, values: Buffer, model: WeightlessModel, seed: int, name: str
) -> WeightlessPlan: ...
def weightless_encode(plan: WeightlessPlan, first: int, end: int, threads: int = 0) -> list[bytes]: ...
def weightless_decoder(
    dtype: int, elements: int, chunk_elements: int, model: Buffer
) -> WeightlessDecoder: ...
def weightless_build(
    keys: Buffer,
    codes: Buffer,
    offsets: Sequence[int],
    positions: int,
    model: WeightlessModel,
    values: int,
    seed: int = 0,
    threads: int = 0,
) -> list[bytes]: ...
def weightless_count(
    payloads: Sequence[Buffer], positions: int, model: WeightlessModel, values: int, threads: int = 0
) -> int: ...

# retrieval

def ribbon_build(
    keys: Buffer, codes: Buffer, slots: int, bits: int, words: int, seed: int
) -> bytes | None: ...
def ribbon_hits(
    table: Buffer, slots: int, bits: int, words: int, seed: int, first: int, end: int, limit: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]: ...
def ribbon_query(
    table: Buffer, slots: int, bits: int, words: int, seed: int, keys: Buffer, out: Buffer
) -> None: ...
def bloomier_build(keys: Buffer, codes: Buffer, third: int, bits: int, seed: int) -> bytes | None: ...
def bloomier_hits(
    table: Buffer, third: int, bits: int, seed: int, first: int, end: int, limit: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]: ...
def bloomier_query(table: Buffer, third: int, bits: int, seed: int, keys: Buffer, out: Buffer) -> None: ...
def bloomier_shrink(table: Buffer, third: int, bits: int) -> bytes: ...
def bloomier_expand(stream: Buffer, third: int, bits: int) -> bytes: ...

# entropy

class RansDecoder:
    def __init__(self, tables: Sequence[Sequence[int]], prob_bits: int = 12) -> None: ...
    def decode(
        self,
        stream: Buffer,
        out: Buffer,
        lanes: int,
        columns: int = 0,
        row_context: Buffer | None = None,
        column_context: Buffer | None = None,
    ) -> None: ...

class RansEncoder:
    def __init__(self, tables: Sequence[Sequence[int]], prob_bits: int = 12) -> None: ...
    def encode(
        self,
        symbols: Buffer,
        lanes: int,
        columns: int = 0,
        row_context: Buffer | None = None,
        column_context: Buffer | None = None,
    ) -> bytes: ...

class RansTrellisDecoder:
    def __init__(self, tables: Sequence[Sequence[int]], values: Buffer, states: int = 8) -> None: ...
    def decode(
        self, stream: Buffer, out: Buffer, lanes: int, contexts: Buffer | None = None, unit: int = 0
    ) -> None: ...

class RansTrellisEncoder:
    def __init__(self, tables: Sequence[Sequence[int]], states: int = 8) -> None: ...
    def encode(self, symbols: Buffer, lanes: int, contexts: Buffer | None = None, unit: int = 0) -> bytes: ...

def rans_cost(counts: Sequence[int], table: Sequence[int], prob_bits: int = 12) -> int: ...
def rans_fit_tables(counts: Sequence[Sequence[int]], prob_bits: int = 12) -> list[list[int]]: ...
def rans_lanes_for(stream_bytes: int) -> int: ...
def rans_normalise(counts: Sequence[int], prob_bits: int = 12) -> list[int]: ...
def rans_read_tables(data: Buffer, max_tables: int = 256) -> tuple[list[list[int]], int]: ...
def rans_write_tables(tables: Sequence[Sequence[int]], prob_bits: int = 12) -> bytes: ...
def adaptive_decode_bytes(stream: Buffer, out: Buffer, stride: int = 1) -> None: ...
def adaptive_encode_bytes(values: Buffer, stride: int = 1) -> bytes: ...
def range_decode_bits(stream: Buffer, probabilities: Buffer, out: Buffer) -> None: ...
def range_decode_integers(stream: Buffer, out: Buffer) -> None: ...
def range_decode_symbols(stream: Buffer, out: Buffer, two_rates: bool = False) -> None: ...
def range_encode_bits(bits: Buffer, probabilities: Buffer) -> bytes: ...
def range_encode_integers(values: Buffer) -> bytes: ...
def range_encode_symbols(symbols: Buffer, two_rates: bool = False) -> bytes: ...

# quantize

def kmeans_optimal(values: Buffer, weights: Buffer | None, clusters: int) -> tuple[list[float], float]: ...
def kmeans_assign(values: Buffer, centroids: Buffer, out: Buffer, threads: int = 1) -> None: ...
def kmeans_lloyd(
    vectors: Buffer,
    dimension: int,
    weights: Buffer | None,
    centroids: Buffer,
    steps: int,
    out: Buffer,
    threads: int = 1,
) -> list[float]: ...

class LookupTable:
    def __init__(self, entries: Buffer, entry_bytes: int) -> None: ...
    def run(self, indices: Buffer, out: Buffer, index_bytes: int = 1) -> None: ...
    def run_packed(self, packed: Buffer, bits: int, n: int, out: Buffer) -> None: ...

class FloatStatistics:
    energy: float
    largest: float
    nonfinite: int

# (middle, slope) per direct token
Thresholds: TypeAlias = tuple[Sequence[float], Sequence[float]]

def fit_scales(
    data: Buffer, dtype: int, rows: int, columns: int, repeat: int, axes: int, threads: int = 0
) -> tuple[bytes, bytes, int]: ...
def fixed_log2(value: float) -> int: ...
def float_statistics(
    data: Buffer, dtype: int, importance: NDArray[np.float32] | None = None, threads: int = 0
) -> FloatStatistics: ...
def round_to(dtype: int, value: float) -> int: ...
def uniform_dequantise(
    tokens: Buffer,
    extra: Buffer,
    dtype: int,
    step: float,
    columns: int,
    row_context: Buffer,
    column_context: Buffer,
    offsets: Buffer,
    table_of: Buffer,
    out: Buffer,
) -> None: ...
def uniform_quantise(
    data: Buffer,
    dtype: int,
    step: float,
    columns: int,
    row_context: Buffer,
    column_context: Buffer,
    thresholds: Sequence[Thresholds],
    importance: NDArray[np.float32] | None = None,
) -> tuple[bytes, bytes]: ...
def uniform_thresholds(bits: Buffer, offsets: Buffer, lambda_: float) -> Thresholds: ...

# transform

def float_planes_join(
    symbols: Buffer,
    low: Buffer,
    planes: Sequence[Buffer],
    out: Buffer,
    dtype: int,
    zeros: int = 0,
    plus: bool = False,
    sparse: bool = False,
    escaped: bool = False,
    base: int = 0,
    past_caches: bool = False,
) -> None: ...
def float_planes_split(
    numbers: Buffer,
    dtype: int,
    zeros: int = 0,
    plus: bool = False,
    sparse: bool = False,
    escaped: bool = False,
    base: int = 0,
) -> tuple[bytes, bytes, list[bytes]]: ...
def pack_bits(values: Buffer, bits: int) -> bytes: ...
def unpack_bits(packed: Buffer, out: Buffer, bits: int) -> None: ...
def klt_encode_basis(moments: Buffer, n: int, rows: float, floor: float) -> bytes: ...
def klt_inverse(stream: Buffer, n: int, coefficients: Buffer, out: Buffer) -> None: ...
def klt_inverse_integers(stream: Buffer, n: int, coefficients: Buffer, unit: float, out: Buffer) -> None: ...
def dct_forward(numbers: Buffer, height: int, width: int, out: Buffer) -> None: ...
def dct_inverse(coefficients: Buffer, height: int, width: int, out: Buffer) -> None: ...

# quantize

class TrellisQuantiser:
    def __init__(
        self,
        costs: Buffer,
        contexts: int,
        radius: int,
        states: int = 8,
        alphabet: str = "plain",
        lambda_: int = 24227,
    ) -> None: ...
    def quantise(
        self, values: Buffer, levels: Buffer, step: float, lanes: int = 32, contexts: Buffer | None = None
    ) -> None: ...

class TrellisStatistics:
    counts: list[int]
    errors: list[int]
    squared_error: int
    def add(
        self,
        values: Buffer,
        levels: Buffer,
        step: float,
        n_contexts: int,
        radius: int,
        states: int = 8,
        alphabet: str = "plain",
        lanes: int = 32,
        contexts: Buffer | None = None,
    ) -> None: ...
    def centroids(self, contexts: int, radius: int, reach: int) -> list[int]: ...
    def costs(self, contexts: int, radius: int) -> list[int]: ...

def trellis_parametric_table(
    scale: int, shape: int, radius: int, alphabet: str, union_index: int
) -> list[int]: ...
def class_order_restore(classes: Buffer, values: Buffer, out: Buffer, n_classes: int = 256) -> None: ...
def class_order_classes_of_row(own: int, parts: Buffer, map: Buffer, out: Buffer) -> None: ...
def class_order_counts(classes: Buffer, n_classes: int = 256) -> list[int]: ...
def trellis_dequantise(
    levels: Buffer,
    out: Buffer,
    step: float,
    states: int = 8,
    alphabet: str = "plain",
    lanes: int = 32,
    contexts: Buffer | None = None,
    offsets: Buffer | None = None,
    reach: int = 0,
    n_contexts: int = 1,
) -> None: ...
def kernel_sums(
    points: Buffer, dimensions: int, class_ends: Buffer, sums: Buffer, threads: int = 0
) -> None: ...

# lattices and universal coders

def lattice_code(lattice: str, point: Buffer) -> tuple[int, list[int]]: ...
def lattice_dither(lattice: str, key: int, first: int, out: Buffer) -> None: ...
def lattice_nearest(lattice: str, x: Buffer, out: Buffer) -> None: ...
def lattice_point(lattice: str, coset: int, integers: Sequence[int]) -> list[float]: ...
def lattice_random_bits(key: int, counter: int) -> int: ...
def lattice_scale(lattice: str, axis: int) -> float: ...
def lzw_decode(stream: Buffer, out: Buffer) -> None: ...
def lzw_encode(data: Buffer) -> bytes: ...
def mixing_decode(
    stream: Buffer,
    out: Buffer,
    kinds: Buffer | None = None,
    width: int = 1,
    repeat: int = 1,
    row: int = 0,
) -> None: ...
def mixing_encode(
    values: Buffer, kinds: Buffer | None = None, width: int = 1, repeat: int = 1, row: int = 0
) -> bytes: ...

class UniversalDecoder(ChunkDecoder):
    step: float
    lattice: int
    coder: int
    dithered: bool
    masked: bool
    rows: int

class UniversalPlan:
    model: bytes
    chunk_elements: int
    chunks: int
    dithered: bool
    squared_error: float
    def raw_chunk(self, chunk: int) -> tuple[bytes, bytes]: ...

def universal_decoder(
    dtype: int,
    elements: int,
    chunk_elements: int,
    model: Buffer,
    unpack: Callable[[int, bytes, int], bytes] | None = None,
) -> UniversalDecoder: ...
def universal_encode(
    plans: Sequence[UniversalPlan], first: int, end: int, threads: int = 0
) -> list[list[bytes]]: ...

# parts: (dtype, shapes, data, name, key); settings: (step, importance)
def universal_plans(
    parts: Sequence[tuple[int, Sequence[Sequence[int]], Buffer, str, int]],
    settings: Sequence[tuple[float, NDArray[np.float32] | None]],
    lattice: str,
    dither: str,
    coder: str,
    dimension: int,
    centroid: bool,
    exact: bool,
    table: Buffer | None = None,
    threads: int = 0,
) -> list[UniversalPlan]: ...
def feedback_levels(
    weights: NDArray[np.float32],
    levels: NDArray[np.int16],
    rows: int,
    columns: int,
    strands: Sequence[int],
    input: NDArray[np.float32] | None,
    output: NDArray[np.float32] | None,
    states: int,
    alphabet: str,
    lambda_: int = 24227,
    delay: int = 64,
    passes: int = 2,
    threads: int = 1,
) -> float: ...
def feedback_quantise(
    weights: NDArray[np.float32],
    levels: NDArray[np.int16],
    targets: NDArray[np.float32],
    rows: int,
    columns: int,
    strands: Sequence[int],
    input: NDArray[np.float32] | None,
    output: NDArray[np.float32] | None,
    costs: NDArray[np.uint16],
    n_contexts: int,
    radius: int,
    states: int,
    alphabet: str,
    lambda_: int,
    offsets: NDArray[np.int16] | None = None,
    reach: int = 0,
    contexts: NDArray[np.uint8] | None = None,
    delay: int = 64,
    threads: int = 1,
) -> float: ...
def lower_root(matrix: NDArray[np.float64], n: int) -> None: ...
def ternary_absmax(values: Buffer, dtype: int, residual: Buffer | None = None) -> float: ...
def ternary_scale(absmax: float, sparsity_multiplier: float) -> float: ...
def ternary_quantise(
    values: Buffer, dtype: int, residual: Buffer | None, scale: float, layout: str, packed: Buffer
) -> None: ...
def ternary_expand(
    packed: Buffer, out: Buffer, dtype: int, scale: float, layout: str, accumulate: bool = False
) -> None: ...
def zero_run_encode(packed: Buffer) -> bytes: ...
def zero_run_decode(coded: Buffer, size: int) -> bytes: ...
def ternary_rans_encode(packed: Buffer) -> bytes: ...
def ternary_rans_decode(coded: Buffer, packed: Buffer) -> None: ...

class TernaryEncoder:
    model: bytes
    chunk_elements: int
    chunks: int
    def encode(self, first: int, end: int, threads: int = 0) -> list[bytes]: ...

class TernaryDecoder(ChunkDecoder):
    block: int
    scale: float

def ternary_encoders(
    parts: Sequence[tuple[int, Buffer, str]],
    sparsity_multiplier: float,
    layout: str,
    entropy: str,
    block: int,
    threads: int = 0,
) -> list[TernaryEncoder]: ...
def ternary_decoder(dtype: int, chunk_elements: int, model: Buffer) -> TernaryDecoder: ...
def ternary_compress(
    values: Buffer,
    dtype: int,
    residual: Buffer | None,
    sparsity_multiplier: float,
    layout: str,
    entropy: str,
) -> bytes | None: ...
def ternary_compress_raw(values: Buffer, dtype: int) -> bytes: ...
def ternary_decompress(
    message: Buffer, out: Buffer, dtype: int, weight: float = 1.0, accumulate: bool = False
) -> None: ...
