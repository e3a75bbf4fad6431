"""Look-ups in a tensor of 100 million weights: memory of the process against the size of the file.

A tensor of float16, 10,000 x 10,000 or in a single row, of which 3 % are not zero, is written as codec ``weightless``.
Another process opens the file and looks up single weights all over it, at once and one by one, then runs of 10,000
neighbours.
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
nncodec.save_file({"fc6.weight": tensor.reshape(int(sys.argv[4]), -1)}, sys.argv[1], Weightless(int(sys.argv[2])))
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
    width = table.shape[1]
    start = time.perf_counter()
    found = 0
    for at in range(0, places.size, 4000):
        rows, columns = np.divmod(places[at : at + 4000], width)
        found += np.count_nonzero(table[rows, columns])
    single = time.perf_counter() - start
    start = time.perf_counter()
    for place in places[:1000].tolist():
        found += np.count_nonzero(table[place // width, place % width])
    alone = time.perf_counter() - start
    right = all(
        (table[k // width, k % width].astype(np.float64) * 16384 == v).all()
        for k, v in (known[:, at : at + 4000] for at in range(0, known.shape[1], 4000))
    )
    start = time.perf_counter()
    for at in range(0, 100_000_000, 1_000_000):
        found += np.count_nonzero(table[at // width, at % width : at % width + 10_000])
    whole = time.perf_counter() - start
times = {"ns": 1e9 * single / places.size, "alone us": 1e6 * alone / 1000, "row ns": 1e9 * whole / 1e6}
print(json.dumps({"bytes": peak() - before, "right": right, **times}))
"""


def run(options: Options) -> Iterator[Row]:
    """A row per number of bits of a cell and shape."""
    with tempfile.TemporaryDirectory() as folder:
        path, known = Path(folder) / "x.nncz", Path(folder) / "known.npy"
        for bits, rows in ((6, 10_000), (8, 10_000), (8, 1)):
            entry = f"cells of {bits} bits" + (", one row" if rows == 1 else "")
            if not options.wants(entry):
                continue
            written = [str(path), str(bits), str(known), str(rows)]
            subprocess.run([sys.executable, "-c", _WRITE, *written], check=True)
            done = subprocess.run(
                [sys.executable, "-c", _READ, str(path), str(known)],
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(done.stdout)
            yield {
                "entry": entry,
                "file MB": path.stat().st_size / 1e6,
                "peak MB": found["bytes"] / 1e6,
                "peak / file": found["bytes"] / path.stat().st_size,
                "peak / tensor": found["bytes"] / 2e8,
                "weights right": str(found["right"]),
                "single ns": found["ns"],
                "one by one us": found["alone us"],
                "row ns": found["row ns"],
            }
            path.unlink()
