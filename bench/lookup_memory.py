"""Look-ups in a tensor of 100 million weights: memory of the process against the size of the file.

A tensor of float16, 10,000 x 10,000, of which 3 % are not zero, is written as codec ``weightless``. Another process
opens the file and looks up single weights all over it, then every weight of some rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.suite import Options, Row

__all__ = ["run"]

_WRITE = """
import sys, numpy as np, nncodec
from nncodec.codecs import Weightless
rng = np.random.default_rng(0)
tensor = np.zeros(100_000_000, np.float16)
keys = np.cumsum(rng.geometric(0.03, 2_990_000)) - 1
keys = keys[keys < tensor.size]
tensor[keys] = np.linspace(-1, 1, 4).astype(np.float16)[rng.integers(0, 4, keys.size)]
nncodec.save_file({"fc6.weight": tensor.reshape(10_000, 10_000)}, sys.argv[1], Weightless(int(sys.argv[2])))
np.save(sys.argv[3], np.stack([keys[::100], tensor[keys[::100]].astype(np.float64) * 16384]).astype(np.int64))
"""

_READ = """
import json, sys, time, numpy as np, nncodec

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

known = np.load(sys.argv[2], mmap_mode="r")
rng = np.random.default_rng(1)
places = rng.integers(0, 100_000_000, 400_000)
np.divmod(places[:10], 10)
before = peak()
with nncodec.open(sys.argv[1]) as file:
    table = file.lookup("fc6.weight")
    start = time.perf_counter()
    found = 0
    for at in range(0, places.size, 4000):
        rows, columns = np.divmod(places[at : at + 4000], 10_000)
        found += np.count_nonzero(table[rows, columns])
    single = time.perf_counter() - start
    right = all(
        (table[k // 10_000, k % 10_000].astype(np.float64) * 16384 == v).all()
        for k, v in (known[:, at : at + 4000] for at in range(0, known.shape[1], 4000))
    )
    start = time.perf_counter()
    for row in range(0, 10_000, 100):
        found += np.count_nonzero(table[row])
    whole = time.perf_counter() - start
times = {"ns": 1e9 * single / places.size, "row ns": 1e9 * whole / 1e6}
print(json.dumps({"bytes": peak() - before, "right": right, **times}))
"""


def run(options: Options) -> Iterator[Row]:
    """A row per number of bits of a cell."""
    with tempfile.TemporaryDirectory() as folder:
        path, known = Path(folder) / "x.nncz", Path(folder) / "known.npy"
        for bits in (6, 8):
            if not options.wants(f"cells of {bits} bits"):
                continue
            subprocess.run([sys.executable, "-c", _WRITE, str(path), str(bits), str(known)], check=True)
            done = subprocess.run(
                [sys.executable, "-c", _READ, str(path), str(known)],
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(done.stdout)
            yield {
                "entry": f"cells of {bits} bits",
                "file MB": path.stat().st_size / 1e6,
                "peak MB": found["bytes"] / 1e6,
                "peak / file": found["bytes"] / path.stat().st_size,
                "peak / tensor": found["bytes"] / 2e8,
                "weights right": str(found["right"]),
                "single ns": found["ns"],
                "row ns": found["row ns"],
            }
            path.unlink()
