"""Size at equal function of sentence embeddings: codec `trellis` without examples, with `importance`, with `hessian`.

MiniLM: the size at which the mean cosine to the original is reached on development sentences; `held out` is the mean
cosine on a hundred others. `none` uses no examples. Takes about half an hour on two cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nncodec
from bench.datasets import data_dir, minilm, read_safetensors
from bench.suite import Options, Row

COSINES = (0.9878, 0.9983)
METHODS = ("none", "importance", "hessian")
_FIRST_STEPS = {"none": 0.01, "importance": 0.01, "hessian": 7.4e-5}

Tensors = dict[str, NDArray[Any]]


def run(options: Options) -> Iterator[Row]:
    folder = data_dir(options.data)
    path, why = minilm()
    if folder is None:
        options.note("no data folder: give --data or set NNCODEC_DATA")
    elif path is None:
        options.note(why or "no MiniLM")
    elif options.wants("minilm"):
        yield from _sentences(dict(read_safetensors(path)), folder, options)


def _arguments(method: str, calibration: nncodec.Calibration) -> dict[str, Any]:
    if method == "none":
        return {}
    return {"importance": calibration.importance()} if method == "importance" else {"hessian": calibration}


def _sentences(tensors: Tensors, folder: Path, options: Options) -> Iterator[Row]:
    from bench.tasks import sentences

    texts = sentences.calibration_texts(folder, 1 << 20)
    development = texts[11::20]
    held_out = sentences.evaluation_texts(folder)
    known = set(development)
    split = sentences.tokenizer()
    model = sentences.build(tensors)
    wanted = {
        key: sentences.embeddings(model, value, split) for key, value in (("d", development), ("h", held_out))
    }
    start = perf_counter()
    calibration = nncodec.calibrate(
        model, sentences.batches([text for text in texts if text not in known], split)
    )
    seconds = perf_counter() - start
    elements = sum(x.size for x in tensors.values())

    def cosines(decoded: Mapping[str, Any], key: str, of: list[str]) -> NDArray[np.float64]:
        found = (sentences.embeddings(sentences.build(decoded), of, split) * wanted[key]).sum(1)
        return np.asarray(found.double().numpy())

    for cosine in COSINES:
        for method in METHODS:
            extra = _arguments(method, calibration)

            def at(step: float, extra: dict[str, Any] = extra) -> tuple[float, bytes, Any, float]:
                start = perf_counter()
                blob = nncodec.encode(tensors, "trellis", step=step, threads=options.threads, **extra)
                taken = perf_counter() - start
                decoded = nncodec.decode(blob)
                return 1 - float(cosines(decoded, "d", development).mean()), blob, decoded, taken

            blob, decoded, taken = _reach(at, 1 - cosine, _FIRST_STEPS[method])
            found = cosines(decoded, "h", held_out)
            yield {
                "network": "minilm",
                "examples": method,
                "asked": cosine,
                "held out": float(found.mean()),
                "least": float(found.min()),
                "ratio": 4 * elements / len(blob),
                "bits": 8 * len(blob) / elements,
                "calibrate s": seconds if method != "none" else 0.0,
                "encode s": taken,
            }


def _reach(
    at: Callable[[float], tuple[float, bytes, Any, float]], loss: float, step: float
) -> tuple[bytes, Any, float]:
    """The smallest file found whose loss is at most ``loss``, which goes with the square of the step."""
    best: tuple[bytes, Any, float] | None = None
    for _ in range(8):
        found, *made = at(step)
        if found <= loss and (best is None or len(made[0]) < len(best[0])):
            best = (made[0], made[1], made[2])
        ratio = loss / found
        if 1 <= ratio < 1.04:
            break
        step *= min(max(math.sqrt(ratio * 0.985), 0.1), 10.0)
    if best is None:
        raise RuntimeError(f"loss {loss} was not reached")
    return best
