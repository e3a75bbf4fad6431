"""How much memory a decoder may be talked into, and on how many threads it runs."""

from __future__ import annotations

import os

from nncodec.errors import LimitError

__all__ = ["check_limit", "check_threads", "default_max_bytes"]

_FALLBACK = 1 << 34


def default_max_bytes() -> int:
    """Bytes of physical memory of this machine; 16 GiB where it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _FALLBACK


def check_limit(
    size: int, max_bytes: int | None, *, tensor: str | None = None, offset: int | None = None
) -> None:
    """Raise LimitError if ``size`` decoded bytes are more than allowed (None: physical memory)."""
    if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int)):
        raise TypeError(f"max_bytes must be a whole number or None, not {max_bytes!r}")
    limit = default_max_bytes() if max_bytes is None else max_bytes
    if size > limit:
        raise LimitError(
            f"decoding takes {size} bytes, the limit is {limit} (argument max_bytes)",
            tensor=tensor,
            offset=offset,
        )


def check_threads(threads: int | None) -> int:
    """Number of threads for the engine: 0 for all cores."""
    if threads is None:
        return 0
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads must be a whole number or None, not {threads!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return threads
