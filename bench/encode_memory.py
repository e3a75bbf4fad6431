"""Memory that encoding takes beside its input, the file included, for one matrix of 25,600 x 1,024 (Linux).

Its rows lie near a space of 64 dimensions, so that a transform of the columns pays. Anonymous memory is looked at every
two milliseconds, from another thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from bench.suite import Options, Row

__all__ = ["run"]

_BYTES = 4 * 25_600 * 1_024
_ENCODE = """
import json, sys, threading, time, numpy as np, nncodec
from nncodec.codecs import Uniform

def used():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("RssAnon"))

rng = np.random.default_rng(0)
matrix = rng.standard_normal((25_600, 64), np.float32) @ rng.standard_normal((64, 1_024), np.float32) / 8
matrix += rng.standard_normal(matrix.shape, np.float32) / 5
codec = Uniform(transform="none") if sys.argv[1] == "uniform, no transform" else sys.argv[1]
budget = {} if codec == "lossless" else {"step": 0.1}
made = []
encoding = threading.Thread(
    target=lambda: made.append(nncodec.encode({"w": matrix}, codec, threads=int(sys.argv[2]), **budget))
)
before = most = used()
encoding.start()
while encoding.is_alive():
    most = max(most, used())
    time.sleep(0.002)
print(json.dumps({"bytes": len(made[0]), "most": most - before}))
"""


def run(options: Options) -> Iterator[Row]:
    """A row per codec; ``beside input`` is the share of the input that was taken beside it, ``file`` is in it."""
    if sys.platform != "linux":
        options.note("memory is read from /proc: Linux only")
        return
    for codec in ("lossless", "uniform", "uniform, no transform", "trellis"):
        if not options.wants(codec):
            continue
        command = [sys.executable, "-c", _ENCODE, codec, str(options.threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        yield {"codec": codec, "file": found["bytes"] / _BYTES, "beside input": found["most"] / _BYTES}
