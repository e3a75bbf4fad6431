"""Lattices x dither x coders x symbols on i.i.d. sources and on the networks of the data folder.

``--only 'theory*'`` measures the gap to the rate-distortion function at high rate and the table of signal-to-noise
ratios at equal entropy; ``'iid*'`` compares the universal coders with order-0 entropy; ``'NETWORK*'`` quantises a
network and codes it with every coder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from bench.datasets import networks, read_safetensors
from bench.suite import Options, Row
from nncodec import _core
from nncodec.codecs import Universal
from nncodec.codecs.base import Part, Setting

Floats = NDArray[np.float64]

_LATTICES = {"z": 1, "a2": 2, "d4": 4, "e8": 8, "leech": 24}
_GAPS = {"z": 0.2546, "a2": 0.2269, "d4": 0.1939, "e8": 0.1460, "leech": 0.0839}
# Signal-to-noise ratios in dB at equal entropy: centroids, best dead zone, dithered, with Wiener factor.
_PUBLISHED = {
    ("laplacian", 0.25): (1.73, 1.73, -9.55, 0.46),
    ("laplacian", 0.5): (3.12, 3.13, -3.53, 1.60),
    ("laplacian", 1.0): (5.77, 5.82, 2.75, 4.60),
    ("laplacian", 1.5): (8.49, 8.55, 6.99, 7.78),
    ("laplacian", 2.0): (11.33, 11.37, 10.56, 10.93),
    ("laplacian", 3.0): (17.21, 17.22, 17.01, 17.09),
    ("laplacian", 4.0): (23.19, 23.19, 23.14, 23.16),
    ("gaussian", 1.0): (4.58, None, 2.59, 4.49),
    ("gaussian", 2.0): (10.51, None, 10.10, 10.51),
}
_CODERS = ("mixing", "lzw", "deflate", "bzip2", "lzma")
_NETWORKS = (
    "resnet20_cifar10", "resnet32_cifar10", "lenet5_mnist", "vdsr", "stories260k", "textgenrnn_hackernews",
    "g2p_en_gru",
)  # fmt: skip


def run(options: Options) -> Iterator[Row]:
    """Rows of theory, then of i.i.d. symbols, then of networks."""
    options.note(
        "theory: rates are ideal entropies given the dither; networks: bits per weight of whole matrices"
    )
    yield from _gaps(options)
    yield from _ratios(options)
    yield from _symbols(options)
    yield from _networks(options)


def entropy(symbols: NDArray[np.int64], classes: NDArray[np.int64] | None = None) -> float:
    """Entropy in bits per symbol, given the class of each where there are classes.

    With the Miller-Madow correction for the samples being finite.
    """
    levels = symbols - symbols.min()
    width = int(levels.max()) + 1
    of = np.zeros_like(levels) if classes is None else classes
    counts = np.bincount(of * width + levels, minlength=(int(of.max()) + 1) * width).reshape(-1, width)
    total = counts.sum(1)
    bits = (total * np.log2(np.maximum(total, 1))).sum() - (counts * np.log2(np.maximum(counts, 1))).sum()
    bias = ((counts > 0).sum(1) - (total > 0)).sum() / (2 * math.log(2))
    return float((bits + bias) / levels.size)


# --- theory


def high_rate_gap(lattice: str, bits: float = 6.0, samples: int = 1 << 21) -> float:
    """Bits above R(D) of dithered quantisation of a Gaussian, from its measured error.

    The rate of entropy-coded dithered quantisation is the mutual information between the source and the source with
    the dither added (Zamir and Feder 1992, theorem 1): h(X + U) - h(U), and h(U) = n log2(step), the log of the cell's
    volume. h(X + U) is at most that of a Gaussian of the same variance, and at these rates less than 0.001 bit
    below.
    """
    n = _LATTICES[lattice]
    rng = np.random.default_rng(5)
    vectors = samples // n
    scale = np.tile([_core.lattice_scale(lattice, axis) for axis in range(n)], vectors)
    step = math.sqrt(2 * math.pi * math.e) * 2.0**-bits
    x = rng.standard_normal(vectors * n)
    noise, points = np.empty(vectors * n), np.empty(vectors * n)
    _core.lattice_dither(lattice, 17, 0, noise)
    natural = x / (step * scale)
    _core.lattice_nearest(lattice, natural + noise, points)
    error = (points - noise - natural) * scale * step
    distortion = float((error**2).mean())
    rate = 0.5 * math.log2(2 * math.pi * math.e * (1 + distortion)) - math.log2(step)
    return rate - 0.5 * math.log2(1 / distortion)


def coded_gap(lattice: str, dither: str, bits: float = 4.0, samples: int = 1 << 20) -> float:
    """Bits above R(D) of what the codec really writes for a Gaussian, model included."""
    x = np.random.default_rng(7).standard_normal(samples // 24 * 24).astype(np.float32)
    part = Part(2, (x.shape,), x.view(np.uint8), ("gaussian",))
    step = math.sqrt(2 * math.pi * math.e) * 2.0**-bits
    (trial,) = Universal(lattice, dither, dimension=0).trial([part], [Setting(step)], 0)  # type: ignore[arg-type]
    energy = float((x.astype(np.float64) ** 2).sum())
    return trial.bits / x.size - 0.5 * math.log2(energy / trial.squared_error)


def measured_gap(bits: float = 4.5, samples: int = 1 << 22) -> float:
    """The same for the scalar lattice from the levels themselves: H(Q | U) by classes of dither."""
    x, noise = np.random.default_rng(6).standard_normal(samples), np.empty(samples)
    _core.lattice_dither("z", 3, 0, noise)
    step = math.sqrt(2 * math.pi * math.e) * 2.0**-bits
    levels, error = _dithered(x, noise, step)
    return conditional_entropy(levels, noise) - 0.5 * math.log2(1 / float((error**2).mean()))


def _dithered(x: Floats, noise: Floats, step: float) -> tuple[NDArray[np.int64], Floats]:
    points = np.empty_like(x)
    _core.lattice_nearest("z", x / step + noise, points)
    return points.astype(np.int64), (points - noise) * step - x


def conditional_entropy(levels: NDArray[np.int64], noise: Floats, classes: int = 64) -> float:
    """H(levels | dither), the dither in classes."""
    return entropy(levels, np.minimum(((noise + 0.5) * classes).astype(np.int64), classes - 1))


def _gaps(options: Options) -> Iterator[Row]:
    for lattice, wanted in _GAPS.items():
        if options.wants(f"theory gap {lattice}"):
            gap = high_rate_gap(lattice)
            yield {
                "entry": f"theory gap {lattice}",
                "measured": gap,
                "wanted": wanted,
                "difference": gap - wanted,
            }
        if options.wants(f"coded gap {lattice}"):
            plain, dithered = coded_gap(lattice, "off"), coded_gap(lattice, "on")
            yield {
                "entry": f"coded gap {lattice}",
                "measured": plain,
                "wanted": wanted,
                "difference": plain - wanted,
                "with dither": dithered,
            }
    if options.wants("theory gap z levels"):
        gap = measured_gap()
        yield {"entry": "theory gap z levels", "measured": gap, "wanted": 0.2546, "difference": gap - 0.2546}


def source(kind: str, samples: int) -> Floats:
    """Unit variance; stratified, so that sampling noise is far below 0.05 dB."""
    rng = np.random.default_rng(8)
    p = (np.arange(samples) + rng.random(samples)) / samples
    rng.shuffle(p)
    if kind == "laplacian":
        return np.where(p < 0.5, np.log(2 * p), -np.log(2 * (1 - p))) / math.sqrt(2)
    from statistics import NormalDist

    grid = np.linspace(-8.5, 8.5, 1 << 16)
    cumulative = np.array([NormalDist().cdf(v) for v in grid])
    return np.interp(p, cumulative, grid)


def scalar(x: Floats, step: float, rounding: float) -> tuple[float, float]:
    """Entropy and error of a quantiser with centroids: magnitudes become floor(|x| / step + rounding)."""
    magnitude = np.floor(np.abs(x) / step + rounding).astype(np.int64)
    levels = np.where(x < 0, -magnitude, magnitude)
    levels -= levels.min()
    counts = np.bincount(levels)
    means = np.bincount(levels, x) / np.maximum(counts, 1)
    return entropy(levels), float(((x - means[levels]) ** 2).mean())


def at_rate(rate: float, measure: Callable[[float], tuple[float, float]]) -> float:
    """Error of the step whose entropy is ``rate``."""
    low, high = -6.0, 6.0
    for _ in range(20):
        middle = (low + high) / 2
        if measure(2.0**middle)[0] > rate:
            low = middle
        else:
            high = middle
    return measure(2.0**low)[1]


def snr_table(kind: str, rate: float, samples: int = 1 << 18) -> tuple[float, float, float, float]:
    """Signal-to-noise ratios in dB of centroids, best dead zone, dither, dither with Wiener factor."""
    x = source(kind, samples)
    variance = float((x**2).mean())
    noise = np.empty(samples)
    _core.lattice_dither("z", 11, 0, noise)

    def dithered(step: float) -> tuple[float, float]:
        levels, error = _dithered(x, noise, step)
        return conditional_entropy(levels, noise, 32 if rate >= 1 else 256), float((error**2).mean())

    plain = at_rate(rate, lambda step: scalar(x, step, 0.5))
    dead = min(
        at_rate(rate, lambda step, r=r: scalar(x, step, r)) for r in (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2)
    )
    error = at_rate(rate, dithered)
    wiener = error * variance / (variance + error)
    a, b, c, d = (10 * math.log10(variance / e) for e in (plain, dead, error, wiener))
    return a, b, c, d


def _ratios(options: Options) -> Iterator[Row]:
    for (kind, rate), wanted in _PUBLISHED.items():
        name = f"theory snr {kind} {rate:g} b"
        if not options.wants(name):
            continue
        found = snr_table(kind, rate, 1 << (18 if rate >= 1 else 21))  # coarse steps: few levels decide
        off = max(abs(f - w) for f, w in zip(found, wanted, strict=True) if w is not None)
        columns = ("centroids dB", "dead zone dB", "dithered dB", "wiener dB")
        yield {"entry": name, **dict(zip(columns, found, strict=True)), "largest difference": off}


# --- coders


def _symbols(options: Options) -> Iterator[Row]:
    rng = np.random.default_rng(1)
    for bits in range(1, 7):
        name = f"iid {bits} b"
        if not options.wants(name):
            continue
        levels = np.rint(rng.normal(0, 2.0 ** (bits - 2.047), 1_000_000)).astype(np.int32)
        counts = np.unique(levels, return_counts=True)[1]
        ideal = float((counts * np.log2(levels.size / counts)).sum()) / 8
        folded = np.where(levels >= 0, 2 * levels, -2 * levels - 1).astype(np.uint8).tobytes()
        from nncodec.codecs.universal import _pack

        row: Row = {"entry": name, "entropy b": 8 * ideal / levels.size}
        row["mixing"] = len(_core.mixing_encode(levels)) / ideal
        row["lzw"] = len(_core.lzw_encode(folded)) / ideal
        for coder in _CODERS[2:]:
            row[coder] = len(_pack(coder, folded)) / ideal
        yield row


def _networks(options: Options) -> Iterator[Row]:
    files, reason = networks(options.data)
    if reason is not None:
        options.note(reason)
    for name in _NETWORKS:
        if name in files:
            matrices = {k: np.array(v) for k, v in read_safetensors(files[name]).items() if v.ndim > 1}
            yield from _network(name, matrices, options)


def _network(name: str, matrices: dict[str, NDArray[np.generic]], options: Options) -> Iterator[Row]:
    parts = [
        Part(2, (x.shape,), np.frombuffer(x.astype(np.float32).tobytes(), np.uint8), (k,))
        for k, x in matrices.items()
    ]
    deviation = [float(np.asarray(x, np.float64).std()) for x in matrices.values()]
    weights = sum(x.size for x in matrices.values())
    energy = sum(float((np.asarray(x, np.float64) ** 2).sum()) for x in matrices.values())

    def measure(codec: Universal, step: float) -> tuple[float, float]:
        trials = codec.trial(parts, [Setting(step * d) for d in deviation], options.threads)
        scaled = sum(t.squared_error for t in trials)
        return sum(t.bits for t in trials) / weights, 10 * math.log10(energy / scaled)

    for step in (2.0, 0.7, 0.25):
        entry = f"{name} step {step:g}"
        if options.wants(entry + " coders"):
            sizes = {coder: measure(Universal(coder=coder), step)[0] for coder in _CODERS}  # type: ignore[arg-type]
            yield {"entry": entry + " coders", **sizes, "mixing / bzip2": sizes["mixing"] / sizes["bzip2"]}
        if options.wants(entry + " vectors"):
            row: Row = {"entry": entry + " vectors"}
            for n in (1, 2, 4):
                for coder in ("mixing", "bzip2"):
                    codec = Universal(coder=coder, dimension=n, reconstruction="lattice")  # type: ignore[arg-type]
                    row[f"{coder} n={n}"] = measure(codec, step)[0]
            yield row
        if options.wants(entry + " lattices"):
            row = {"entry": entry + " lattices"}
            for lattice in _LATTICES:
                for dither in ("off", "on"):
                    bits, snr = measure(Universal(lattice, dither, dimension=0), step)  # type: ignore[arg-type]
                    row[f"{lattice} {dither}: b at {20:g} dB"] = bits + (20 - snr) / (20 * math.log10(2))
            yield row
