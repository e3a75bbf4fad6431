"""What the kernels suite needs to know of a kernel."""

from __future__ import annotations

from dataclasses import dataclass

from bench.timing import Call

__all__ = ["Kernel"]


@dataclass(frozen=True)
class Kernel:
    """One entry of the suite.

    Attributes
    ----------
    name : str
        Kernel and direction: ``rans decode``.
    run : callable
        One call into the engine. Buffers are made outside.
    n_bytes : int
        Bytes of the uncompressed side that one call handles.
    twin : callable
        One call of the plain-Python twin on the same kind of data.
    twin_bytes : int
        Bytes that call handles: fewer, for twins are slow.
    per_isa : bool
        Whether the kernel has versions for several instruction sets.
    """

    name: str
    run: Call
    n_bytes: int
    twin: Call
    twin_bytes: int
    per_isa: bool = False
