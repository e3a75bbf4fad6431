"""Which codec stores trained weights exactly in the fewest bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nncodec.train.base import codec_mapping

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["choices", "smallest_exact", "smallest_file"]

_FEW = 256  # distinct values, up to which context mixing is tried
_SMALL = 1 << 15


def choices(weight: Tensor) -> list[str | Codec]:
    """What can hold these values exactly: "lossless", a codebook of all of them, their table under context mixing."""
    from nncodec.codecs.codebook import Codebook
    from nncodec.codecs.universal import UniversalExact

    values = weight.detach()
    found: list[str | Codec] = ["lossless"]
    if not values.is_floating_point() or not values.numel():
        return found
    distinct = values.unique().numel()
    if distinct <= max(1, values.numel() // 4):
        negative_zero = bool((values.signbit() & (values == 0)).any())
        found += [Codebook()] if distinct <= 1 << 16 else []
        as_float32 = bool((values.float().to(values.dtype) == values).all())
        found += [UniversalExact()] if distinct <= _FEW and as_float32 and not negative_zero else []
    return found


def smallest_exact(weight: Tensor) -> str | Codec:
    """The codec of :func:`choices` that holds one tensor in the fewest bytes."""
    import nncodec  # the engine is needed for files alone

    found = choices(weight)
    if len(found) == 1:
        return found[0]
    values = weight.detach().cpu()
    return min(found, key=lambda codec: len(nncodec.encode({"w": values}, {"w": codec})))


def smallest_file(state: Mapping[str, Any], *, thorough: bool = True) -> dict[str, str | Codec]:
    """The ``codec=`` that makes the smallest file of tensors of few values.

    Tensor by tensor; then, for files of up to :data:`_SMALL` bytes, each again while the others have theirs, since
    small tensors of one codec share a record (``thorough``).
    """
    import nncodec

    options = {name: choices(value) for name, value in state.items() if isinstance(value, Tensor)}
    chosen = {name: smallest_exact(state[name]) for name, found in options.items() if len(found) > 1}

    def size(of: Mapping[str, str | Codec]) -> int:
        return len(nncodec.encode(state, codec_mapping(of)))

    if not thorough:
        return codec_mapping(chosen)
    best = size(chosen)
    starts = [{}, dict(chosen)] if best <= _SMALL else []
    for start in starts:
        current, length = dict(start), size(start)
        for name in options:
            for codec in options[name]:
                trial = {**current, name: codec}
                if codec == "lossless":
                    del trial[name]
                if (made := size(trial)) < length:
                    current, length = trial, made
        if length < best:
            chosen, best = current, length
    return codec_mapping(chosen)
