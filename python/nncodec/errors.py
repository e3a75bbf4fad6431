"""What can go wrong, in four classes.

Bad *input bytes* raise a subclass of :class:`NNCodecError`; bad *arguments* raise ``ValueError`` or ``TypeError``
naming the argument. Nothing else escapes from a decoder.
"""

from __future__ import annotations

__all__ = ["DecodeError", "LimitError", "NNCodecError", "VersionError"]


class NNCodecError(Exception):
    """Base of all errors about a bitstream.

    Attributes
    ----------
    cause : str
        What is wrong, without the place.
    offset : int | None
        Byte of the file where the damaged part starts.
    tensor : str | None
        Name of the tensor concerned.
    """

    def __init__(self, cause: str, *, offset: int | None = None, tensor: str | None = None) -> None:
        self.cause = cause
        self.offset = offset
        self.tensor = tensor
        super().__init__(cause)

    def __str__(self) -> str:
        place = []
        if self.tensor is not None:
            place.append(f"tensor {self.tensor!r}")
        if self.offset is not None:
            place.append(f"byte {self.offset}")
        return f"{', '.join(place)}: {self.cause}" if place else self.cause

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.cause, self.offset, self.tensor)


def _rebuild(kind: type[NNCodecError], cause: str, offset: int | None, tensor: str | None) -> NNCodecError:
    return kind(cause, offset=offset, tensor=tensor)


class DecodeError(NNCodecError):
    """The bytes are damaged, truncated, hostile, or no bitstream at all."""


class VersionError(NNCodecError):
    """The file was written by a newer version; says which one reads it."""


class LimitError(NNCodecError):
    """The file is well-formed but asks for more than the caller allows."""
