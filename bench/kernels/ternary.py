"""cpp/quantize, cpp/entropy: three-value quantiser and its codes; one value in fifteen is not zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.kernels.kernel import Kernel
from nncodec import _core
from nncodec.reference import ternary, ternary_rans, zero_run

_FLOAT32 = 2
_N, _TWIN_N = 1 << 18, 2000


def kernels() -> Iterator[Kernel]:
    rng = np.random.default_rng(1)
    values = (rng.laplace(size=_N) / 40).astype(np.float32)
    values[::997] = 0.25  # sets the scale: quantising again and again leaves as many digits that are not zero
    residual, packed, out = (
        np.zeros(_N, np.float32),
        np.empty(-(-_N // 5), np.uint8),
        np.zeros(_N, np.float32),
    )
    head = values[:_TWIN_N].tolist()
    left = [0.0] * _TWIN_N
    scale = 0.25
    digits, _ = ternary.quantise(head, left, scale)
    few = ternary.pack(digits, "planar")
    yield Kernel(
        "ternary accumulate, largest",
        lambda: _core.ternary_absmax(values, _FLOAT32, residual), values.nbytes,
        lambda: ternary.absmax(head, left), 4 * _TWIN_N, per_isa=True,
    )  # fmt: skip
    for layout in ("planar", "consecutive"):
        yield Kernel(
            f"ternary quantise, residual, pack {layout}",
            lambda order=layout: _core.ternary_quantise(values, _FLOAT32, residual, scale, order, packed),
            values.nbytes,
            lambda order=layout: ternary.pack(ternary.quantise(head, left, scale)[0], order),
            4 * _TWIN_N,
            per_isa=True,
        )
        yield Kernel(
            f"ternary unpack, multiply, add {layout}",
            lambda order=layout: _core.ternary_expand(packed, out, _FLOAT32, 1e-6, order, True),
            values.nbytes,
            lambda order=layout: ternary.expand(few, head, scale, order, True),
            4 * _TWIN_N,
            per_isa=True,
        )
    _core.ternary_quantise(values, _FLOAT32, None, scale, "consecutive", packed)
    few = packed[: _TWIN_N // 5].tobytes()
    coded, few_coded = _core.zero_run_encode(packed), zero_run.encode(few)
    yield Kernel(
        "zero runs encode", lambda: _core.zero_run_encode(packed), values.nbytes,
        lambda: zero_run.encode(few), 4 * _TWIN_N,
    )  # fmt: skip
    yield Kernel(
        "zero runs decode", lambda: _core.zero_run_decode(coded, packed.size), values.nbytes,
        lambda: zero_run.decode(few_coded, len(few)), 4 * _TWIN_N,
    )  # fmt: skip
    stream, few_stream = _core.ternary_rans_encode(packed), ternary_rans.encode(few)
    yield Kernel(
        "ternary rans encode", lambda: _core.ternary_rans_encode(packed), values.nbytes,
        lambda: ternary_rans.encode(few), 4 * _TWIN_N,
    )  # fmt: skip
    yield Kernel(
        "ternary rans decode", lambda: _core.ternary_rans_decode(stream, packed), values.nbytes,
        lambda: ternary_rans.decode(few_stream, len(few)), 4 * _TWIN_N,
    )  # fmt: skip
