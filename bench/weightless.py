"""Retrieval structures: what a key takes beyond its cell, time of building and look-ups, and what exact coders take.

Keys lie at random among 100/3 times as many positions (3 % of the weights are not zero); nine values; cells of eight
bits, so 3.5 % of the other positions come back as weights. An entry is one structure with so many keys:
``--only 'ribbon 3000000'``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.suite import Options, Row
from nncodec import _core

__all__ = ["run"]

_KEYS = (3_000, 30_000, 300_000, 3_000_000, 30_000_000)
_BITS, _VALUES, _DENSITY = 8, 9, 0.03
_CHUNK = 1 << 20
_QUERIES = 200_000
_LONG = 3_000_000  # keys from which a row is timed once


@dataclass(frozen=True)
class Keys:
    """Keys of all chunks: place within the chunk, code, and where each chunk's begin."""

    places: NDArray[np.uint32]
    codes: NDArray[np.uint16]
    offsets: list[int]
    positions: int
    chunk: int

    @property
    def global_places(self) -> NDArray[np.int64]:
        chunk = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        return chunk * self.chunk + self.places


@cache
def keys_of(n: int) -> Keys:
    rng = np.random.default_rng(n)
    positions = round(n / _DENSITY)
    if n <= _KEYS[2]:
        everywhere = np.sort(rng.choice(positions, n, replace=False))
    else:  # gaps, for speed
        everywhere = np.cumsum(rng.geometric(_DENSITY, n)) - 1
        positions = int(everywhere[-1]) + 1
    chunk = -(-positions // -(-positions // _CHUNK))  # chunks as equal as can be
    offsets = np.searchsorted(everywhere, np.arange(0, positions + chunk, chunk)).tolist()
    return Keys(
        (everywhere % chunk).astype(np.uint32),
        rng.integers(0, _VALUES, n).astype(np.uint16),
        offsets,
        positions,
        chunk,
    )


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median time of a call."""
    samples = []
    for _ in range(rounds):
        start = perf_counter()
        call()
        samples.append(perf_counter() - start)
    return float(np.median(samples))


def filter_row(structure: str, exact: bool, n: int, options: Options) -> Row:
    """One of our structures."""
    keys = keys_of(n)
    model = _core.WeightlessModel(structure, _BITS, 4, exact)
    chunk = keys.chunk
    rounds = 1 if n >= _LONG else options.rounds

    def build(threads: int) -> list[bytes]:
        return _core.weightless_build(
            keys.places, keys.codes, keys.offsets, chunk, model, _VALUES, threads=threads
        )

    payloads = build(options.threads)

    def scan(threads: int) -> int:
        return _core.weightless_count(payloads, chunk, model, _VALUES, threads)

    size = sum(map(len, payloads))
    build_time = seconds(lambda: build(options.threads), rounds)
    scan_time = seconds(lambda: scan(options.threads), rounds)
    scanned = len(payloads) * chunk
    row: Row = {
        "entry": f"{structure}{' exact' if exact else ''} {n}",
        "bits/key": 8 * size / n,
        "overhead %": None if exact else 100 * (8 * size / (n * _BITS) - 1),
        "build ns/key": 1e9 * build_time / n,
        "scan ns/position": 1e9 * scan_time / scanned,
        "random ns": 1e9 * random_time(payloads, structure, exact, chunk, rounds) / _QUERIES,
        "false positives %": 100 * (scan(options.threads) - n) / (scanned - n),
    }
    if len(payloads) > 1 and options.threads == 1:
        row["build x, 2 threads"] = build_time / seconds(lambda: build(2), rounds)
        row["scan x, 2 threads"] = scan_time / seconds(lambda: scan(2), rounds)
    return row


def random_time(payloads: list[bytes], structure: str, exact: bool, chunk: int, rounds: int) -> float:
    """Time of random look-ups, chunk by chunk, as :meth:`nncodec.File.lookup` does them."""
    kind = (1 if structure == "ribbon" else 0) | (2 if exact else 0)
    words = b"\4" if structure == "ribbon" else b""
    head = bytes([kind, _BITS]) + words + bytes([_VALUES, 1]) + bytes(range(1, _VALUES + 1))
    decoder = _core.weightless_decoder(2, len(payloads) * chunk, chunk, head)
    rng = np.random.default_rng(1)
    each = max(1, _QUERIES // len(payloads))
    places = rng.integers(0, chunk, (len(payloads), each)).astype(np.uint32)
    out = np.empty(places.size, np.float32)
    chunks, first = list(range(len(payloads))), list(range(0, places.size + 1, each))

    def look_up() -> None:
        decoder.look_up(chunks, payloads, first, places, out)

    return seconds(look_up, rounds) * _QUERIES / (each * len(payloads))


def exact_coder_row(n: int, options: Options) -> Row:
    """Gaps and codes by the adaptive range coder: no random access, nothing lost."""
    keys = keys_of(n)
    gaps = np.diff(keys.global_places, prepend=-1).astype(np.uint32) - 1
    symbols = keys.codes.astype(np.uint8)
    start = perf_counter()
    size = len(_core.range_encode_integers(gaps)) + len(_core.range_encode_symbols(symbols))
    d = n / keys.positions
    bound = -(np.log2(d) + (1 - d) / d * np.log2(1 - d)) + np.log2(_VALUES)
    return {
        "entry": f"range coder {n}",
        "bits/key": 8 * size / n,
        "overhead %": None,
        "build ns/key": 1e9 * (perf_counter() - start) / n,
        "false positives %": 0.0,
        "ideal bits/key": float(bound),
    }


def dictionary_row(n: int, options: Options) -> Row:
    """Sorted positions and codes in numpy arrays, found by bisection."""
    keys = keys_of(n)
    places = keys.global_places.astype(np.uint32)
    wanted = np.random.default_rng(1).integers(0, keys.positions, _QUERIES).astype(np.uint32)

    def look_up() -> NDArray[Any]:
        at = np.minimum(np.searchsorted(places, wanted), n - 1)
        return np.where(places[at] == wanted, keys.codes[at], _VALUES)

    return {
        "entry": f"numpy dictionary {n}",
        "bits/key": 48.0,
        "overhead %": None,
        "random ns": 1e9 * seconds(look_up, options.rounds) / _QUERIES,
        "false positives %": 0.0,
    }


def fuse_row(n: int, options: Options) -> Row | None:
    """A binary fuse filter of eight bits: it says whether a position is a key, and no value."""
    try:
        fuse = import_module("pyfusefilter").Fuse8
    except ImportError:
        options.note("binary fuse filters: package pyfusefilter is not installed")
        return None
    size = fuse(
        n
    ).size_in_bytes()  # the package hashes in Python, so its times would say nothing of the structure
    return {
        "entry": f"binary fuse filter {n}",
        "bits/key": 8 * size / n,
        "overhead %": 100 * (size / n - 1),
    }


def run(options: Options) -> Iterator[Row]:
    """A row per structure and number of keys."""
    makers: dict[str, Callable[[int], Row | None]] = {
        "ribbon": lambda n: filter_row("ribbon", False, n, options),
        "bloomier": lambda n: filter_row("bloomier", False, n, options),
        "ribbon exact": lambda n: filter_row("ribbon", True, n, options),
        "range coder": lambda n: exact_coder_row(n, options),
        "numpy dictionary": lambda n: dictionary_row(n, options),
        "binary fuse filter": lambda n: fuse_row(n, options),
    }
    for n in _KEYS:
        for name, make in makers.items():
            if options.wants(f"{name} {n}"):
                row = make(n)
                if row is not None:
                    yield row
        keys_of.cache_clear()
