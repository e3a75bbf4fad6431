"""3LC for data-parallel training in PyTorch: small messages between workers, with error feedback.

``threelc_hook`` with ``ThreeLCState`` is a communication hook for ``DistributedDataParallel``; ``ParameterServer`` and
``ParameterServerWorker`` are the two-way scheme of the paper (Lim, Andersen, Kaminsky, arXiv:1802.07389). Importing
this package imports torch. See docs/distributed.md.
"""

from __future__ import annotations

import torch.distributed

if not torch.distributed.is_available():
    raise ImportError("nncodec.distributed needs a torch with torch.distributed; this one was built without")

from nncodec.distributed.compressor import Compressor, NonFiniteGradientError, Traffic
from nncodec.distributed.exchange import DisagreementError
from nncodec.distributed.hook import ThreeLCState, threelc_hook
from nncodec.distributed.parameter_server import ParameterServer, ParameterServerWorker

__all__ = [
    "Compressor",
    "DisagreementError",
    "NonFiniteGradientError",
    "ParameterServer",
    "ParameterServerWorker",
    "ThreeLCState",
    "Traffic",
    "threelc_hook",
]
