"""Which codec stores trained weights exactly in the fewest bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from nncodec.codecs import Codec

__all__ = ["smallest_exact"]

_FEW = 256  # distinct values, up to which context mixing is tried


def smallest_exact(weight: Tensor) -> str | Codec:
    """``"lossless"``, a codebook of all its values, or their table under context mixing.

    The tensor is encoded with each. One that nothing but a general codec can hold is ``"lossless"``.
    """
    import nncodec  # the engine is needed for files alone
    from nncodec.codecs.codebook import Codebook
    from nncodec.codecs.universal import UniversalExact

    values = weight.detach().cpu().contiguous()
    distinct = values.unique().numel()
    choices: list[str | Codec] = ["lossless"]
    if weight.is_floating_point() and distinct <= values.numel() // 4:
        choices += [Codebook()] if distinct <= 1 << 16 else []
        negative_zero = bool((values.signbit() & (values == 0)).any())
        choices += [UniversalExact()] if distinct <= _FEW and not negative_zero else []
    return min(choices, key=lambda codec: len(nncodec.encode({"w": values}, {"w": codec})))
