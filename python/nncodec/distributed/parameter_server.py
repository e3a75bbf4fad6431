"""The paper's two-way scheme: workers push compressed gradients, a server shares one compressed model delta.

Each direction has residuals of its own. The server keeps, besides its parameters, a replica of what all workers hold;
what it has not sent yet is their difference, so that rounding cannot make the two drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist

from nncodec._core import crc32c
from nncodec.container.fields import FieldReader, FieldWriter
from nncodec.distributed.buffers import dtype_code
from nncodec.distributed.compressor import (
    Compressor,
    NonFinite,
    NonFiniteGradientError,
    Traffic,
    read_message,
)
from nncodec.distributed.exchange import HEADER_BYTES, DisagreementError, Header, largest_payload
from nncodec.errors import DecodeError, NNCodecError

__all__ = ["ParameterServer", "ParameterServerWorker"]

# In a server's header, instead of the place of a tensor: why nobody may go on.
_NOT_FINITE, _DISAGREES, _CANNOT = -1, -2, -3
_MAX_STRANGE_PAYLOAD = 1 << 30  # of a peer with other parameters, read so that it can be told
_HEADER_TAG, _PAYLOAD_TAG = 3, 4


class _Peer:
    """Named parameters, and headers and payloads over point-to-point messages."""

    def __init__(
        self, named_parameters: Iterable[tuple[str, torch.nn.Parameter]], process_group: Any
    ) -> None:
        self.parameters = {name: p for name, p in named_parameters if p.requires_grad}
        for name, parameter in self.parameters.items():
            dtype_code(parameter.dtype)
            if parameter.device.type != "cpu" or not parameter.is_contiguous():
                raise ValueError(f"{name!r} must be contiguous and on the CPU")
        self.group = process_group
        sizes = [(name, p.dtype, p.numel()) for name, p in self.parameters.items()]
        self.fingerprint = crc32c(repr(sizes).encode())
        self.longest = largest_payload(p.numel() * p.element_size() for p in self.parameters.values())

    def send(self, rank: int, failure: int, payload: bytes | bytearray) -> None:
        """A header, and the payload unless something failed."""
        header = torch.tensor([self.fingerprint, failure, len(payload)], dtype=torch.int64)
        dist.send(header, rank, group=self.group, tag=_HEADER_TAG)
        if failure == 0:
            dist.send(_as_tensor(payload), rank, group=self.group, tag=_PAYLOAD_TAG)

    def receive(self, rank: int, failures: range) -> tuple[Header, memoryview]:
        """What :meth:`send` sent; an empty payload where something failed, for a reason in ``failures``.

        Raises DecodeError before it takes memory for more than there can be.
        """
        fields = torch.empty(3, dtype=torch.int64)
        dist.recv(fields, rank, group=self.group, tag=_HEADER_TAG)
        header = Header(*fields.tolist())
        received = torch.empty(0, dtype=torch.uint8)
        known = header.fingerprint == self.fingerprint
        longest = self.longest if known else _MAX_STRANGE_PAYLOAD
        if not 0 <= header.length <= longest or (known and header.failure not in failures):
            raise DecodeError(f"rank {rank} announces {header.length} bytes, failure {header.failure}")
        if header.failure == 0:
            received = torch.empty(header.length + 1, dtype=torch.uint8)
            dist.recv(received, rank, group=self.group, tag=_PAYLOAD_TAG)
        return header, memoryview(received.numpy())[: max(0, received.numel() - 1)]


def _as_tensor(payload: bytes | bytearray) -> torch.Tensor:
    """A byte more than the payload, for there are no empty messages."""
    return torch.frombuffer(bytearray(payload) + b"\0", dtype=torch.uint8)


class ParameterServer:
    """The server: averages the workers' gradients, lets an optimizer act on them, shares the change of the model.

    Parameters
    ----------
    named_parameters : iterable of (str, torch.nn.Parameter)
        ``model.named_parameters()``; the workers' must have the same names, sizes and initial values.
    optimizer : torch.optim.Optimizer
        Over these parameters. The caller may change its learning rate between steps.
    workers : sequence of int
        Their ranks, in the order in which gradients are summed.
    sparsity_multiplier, entropy, layout, min_numel
        Of the messages to the workers; see :class:`Compressor`.
    process_group : optional
        None: the default group. Its timeout bounds every wait.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
        optimizer: torch.optim.Optimizer,
        workers: Sequence[int],
        *,
        sparsity_multiplier: float = 1.0,
        entropy: Literal["rans", "zero_run"] = "rans",
        layout: Literal["consecutive", "planar"] = "consecutive",
        min_numel: int = 256,
        process_group: Any = None,
    ) -> None:
        if not workers:
            raise ValueError("workers must name at least one rank")
        self._peer = _Peer(named_parameters, process_group)
        self._optimizer = optimizer
        self._workers = tuple(workers)
        self._compressor = Compressor(sparsity_multiplier, entropy, layout, min_numel)
        self.replica = {name: p.detach().clone() for name, p in self._peer.parameters.items()}

    @property
    def traffic(self) -> Traffic:
        """Byte counters of the message that all workers share, counted once."""
        return self._compressor.traffic

    def step(self) -> None:
        """Receive a gradient from every worker, update the parameters, send what changed to every worker.

        Raises
        ------
        NonFiniteGradientError
            A worker's gradient cannot be used; every worker raises, too, and nothing was changed.
        DisagreementError
            A worker has other parameters; every worker raises, too.
        DecodeError
            A worker's message is not well; every worker raises NNCodecError, too.

        Whatever else goes wrong here, as in the optimizer, is raised once every worker was told to raise NNCodecError.
        NonFiniteGradientError without a rank: the optimizer has made parameters that are not finite.
        """
        received: list[tuple[Header, memoryview]] = []
        well, refused = [], None
        for rank in self._workers:
            try:
                received.append(self._peer.receive(rank, range(len(self._peer.parameters) + 1)))
                well.append(rank)
            except DecodeError as error:  # that rank may still be sending, and would not listen
                refused = error
        if refused is not None:
            self._tell(well, _CANNOT)
            raise refused
        self._stop_unless_usable([header for header, _ in received])
        try:
            shared = self._act_on([payload for _, payload in received])
        except BaseException:
            self._tell(well, _CANNOT)
            raise
        self.traffic.framing += HEADER_BYTES
        for rank in self._workers:
            self._peer.send(rank, 0, shared)

    def _act_on(self, payloads: list[memoryview]) -> bytearray:
        """Average, optimise; what every worker is to add."""
        for place, payload in enumerate(payloads):
            reader = FieldReader(payload, 0)
            for parameter in self._peer.parameters.values():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                read_message(reader.block("message"), parameter.grad, 1.0 / len(payloads), place > 0)
            reader.end("payload")
        self._optimizer.step()

        # All messages first: the replica must not run ahead of the workers if one cannot be made.
        messages = {
            name: self._compressor.message(name, parameter.detach() - self.replica[name], fed_back=False)
            for name, parameter in self._peer.parameters.items()
        }
        shared = FieldWriter()
        for name, message in messages.items():
            read_message(message, self.replica[name], 1.0, True)
            shared.block(message)
        return shared.data

    def _tell(self, ranks: Sequence[int], failure: int) -> None:
        for rank in ranks:
            self._peer.send(rank, failure, b"")

    def _stop_unless_usable(self, headers: list[Header]) -> None:
        odd = [
            rank
            for rank, header in zip(self._workers, headers, strict=True)
            if header.fingerprint != self._peer.fingerprint
        ]
        failed = [
            (rank, header) for rank, header in zip(self._workers, headers, strict=True) if header.failure
        ]
        if not odd and not failed:
            return
        self._tell(self._workers, _DISAGREES if odd else _NOT_FINITE)
        if odd:
            raise DisagreementError(f"ranks {', '.join(map(str, odd))} have other parameters than the server")
        rank, header = failed[0]
        name = list(self._peer.parameters)[header.failure - 1]
        raise NonFiniteGradientError(f"the gradient has NaN or infinite elements on rank {rank}", tensor=name)

    def state_dict(self) -> dict[str, Any]:
        """The replica and counters; parameters and optimizer are the caller's."""
        return {
            "replica": {name: t.clone() for name, t in self.replica.items()}
        } | self._compressor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What :meth:`state_dict` gave."""
        for name, tensor in state["replica"].items():
            self.replica[name].copy_(tensor)
        self._compressor.load_state_dict(state)


class ParameterServerWorker:
    """A worker: pushes its gradient, pulls what changed.

    Parameters
    ----------
    named_parameters : iterable of (str, torch.nn.Parameter)
    server : int
        The server's rank.
    sparsity_multiplier, entropy, layout, min_numel, nonfinite
        Of the gradients' messages; see :class:`Compressor`.
    process_group : optional
        None: the default group. Its timeout bounds every wait.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
        server: int,
        *,
        sparsity_multiplier: float = 1.0,
        entropy: Literal["rans", "zero_run"] = "rans",
        layout: Literal["consecutive", "planar"] = "consecutive",
        min_numel: int = 256,
        nonfinite: NonFinite = "raise",
        process_group: Any = None,
    ) -> None:
        self._peer = _Peer(named_parameters, process_group)
        self._server = server
        self._compressor = Compressor(sparsity_multiplier, entropy, layout, min_numel, nonfinite)

    @property
    def traffic(self) -> Traffic:
        """Byte counters of what this worker sent."""
        return self._compressor.traffic

    def step(self) -> None:
        """Send the gradients of the backward pass that is done (none counts as 0); add what the server sends back.

        Raises NonFiniteGradientError or DisagreementError when this or another worker cannot go on; parameters
        are then unchanged.
        """
        payload, sent, failure = FieldWriter(), [], 0
        cause: NonFiniteGradientError | None = None
        for place, (name, parameter) in enumerate(self._peer.parameters.items()):
            gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            try:
                message = self._compressor.message(name, gradient.contiguous())
            except NonFiniteGradientError as error:
                failure, cause = place + 1, error
                break
            sent.append((name, message))
            payload.block(message)
        self.traffic.framing += HEADER_BYTES
        try:
            self._peer.send(self._server, failure, payload.data)
            header, received = self._peer.receive(self._server, range(_CANNOT, 1))
            if header.failure == _DISAGREES or header.fingerprint != self._peer.fingerprint:
                raise DisagreementError("the server and its workers do not have the same parameters")
            if header.failure == _CANNOT:
                raise NNCodecError("the server cannot go on; it says why")
            if header.failure:
                raise cause or NonFiniteGradientError(
                    "a gradient of another worker has NaN or infinite elements"
                )
        except BaseException:
            for name, message in sent:
                self._compressor.take_back(name, message)
            raise
        reader = FieldReader(received, 0)
        for parameter in self._peer.parameters.values():
            read_message(reader.block("message"), parameter, 1.0, True)
        reader.end("payload")

    def state_dict(self) -> dict[str, Any]:
        """Residuals and counters."""
        return self._compressor.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What :meth:`state_dict` gave."""
        self._compressor.load_state_dict(state)
