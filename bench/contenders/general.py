"""Lossless contenders that take bytes: zstd, zipnn, openzl. Each tensor is compressed alone, in its own type."""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from time import perf_counter
from typing import Any, ClassVar
from warnings import catch_warnings, simplefilter

import numpy as np

from bench.contenders.contender import Contender, Unavailable
from bench.datasets import Tensors

__all__ = ["OpenZL", "ZipNN", "Zstandard"]

_LENGTH = struct.Struct("<Q")


class _Bytewise(Contender):
    """Frames of compressed tensors behind each other. Names and shapes stay here: they are no matter of size."""

    def __init__(self) -> None:
        self._known: dict[int, list[tuple[str, np.dtype[Any], tuple[int, ...]]]] = {}

    @abstractmethod
    def _pack(self, raw: bytes, dtype: np.dtype[Any]) -> bytes: ...

    @abstractmethod
    def _unpack(self, packed: bytes, dtype: np.dtype[Any]) -> bytes: ...

    def encode(self, tensors: Tensors, setting: float | None = None) -> bytes:
        raw = [(np.ascontiguousarray(value).tobytes(), value.dtype) for value in tensors.values()]
        start = perf_counter()
        packed = [self._pack(data, dtype) if data else b"" for data, dtype in raw]
        self.seconds = perf_counter() - start
        joined = b"".join(_LENGTH.pack(len(frame)) + frame for frame in packed)
        self._known[hash(joined)] = [(name, value.dtype, value.shape) for name, value in tensors.items()]
        return joined

    def decode(self, data: bytes) -> Tensors:
        known, at, frames = self._known[hash(data)], 0, []
        for _ in known:
            (length,) = _LENGTH.unpack_from(data, at)
            frames.append(data[at + 8 : at + 8 + length])
            at += 8 + length
        start = perf_counter()
        raw = [self._unpack(f, dtype) if f else b"" for f, (_, dtype, _) in zip(frames, known, strict=True)]
        self.seconds = perf_counter() - start
        return {
            name: np.frombuffer(r, dtype).reshape(shape)
            for r, (name, dtype, shape) in zip(raw, known, strict=True)
        }


class Zstandard(_Bytewise):
    """zstd at level 3, its default."""

    name = "zstd -3"

    def __init__(self) -> None:
        super().__init__()
        try:
            import zstandard
        except ImportError as missing:
            raise Unavailable("zstd: package zstandard is not installed") from missing
        self.version = zstandard.__version__
        self._compressor = zstandard.ZstdCompressor(level=3)
        self._decompressor = zstandard.ZstdDecompressor()

    def _pack(self, raw: bytes, dtype: np.dtype[Any]) -> bytes:
        return self._compressor.compress(raw)

    def _unpack(self, packed: bytes, dtype: np.dtype[Any]) -> bytes:
        return self._decompressor.decompress(packed)


class ZipNN(_Bytewise):
    """zipnn, told the element type; types it has no mode for go as bytes of float32, its default."""

    name = "zipnn"
    _MODES: ClassVar[dict[str, str]] = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}

    def __init__(self) -> None:
        super().__init__()
        try:
            with catch_warnings():
                simplefilter("ignore", DeprecationWarning)  # it imports parts of torch that go away
                import zipnn
        except ImportError as missing:
            raise Unavailable("zipnn: package zipnn is not installed") from missing
        self.version = version("zipnn")
        self._make: Callable[..., Any] = zipnn.ZipNN
        self._coders: dict[str, Any] = {}

    def _coder(self, dtype: np.dtype[Any]) -> Any:
        mode = self._MODES.get(dtype.name, "float32")
        if mode not in self._coders:
            self._coders[mode] = self._make(bytearray_dtype=mode, input_format="byte", threads=1)
        return self._coders[mode]

    def _pack(self, raw: bytes, dtype: np.dtype[Any]) -> bytes:
        return bytes(self._coder(dtype).compress(bytearray(raw)))  # a copy: zipnn works in place

    def _unpack(self, packed: bytes, dtype: np.dtype[Any]) -> bytes:
        return bytes(self._coder(dtype).decompress(packed))


class OpenZL(_Bytewise):
    """openzl with its graph for floats of the element type; anything else through its generic compressor."""

    name = "openzl"
    _NODES: ClassVar[dict[str, str]] = {
        "float32": "Float32Deconstruct",
        "float16": "Float16Deconstruct",
        "bfloat16": "BFloat16Deconstruct",
    }

    def __init__(self) -> None:
        super().__init__()
        try:
            from openzl import ext
        except ImportError as missing:
            raise Unavailable("openzl: package openzl is not installed") from missing
        self.version = version("openzl")
        self._zl: Any = ext
        self._compressors: dict[str, Any] = {}

    def _compressor(self, dtype: np.dtype[Any]) -> Any:
        if dtype.name not in self._compressors:
            nodes, graphs = self._zl.nodes, self._zl.graphs
            compressor = self._zl.Compressor()
            if dtype.name in self._NODES:
                node = getattr(nodes, self._NODES[dtype.name])()
                # Half precision's sign and fraction come in two bytes each, of which five bits are empty.
                fraction = graphs.Entropy() if dtype.name == "float16" else graphs.Store()
                start = node(compressor, sign_frac=fraction, exponent=graphs.Entropy())
            else:
                start = graphs.Zstd()(compressor)
            compressor.select_starting_graph(start)
            self._compressors[dtype.name] = compressor
        return self._compressors[dtype.name]

    def _input(self, raw: bytes, dtype: np.dtype[Any]) -> Any:
        kind = {"float32": np.uint32, "float16": np.uint16, "bfloat16": np.uint16}.get(dtype.name)
        if kind is None:
            return self._zl.Input(self._zl.Type.Serial, np.frombuffer(raw, np.uint8))
        return self._zl.Input(self._zl.Type.Numeric, np.frombuffer(raw, kind))

    def _pack(self, raw: bytes, dtype: np.dtype[Any]) -> bytes:
        context = self._zl.CCtx()
        context.ref_compressor(self._compressor(dtype))
        context.set_parameter(self._zl.CParam.FormatVersion, self._zl.MAX_FORMAT_VERSION)
        return bytes(context.compress([self._input(raw, dtype)]))

    def _unpack(self, packed: bytes, dtype: np.dtype[Any]) -> bytes:
        (output,) = self._zl.DCtx().decompress(packed)
        return bytes(output.content.as_bytes())
