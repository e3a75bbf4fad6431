"""Writes the golden files, by hand, once: `python tests/golden/make.py NAME...` (or `--missing`).

A golden file is never rewritten: it must decode for ever. Inputs come from integer formulas, so that any machine can
rebuild them; the files are below 4 KiB each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent


def bits(count: int, seed: int) -> np.ndarray:
    """Pseudo-random bytes by a multiplicative congruence; no library's generator is trusted to stay the same."""
    state, out = seed * 2 + 1, np.empty(count, np.uint8)
    for place in range(count):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        out[place] = state >> 56
    return out


def bell(count: int, seed: int) -> np.ndarray:
    """float32 values with a bell-shaped histogram: sums of bytes, exact in binary."""
    sums = bits(4 * count, seed).reshape(count, 4).astype(np.int32).sum(axis=1)
    return (sums - 510).astype(np.float32) / np.float32(1024)


def dense() -> dict[str, Any]:
    """Weights, a bias, integers, odd shapes."""
    return {
        "weight": bell(420, 1).reshape(20, 21),
        "bias": bell(9, 2),
        "steps": np.arange(7, dtype=np.int64) * 1000,
        "mask": bits(12, 3) > 127,
        "scalar": np.array(-0.0, np.float64),
        "empty": np.empty((0, 3), np.float16),
    }


def types() -> dict[str, Any]:
    """Random bits of every element type."""
    from nncodec.dtypes import BY_CODE

    made = {}
    for row in BY_CODE.values():
        raw = bits(6 * row.size, row.code)
        made[row.name] = (raw & 1 if row.name == "bool" else raw).view(row.numpy()).reshape(2, 3)
    return made


def tied() -> dict[str, Any]:
    """A tie, a view, and a nested checkpoint around them."""
    weight = bell(48, 4).reshape(6, 8)
    return {
        "model": {"embed": weight, "head": weight, "part": weight[1:4, ::2]},
        "optimizer": {"state": {0: {"step": 3, "avg": bell(6, 5)}}, "betas": (0.9, 0.999)},
        "note": "\u2603",
        "limits": [float("inf"), -0.0, None, True, 2**70, b"\x00", 1j],
    }


def lossy() -> dict[str, Any]:
    """Two matrices of different scale."""
    return {"a": bell(400, 6).reshape(20, 20), "b": bell(500, 7).reshape(20, 25) * np.float32(8)}


def sparse() -> dict[str, Any]:
    """Matrices of few values, most of them zero."""
    made = {}
    for name, shape, seed in (("a", (20, 26), 8), ("b", (25, 20), 9)):
        noise = bits(2 * shape[0] * shape[1], seed).reshape(2, *shape)
        values = (noise[1] % 6).astype(np.float32) - np.float32(2.5)
        made[name] = np.where(noise[0] < 26, values / np.float32(16), np.float32(0))
    return made


def columns() -> dict[str, Any]:
    """A matrix whose columns differ in scale, with few mantissa bits so that the file stays small."""
    rows, width = 48, 64
    draws = bits(2 * rows * width, 8).reshape(2, rows, width).astype(np.int32)
    mantissa = (1 + (draws[0] & 15) / np.float32(16)) * np.where(draws[0] & 16, -1, 1)
    octave = 4 - np.minimum(draws[1], 127) // 32 + (np.arange(width) * 5 % 8)
    return {"weight": np.ldexp(mantissa, octave).astype(np.float32)}


def kernels() -> dict[str, Any]:
    """A convolution, a matrix, and vectors of two sizes."""
    return {
        "conv": bell(450, 8).reshape(10, 5, 3, 3),
        "dense": bell(320, 9).reshape(10, 32),
        "scale": bell(40, 10),
        "bias": bell(5, 11),
    }


LOSSLESS_INPUTS = {"dense": dense, "types": types, "tied": tied}
NEWER_INPUTS = {"lossless2": {"columns": columns}}  # what came with a payload version


def pruned() -> dict[str, Any]:
    """A kernel and a matrix with zeros."""
    kernel = bell(162, 8).reshape(6, 3, 3, 3)
    kernel[bits(162, 9).reshape(kernel.shape) < 150] = 0
    return {"kernel": kernel, "matrix": bell(200, 10).reshape(10, 20)}


def thin() -> dict[str, Any]:
    """Matrices of rank 2, as a convolution and as float16; and a vector."""
    made = bell(24, 12).reshape(12, 2) @ bell(90, 13).reshape(2, 45)
    return {
        "conv": made.astype(np.float32).reshape(12, 5, 3, 3),
        "half": made[:, :20].astype(np.float16),
        "bias": bell(12, 14),
    }


def smooth() -> dict[str, Any]:
    """Kernels whose neighbours are alike, a matrix whose rows differ in scale, and a bias."""
    kernels = np.cumsum(np.cumsum(bell(1152, 15).reshape(16, 8, 3, 3), axis=2), axis=3)
    scale = np.ldexp(np.float32(1), np.arange(24) % 5)[:, None]
    return {
        "conv": kernels.astype(np.float32),
        "dense": bell(720, 16).reshape(24, 30) * scale,
        "half": bell(96, 17).reshape(8, 12).astype(np.float16),
    }


def tall() -> dict[str, Any]:
    """A matrix whose columns are correlated, with more rows than a basis costs."""
    return {"embedding": np.cumsum(bell(7680, 18).reshape(480, 16), axis=1).astype(np.float32)}


def fine() -> dict[str, Any]:
    """The same, of fewer rows."""
    return {"embedding": tall()["embedding"][:96]}


def mixed() -> dict[str, Any]:
    """Kernels whose places are correlated in a way of their own."""
    order = np.array([4, 0, 7, 2, 8, 5, 1, 6, 3])
    kernels = np.cumsum(bell(2880, 21).reshape(320, 9), axis=1)[:, order]
    return {"conv": kernels.astype(np.float32).reshape(20, 16, 3, 3)}


def channels_last() -> dict[str, Any]:
    """Kernels stored (output, height, width, input), one of a single channel among them, and a matrix."""
    made = smooth()
    return {
        "conv": np.ascontiguousarray(made["conv"].transpose(0, 2, 3, 1)),
        "depthwise": np.ascontiguousarray(made["conv"].reshape(1, 128, 3, 3)[:, :40].transpose(0, 2, 3, 1)),
        "dense": made["dense"],
    }


def kernels_first() -> dict[str, Any]:
    """Kernels stored (height, width, input, output)."""
    return {"conv": np.ascontiguousarray(smooth()["conv"].transpose(2, 3, 1, 0))}


def second_moments() -> dict[str, Any]:
    """Of the inputs of the matrices of ``lossy``."""
    made = {}
    for name, n, seed in (("a", 20, 19), ("b", 25, 20)):
        inputs = np.cumsum(bell(4 * n * n, seed).reshape(4 * n, n), axis=1).astype(np.float64)
        made[name] = inputs.T @ inputs
    return made


def goldens() -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """Name of each golden file to (input, codec, budget)."""
    from nncodec.codecs import CODECS, Codebook, LowRank, Transform, Trellis, Uniform, Universal, Weightless

    made: dict[str, tuple[Any, Any, dict[str, Any]]] = {}
    for codec in sorted(CODECS.values(), key=lambda codec: codec.id):
        name = f"v1_{codec.name}{codec.version}"
        if codec is Weightless:
            made |= {
                f"{name}_ribbon": (sparse, Weightless(6), {}),
                f"{name}_bloomier": (sparse, Weightless(6, "bloomier", packed=True), {}),
                f"{name}_exact": (sparse, Weightless(exact=True), {}),
            }
        elif codec is LowRank:
            made[name] = (thin, LowRank(rank=2, inner=Uniform()), {"step": 0.0625})
        elif codec.lossy:  # newer payload versions have files of their own below
            made[f"v1_{codec.name}1"] = (lossy, codec.name, {"step": 0.0625} if codec.budgeted else {})
        else:
            for version in range(1, codec.version + 1):
                inputs = NEWER_INPUTS.get(f"{codec.name}{version}", LOSSLESS_INPUTS).items()
                made |= {f"v1_{codec.name}{version}_{kind}": (make, codec.name, {}) for kind, make in inputs}
    for lattice, dither, coder, dimension in (
        ("a2", "on", "mixing", 0),
        ("d4", "off", "lzw", 4),
        ("e8", "on", "deflate", 0),
        ("leech", "on", "mixing", 0),
        ("z", "on", "bzip2", 2),
        ("z", "off", "lzma", 1),
    ):
        variant = Universal(lattice, dither, coder, dimension)
        made[f"v1_universal1_{lattice}_{dither}_{coder}"] = (pruned, variant, {"step": 0.0625})
    made["v1_trellis1_kernels"] = (smooth, Trellis(16), {"step": 0.0625})
    made["v1_trellis1_columns"] = (tall, Trellis(8), {"step": 0.5})
    made["v1_trellis1_mixed"] = (mixed, Trellis(64), {"step": 0.5})
    made["v1_trellis1_fine"] = (fine, Trellis(1024), {"step": 0.0009765625})
    made["v1_trellis1_large"] = (lossy, Trellis(8, alphabet="both_zero"), {"step": 0.0009765625})
    made["v1_trellis1_feedback"] = (lossy, Trellis(32), {"step": 0.125, "hessian": second_moments()})
    made["v1_trellis2_channels_last"] = (channels_last, Trellis(16), {"step": 0.0625})
    made["v1_trellis2_kernels_first"] = (kernels_first, Trellis(64), {"step": 0.125})
    made["v1_codebook1_clustered"] = (lossy, Codebook(size=5, dimension=2), {})
    made["v1_transform1_fixed"] = (kernels, Transform(bits=5, clusters=3), {})
    made["v1_transform1_bzip2"] = (kernels, Transform(bits=5, clusters=3, entropy="bzip2"), {})
    return made


def main(names: list[str]) -> None:
    import nncodec
    from nncodec.selection import resolve_codec

    known = goldens()
    if names == ["--missing"]:
        names = [name for name in known if not (FOLDER / f"{name}.nncz").exists()]
    for name in names:
        make, codec, budget = known[name]
        blob = nncodec.encode(make(), codec, metadata={"golden": name}, **budget)
        if len(blob) > 4096:
            raise SystemExit(f"{name} takes {len(blob)} bytes, above 4096")
        with open(FOLDER / f"{name}.nncz", "xb") as file:  # "x": never over an old one
            file.write(blob)
        if resolve_codec(codec).lossy:  # what a lossy file decodes to is part of the promise
            values = np.concatenate([tensor.reshape(-1) for tensor in nncodec.decode(blob).values()])
            (FOLDER / f"{name}.f32").write_bytes(values.astype("<f4").tobytes())
        print(name, len(blob))


if __name__ == "__main__":
    main(sys.argv[1:])
