"""All-gather of byte strings of different lengths, and agreement before anything of variable size is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist

from nncodec.errors import DecodeError, NNCodecError

__all__ = [
    "HEADER_BYTES",
    "DisagreementError",
    "Header",
    "gather_headers",
    "gather_payloads",
    "largest_payload",
    "transport_device",
]

_FIELDS = 3
HEADER_BYTES = 8 * _FIELDS
# More than a message and its length take beyond the elements: 10 of a varint, 46 of kind, scale, tables and states.
_MOST_OVERHEAD = 64


class DisagreementError(NNCodecError):
    """Ranks do not have the same tensors to exchange. Raised on every rank."""


class Header:
    """What each rank tells all others first.

    Attributes
    ----------
    fingerprint : int
        Of the tensors' sizes and type: must be the same on all ranks.
    failure : int
        0, or 1 + the place of the tensor that this rank cannot send.
    length : int
        Bytes of the payload.
    """

    def __init__(self, fingerprint: int, failure: int, length: int) -> None:
        self.fingerprint, self.failure, self.length = fingerprint, failure, length


def largest_payload(sizes: Iterable[int]) -> int:
    """A bound on the payload of tensors of these sizes in bytes: no message is longer than a raw one by much."""
    return sum(size + _MOST_OVERHEAD for size in sizes)


def transport_device(group: Any) -> torch.device:
    """Where the backend wants its tensors: the current GPU for NCCL, else the CPU."""
    if dist.get_backend(group) == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def gather_headers(mine: Header, group: Any, tensors: int, longest: int) -> list[Header]:
    """The headers of all ranks, in their order.

    Raises DisagreementError on every rank if fingerprints differ, DecodeError on every rank if a header names a place
    beyond ``tensors`` or a payload beyond ``longest`` bytes: before memory is taken for it.
    """
    device = transport_device(group)
    sent = torch.tensor([mine.fingerprint, mine.failure, mine.length], dtype=torch.int64, device=device)
    received = [torch.empty_like(sent) for _ in range(dist.get_world_size(group))]
    dist.all_gather(received, sent, group=group)
    headers = [Header(*fields.tolist()) for fields in received]
    odd = [rank for rank, header in enumerate(headers) if header.fingerprint != headers[0].fingerprint]
    if odd:
        raise DisagreementError(
            f"ranks {', '.join(map(str, odd))} of the group have tensors of other sizes or types than rank 0"
        )
    for rank, header in enumerate(headers):
        if not 0 <= header.failure <= tensors or not 0 <= header.length <= longest:
            raise DecodeError(
                f"rank {rank} of the group announces {header.length} bytes, failure {header.failure}"
            )
    return headers


def gather_payloads(mine: bytes | bytearray, lengths: list[int], group: Any) -> list[memoryview]:
    """The payloads of all ranks, whose lengths are known; on the wire all are as long as the longest."""
    device, longest = transport_device(group), max(lengths)
    sent = torch.zeros(longest, dtype=torch.uint8)
    if mine:
        sent[: len(mine)] = torch.frombuffer(bytearray(mine), dtype=torch.uint8)
    sent = sent.to(device)
    received = [torch.empty_like(sent) for _ in lengths]
    dist.all_gather(received, sent, group=group)
    return [
        memoryview(tensor.cpu().numpy())[:length].cast("B")
        for tensor, length in zip(received, lengths, strict=True)
    ]
