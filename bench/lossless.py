"""Lossless codecs on whole checkpoints: size, speed, and speed against memcpy.

Every network of the data folder in its own types, MiniLM also rounded to bfloat16 and float16, ResNets also rounded
to bfloat16. "into" decodes to tensors that are there already. Peers run in their own process-wide settings, zstd at
level 3; they get bytes, tensor by tensor, and keep no names, no index and no checksums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import nncodec
from bench.contenders import Contender, OpenZL, Unavailable, ZipNN, Zstandard
from bench.datasets import Tensors, minilm, networks, read_safetensors
from bench.suite import Options, Row
from bench.timing import memcpy_of, take_turns

__all__ = ["run"]


@dataclass
class _Peer:
    """A contender on one set of tensors, timed by its own clock."""

    contender: Contender
    tensors: Tensors
    data: bytes = b""
    encode_s: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)

    def encode(self) -> None:
        self.data = self.contender.encode(self.tensors)
        self.encode_s.append(self.contender.seconds)

    def decode(self) -> None:
        self.contender.decode(self.data)
        self.decode_s.append(self.contender.seconds)


def _rounded(tensors: Tensors, dtype: np.dtype[np.generic]) -> Tensors:
    with np.errstate(over="ignore"):
        return {name: t.astype(dtype) if t.dtype == np.float32 else t for name, t in tensors.items()}


def _inputs(options: Options) -> Iterator[tuple[str, str, Tensors]]:
    """Network, type, tensors."""
    import ml_dtypes

    files, reason = networks(options.data)
    if reason:
        options.note(reason)
    path, reason = minilm()
    if reason:
        options.note(reason)
    for name, file in {**files, **({"minilm": path} if path else {})}.items():
        if not options.wants(name):
            continue
        tensors = {key: np.ascontiguousarray(value) for key, value in read_safetensors(file).items()}
        types = sorted({str(t.dtype) for t in tensors.values()})
        yield name, "+".join(types), tensors
        if name == "minilm" or "resnet" in name:
            yield name, "bfloat16", _rounded(tensors, np.dtype(ml_dtypes.bfloat16))
        if name == "minilm":
            yield name, "float16", _rounded(tensors, np.dtype(np.float16))


def _peers(options: Options, tensors: Tensors) -> list[_Peer]:
    found = []
    for make in (Zstandard, ZipNN, OpenZL):
        try:
            found.append(_Peer(make(), tensors))
        except Unavailable as reason:
            options.note(str(reason))
    return found


def _same(a: Tensors, b: Tensors) -> bool:
    return list(a) == list(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


def _compare(options: Options, network: str, dtype: str, tensors: Tensors, folder: Path) -> Iterator[Row]:
    raw = sum(t.nbytes for t in tensors.values())
    blob = nncodec.encode(tensors, threads=options.threads)
    if not _same(tensors, nncodec.decode(blob, framework="np", threads=options.threads)):
        raise AssertionError(f"{network} as {dtype} did not come back")
    path = folder / "network.nncz"
    path.write_bytes(blob)
    targets = {name: np.empty_like(t) for name, t in tensors.items()}

    with nncodec.open(path, framework="np", threads=options.threads) as file:

        def into() -> None:
            for name, target in targets.items():
                file.get_tensor(name, out=target)

        peers = _peers(options, tensors)
        calls = [
            memcpy_of(raw),
            lambda: nncodec.encode(tensors, threads=options.threads),
            lambda: nncodec.decode(blob, framework="np", threads=options.threads),
            into,
        ]
        for peer in peers:
            calls += [peer.encode, peer.decode]
        copy, encode, decode, fill = take_turns(calls, options.rounds)[:4]

    def row(codec: str, size: int, encode_s: float, decode_s: float, into_s: float | None) -> Row:
        return {
            "network": network,
            "type": dtype,
            "codec": codec,
            "MB": raw / 1e6,
            "% of size": 100 * size / raw,
            "encode MB/s": raw / encode_s / 1e6,
            "decode MB/s": raw / decode_s / 1e6,
            "encode x memcpy": copy.median / encode_s,
            "decode x memcpy": copy.median / decode_s,
            "into x memcpy": copy.median / into_s if into_s else None,
        }

    yield row("nncodec", len(blob), encode.median, decode.median, fill.median)
    for peer in peers:
        yield row(peer.contender.name, len(peer.data), _median(peer.encode_s), _median(peer.decode_s), None)


def _median(samples: list[float]) -> float:
    return float(np.median(samples))


def run(options: Options) -> Iterator[Row]:
    """One row per network, type and codec; raises AssertionError if ours does not give back every bit."""
    with TemporaryDirectory() as folder:
        for network, dtype, tensors in _inputs(options):
            yield from _compare(options, network, dtype, tensors, Path(folder))
