"""Memory that encoding takes beside its input, for one matrix of 25,600 x 1,024 (Linux).

Its rows lie near a space of 64 dimensions, so that a transform of the columns pays. Anonymous memory is looked at every
two milliseconds, from another thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from bench.suite import Options, Row

__all__ = ["run"]

_BYTES = 4 * 25_600 * 1_024
_ENCODE = """
import json, os, sys, threading, time, numpy as np, nncodec
from nncodec.codecs import Uniform

def used():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("RssAnon"))

rng = np.random.default_rng(0)
matrix = rng.standard_normal((25_600, 64), np.float32) @ rng.standard_normal((64, 1_024), np.float32) / 8
matrix += rng.standard_normal(matrix.shape, np.float32) / 5
codec = Uniform(transform="none") if sys.argv[1] == "uniform, no transform" else sys.argv[1]
budget = {} if codec == "lossless" else {"step": 0.1}
made = []

def encode():
    try:
        if sys.argv[2] == "encode":
            made.append(len(nncodec.encode({"w": matrix}, codec, threads=int(sys.argv[3]), **budget)))
        else:
            nncodec.save_file({"w": matrix}, sys.argv[4], codec, threads=int(sys.argv[3]), **budget)
            made.append(os.path.getsize(sys.argv[4]))
    except BaseException as error:
        made.append(error)

encoding = threading.Thread(target=encode)
before = most = used()
encoding.start()
while encoding.is_alive():
    most = max(most, used())
    time.sleep(0.002)
if isinstance(made[0], BaseException):
    raise made[0]
print(json.dumps({"bytes": made[0], "most": most - before}))
"""


def run(options: Options) -> Iterator[Row]:
    """A row per codec and function, as shares of the input; what ``encode`` takes includes the file it returns."""
    if sys.platform != "linux":
        options.note("memory is read from /proc: Linux only")
        return
    with tempfile.TemporaryDirectory() as folder:
        for codec, function in product(
            ("lossless", "uniform", "uniform, no transform", "trellis"), ("encode", "save_file")
        ):
            entry = f"{codec}: {function}"
            if not options.wants(entry):
                continue
            path = str(Path(folder) / "w.nncz")
            command = [sys.executable, "-c", _ENCODE, codec, function, str(options.threads), path]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout)
            yield {"entry": entry, "file": found["bytes"] / _BYTES, "beside input": found["most"] / _BYTES}
