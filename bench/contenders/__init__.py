"""Other codecs behind one small interface, so that suites can put their figures beside ours."""

from __future__ import annotations

from collections.abc import Callable

from bench.contenders.contender import Contender, Unavailable
from bench.contenders.general import OpenZL, ZipNN, Zstandard
from bench.contenders.nnc import NNC

__all__ = ["ALL", "NNC", "Contender", "OpenZL", "Unavailable", "ZipNN", "Zstandard", "available"]

ALL: tuple[Callable[[], Contender], ...] = (NNC, Zstandard, ZipNN, OpenZL)


def available() -> tuple[list[Contender], list[str]]:
    """The contenders that can run here, and the reasons why the others cannot."""
    found: list[Contender] = []
    reasons: list[str] = []
    for make in ALL:
        try:
            found.append(make())
        except Unavailable as reason:
            reasons.append(str(reason))
    return found, reasons
