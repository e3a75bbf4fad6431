"""Table look-up in plain Python. See docs/format.md, section "codebook"; packed indices: "Bit packing"."""

from __future__ import annotations

from collections.abc import Sequence

from nncodec.reference.bits import bitunpack

__all__ = ["run", "run_packed"]


def run(indices: Sequence[int], entries: bytes, entry_bytes: int) -> bytes:
    """The entries of these indices, one after the other."""
    return b"".join(entries[i * entry_bytes : (i + 1) * entry_bytes] for i in indices)


def run_packed(packed: bytes, bits: int, n: int, entries: bytes, entry_bytes: int) -> bytes:
    """The same for n packed indices of so many bits."""
    return run(bitunpack(packed, n, bits), entries, entry_bytes)
