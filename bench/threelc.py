"""3LC: speed of whole messages against memcpy, rates against closed forms and entropies.

"encode" is everything a sender does: sum and largest, quantise with residual, pack, code. "decode" is the reverse, with
multiplication and addition to the output. Gradients are independent Laplacian values under error feedback, after 100
steps. Speeds are in bytes of the tensor. "closed form" is that of zero runs of independent digits, "entropy" that of
the digits, both in bits per value.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from bench.suite import Options, Row
from bench.timing import memcpy_of, take_turns
from nncodec import _core
from nncodec.reference import ternary as twin
from nncodec.reference import zero_run as zero_run_twin

__all__ = ["run"]

_FLOAT32 = 2
_STEPS = 100
_TWIN_N = 2000


def _gradient(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.laplace(size=n).astype(np.float32)


def _steady(n: int, s: float, layout: str) -> tuple[np.ndarray, np.ndarray]:
    """A gradient and the residual that it meets."""
    rng = np.random.default_rng(1)
    residual = np.zeros(n, np.float32)
    few = [_gradient(rng, n) for _ in range(8)]
    for step in range(_STEPS):
        _core.ternary_compress(few[step % 8], _FLOAT32, residual, s, layout, "zero_run")
    return _gradient(rng, n), residual


def _twin(values: list[float], residual: list[float], s: float, layout: str) -> None:
    scale = twin.scale_of(twin.absmax(values, residual), s)
    zero_run_twin.encode(twin.pack(twin.quantise(values, residual, scale)[0], layout))


def _row(n: int, s: float, layout: str, entropy: str, options: Options) -> Row:
    values, start = _steady(n, s, layout)
    residual, out = start.copy(), np.zeros(n, np.float32)
    message = _core.ternary_compress(values, _FLOAT32, residual, s, layout, entropy)
    assert message is not None
    _core.ternary_decompress(message, out, _FLOAT32)
    share = np.count_nonzero(out) / n
    q = (1 - share) ** 5
    digits = np.array([1 - share, share / 2, share / 2])
    head, left = values[:_TWIN_N].tolist(), start[:_TWIN_N].tolist()

    def encode() -> None:
        # From the same residual each time, or it would drift to where nothing is quantised any more.
        residual[:] = start
        _core.ternary_compress(values, _FLOAT32, residual, s, layout, entropy)

    copy, restore, both, decode, twin_s = take_turns(
        [
            memcpy_of(4 * n),
            lambda: np.copyto(residual, start),
            encode,
            lambda: _core.ternary_decompress(message, out, _FLOAT32, 0.5, True),
            lambda: _twin(head, left, s, layout),
        ],
        options.rounds,
    )
    encode_s = both.median - restore.median
    return {
        "entry": f"{4 * n >> 20} MiB s={s} {layout} {entropy}",
        "encode MB/s": 4 * n / encode_s / 1e6,
        "encode x memcpy": copy.median / encode_s,
        "encode x twin": twin_s.median / _TWIN_N / (encode_s / n),
        "decode MB/s": decode.mb_per_s(4 * n),
        "decode x memcpy": copy.median / decode.median,
        "% not zero": 100 * share,
        "bits": 8 * len(message) / n,
        "closed form": 1.6 * (1 - q) * (1 + q / (1 - q**14)),
        "entropy": float(-(digits * np.log2(digits)).sum()),
    }


def run(options: Options) -> Iterator[Row]:
    """One row per size, sparsity multiplier, layout and coder."""
    for n, s, layout, entropy in product(
        (1 << 18, 1 << 22), (1.0, 1.75), ("consecutive", "planar"), ("zero_run", "rans")
    ):
        if options.wants(f"{4 * n >> 20} MiB s={s} {layout} {entropy}"):
            yield _row(n, s, layout, entropy, options)
