"""CRC-32C, bit by bit. Bytes: docs/format.md, "Checksums"."""

from __future__ import annotations

__all__ = ["crc32c"]

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed


def crc32c(data: bytes, seed: int = 0) -> int:
    """Checksum of ``data``; ``seed`` is the checksum of what came before it."""
    crc = seed ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
