"""ENC without a gradient step: the paper's uniform ranks and ENC-Map, and the default, at equal multiplications."""

from __future__ import annotations

import time
from collections.abc import Iterator

from torch.nn import functional as F

from bench.networks.common import row, subject
from bench.suite import Options, Row
from bench.training.families import METHODS, SHARES
from nncodec.train import ENC

__all__ = ["rows"]

_EXAMPLES = 512


def rows(options: Options) -> Iterator[Row]:
    for share in SHARES:
        for method, settings in METHODS.items():
            entry = f"enc/resnet20_cifar10/{100 * share:g}-{method.replace(', ', '-')}"
            if not options.wants(entry):
                continue
            of = subject("resnet20_cifar10", options)
            if of is None:
                return
            start = time.process_time()
            result = ENC(share, examples=_EXAMPLES, **settings).fit(of.model, of.plain(128), F.cross_entropy)
            more = {"macs": result.history[0]["cost"], "cpu s": time.process_time() - start}
            yield row(entry, of, result.model, result.codec, **more)
