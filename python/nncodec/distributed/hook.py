"""3LC as a communication hook of DistributedDataParallel.

Annotations are not deferred here: DistributedDataParallel compares those of the hook with the types themselves.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist

from nncodec._core import crc32c
from nncodec.container.fields import FieldReader, FieldWriter
from nncodec.distributed.buffers import DTYPE_CODES
from nncodec.distributed.compressor import (
    Compressor,
    NonFinite,
    NonFiniteGradientError,
    Traffic,
    read_message,
)
from nncodec.distributed.exchange import (
    HEADER_BYTES,
    Header,
    gather_headers,
    gather_payloads,
    largest_payload,
)

__all__ = ["ThreeLCState", "threelc_hook"]

_VERSION = 1


class ThreeLCState:
    """What :func:`threelc_hook` keeps between steps: a residual per parameter, counters.

    Parameters
    ----------
    sparsity_multiplier : float
        s in [1, 2): larger is sparser.
    process_group : optional
        That of the DistributedDataParallel; None: the default group.
    warmup_steps : int
        Steps whose gradients are averaged as they are, by an all-reduce, before 3LC begins.
    min_numel : int
        Parameters of fewer elements are sent as they are, beside the messages of others.
    entropy : {"rans", "zero_run"}
        rANS is about half the size, zero runs (the paper's) are faster.
    layout : {"consecutive", "planar"}
        Which elements share a byte; see :class:`nncodec.codecs.Ternary`.
    nonfinite : {"raise", "skip", "raw"}
        For gradients with NaN or infinite elements. ``raise``: NonFiniteGradientError, on all ranks, naming the
        parameter; what other ranks had to send stays in their residuals. ``skip``: that rank's share of that
        parameter is 0 in this step. ``raw``: sent as it is, for loss scaling that looks for infinities.
    named_parameters : iterable of (str, torch.nn.Parameter), optional
        ``model.named_parameters()``: names for errors and for :meth:`state_dict`. Without it, parameters are
        numbered in the order in which they first come.

    Notes
    -----
    Each rank has a state of its own, and its residuals are its own: save one file per rank.
    """

    def __init__(
        self,
        sparsity_multiplier: float = 1.0,
        process_group: Any = None,
        warmup_steps: int = 0,
        min_numel: int = 256,
        entropy: Literal["rans", "zero_run"] = "rans",
        *,
        layout: Literal["consecutive", "planar"] = "consecutive",
        nonfinite: NonFinite = "raise",
        named_parameters: Iterable[tuple[str, torch.nn.Parameter]] | None = None,
    ) -> None:
        if isinstance(warmup_steps, bool) or not isinstance(warmup_steps, int) or warmup_steps < 0:
            raise ValueError(f"warmup_steps must be an integer of at least 0, got {warmup_steps!r}")
        self.compressor = Compressor(sparsity_multiplier, entropy, layout, min_numel, nonfinite)
        self.process_group = process_group
        self.warmup_steps = warmup_steps
        self.step = 0
        # Buckets are rebuilt after the first step, so a parameter is known by itself and never by its place.
        self._names: dict[int, tuple[torch.Tensor, str]] = {}
        if named_parameters is not None:
            self.set_names(named_parameters)

    @property
    def traffic(self) -> Traffic:
        """Byte counters of this rank."""
        return self.compressor.traffic

    @property
    def residuals(self) -> Mapping[str, torch.Tensor]:
        """What was not sent yet, by parameter: float32, flat."""
        return self.compressor.residuals

    def set_names(self, named_parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> None:
        """Name parameters, as the argument ``named_parameters`` does: for a state that was unpickled.

        The prefix "module." goes where all names have it: those of a DistributedDataParallel.
        """
        named = list(named_parameters)
        if len({name for name, _ in named}) < len(named):
            raise ValueError("named_parameters has a name twice")
        wrapped = all(name.startswith("module.") for name, _ in named)
        self._names = {
            id(parameter): (parameter, name.removeprefix("module.") if wrapped else name)
            for name, parameter in named
        }

    def name_of(self, parameter: torch.Tensor) -> str:
        """The parameter's name, or a number by order of appearance."""
        known = self._names.get(id(parameter))
        if known is None:
            known = (parameter, f"parameter {len(self._names)}")
            self._names[id(parameter)] = known
        return known[1]

    def state_dict(self) -> dict[str, Any]:
        """Everything that a restarted run needs to go on bit by bit; tensors and numbers only."""
        return {"version": _VERSION, "step": self.step} | self.compressor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What :meth:`state_dict` gave on this rank."""
        if state.get("version") != _VERSION:
            raise ValueError(f"state has version {state.get('version')!r}, this reads {_VERSION}")
        for parameter, name in self._names.values():
            residual = state["residuals"].get(name)
            if residual is not None and residual.numel() != parameter.numel():
                raise ValueError(
                    f"{name!r} has {parameter.numel()} elements, its residual {residual.numel()}"
                )
        self.compressor.load_state_dict(state)
        self.step = int(state["step"])

    def __getstate__(self) -> dict[str, Any]:
        """A process group and parameters are not pickled; whoever unpickles sets ``process_group`` and names again."""
        return self.__dict__ | {"process_group": None, "_names": {}}


def threelc_hook(state: ThreeLCState, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Average a bucket's gradients over all ranks through 3LC messages.

    Used as ``ddp.register_comm_hook(state, threelc_hook)``. Every rank sends its messages to all others and sums all of
    them in the order of ranks, so that all ranks end with the same bits. The future that comes back is completed
    already: gradients are exchanged while the backward pass waits.

    Raises
    ------
    NonFiniteGradientError
        On every rank, as ``state.nonfinite`` says.
    DisagreementError
        On every rank, when ranks have buckets of different sizes or types.
    DecodeError
        On every rank, when a rank announces what cannot be.
    TypeError
        For sparse gradients.
    """
    if bucket.buffer().layout != torch.strided:
        raise TypeError("threelc_hook takes dense gradients; this bucket's are sparse")
    group = state.process_group if state.process_group is not None else dist.group.WORLD
    world = dist.get_world_size(group)
    buffer = bucket.buffer()
    if state.step < state.warmup_steps or buffer.dtype not in DTYPE_CODES:
        buffer.div_(world)
        dist.all_reduce(buffer, group=group)
        state.traffic.uncompressed += buffer.numel() * buffer.element_size()
    else:
        _average(state, bucket, buffer, group, world)
    if bucket.is_last():
        state.step += 1
    done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    done.set_result(buffer)
    return done


def _average(state: ThreeLCState, bucket: Any, buffer: torch.Tensor, group: Any, world: int) -> None:
    staged = buffer if buffer.device.type == "cpu" else buffer.cpu()
    names, slices = [], []
    for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
        first = gradient.storage_offset() - buffer.storage_offset()
        names.append(state.name_of(parameter))
        slices.append(staged[first : first + gradient.numel()])

    messages, failure, cause = _messages(state.compressor, names, slices)
    payload = FieldWriter()
    for message in messages:
        payload.block(message)
    sizes = repr([(staged.dtype, piece.numel()) for piece in slices]).encode()
    length = len(payload.data)
    try:
        longest = largest_payload(piece.numel() * piece.element_size() for piece in slices)
        headers = gather_headers(Header(crc32c(sizes), failure, length), group, len(slices), longest)
        failed = [rank for rank, header in enumerate(headers) if header.failure]
        if failed:
            place = headers[failed[0]].failure - 1
            raise NonFiniteGradientError(
                f"the gradient has NaN or infinite elements on rank {', '.join(map(str, failed))} of the group",
                tensor=names[place],
            ) from cause
        payloads = gather_payloads(payload.data, [header.length for header in headers], group)
    except BaseException:
        for name, message in zip(names, messages, strict=False):
            state.compressor.take_back(name, message)
        raise
    state.traffic.framing += HEADER_BYTES + length - sum(map(len, messages))
    for rank, received in enumerate(payloads):
        reader = FieldReader(received, 0)
        for piece in slices:
            read_message(reader.block("message"), piece, 1.0 / world, rank > 0)
        reader.end("payload")
    if staged is not buffer:
        buffer.copy_(staged)


def _messages(
    compressor: Compressor, names: list[str], slices: list[torch.Tensor]
) -> tuple[list[bytes], int, NonFiniteGradientError | None]:
    """Messages up to the first tensor that cannot be sent, and 1 + its place (0: all can)."""
    messages: list[bytes] = []
    for place, (name, piece) in enumerate(zip(names, slices, strict=True)):
        try:
            # DistributedDataParallel does not hand out the average of a parameter that no rank has used in this step
            # (find_unused_parameters), so what its residual sent now would be lost.
            if name in compressor.residuals and not _any(piece):
                messages.append(compressor.nothing(piece))
            else:
                messages.append(compressor.message(name, piece))
        except NonFiniteGradientError as error:
            return messages, place + 1, error
    return messages, 0, None


def _any(piece: torch.Tensor) -> bool:
    """Whether an element is not 0; the first nearly always tells."""
    return bool(piece[:64].any()) or bool(piece.any())
