"""MiniLM, a transformer: PostTraining beside codec trellis with the curvature of the same texts, cosine against size.

Accuracy is 100 times the mean cosine between the embeddings of a hundred other sentences, of the compressed weights and
of the weights as they came. The pooler, which embeddings do not use, is left out. Half of the weights are embeddings of
tokens, which PostTraining only rounds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import nncodec
from bench.datasets import data_dir, minilm, read_safetensors
from bench.networks.common import named
from bench.suite import Options, Row
from bench.tasks import sentences
from bench.tasks.task import loaded
from bench.tasks.wordpiece import WordPiece
from nncodec.train import PostTraining

__all__ = ["rows"]

EXAMPLES = 2000
PRECISION = {4: 1 / 4, 5: 1 / 8}  # of the embeddings, by bits per weight
# Matrices are many, and each pass over them takes minutes.
STEPS = {"prune_steps": 1, "steps": 3, "iterations": 20}


@dataclass(frozen=True)
class _Subject:
    """The network, not to be changed; the texts to calibrate on; sentences to judge by, and their embeddings."""

    model: nn.Module
    batches: list[sentences.Batch]
    judges: list[str]
    split: WordPiece
    wanted: Tensor

    @cached_property
    def calibration(self) -> tuple[nncodec.Calibration, float]:
        """By the same texts as PostTraining's, and the seconds it took."""
        start = time.process_time()
        made = nncodec.calibrate(self.model, iter(self.batches))
        return made, time.process_time() - start

    def row(self, entry: str, state: dict[str, Tensor], size: int, seconds: float) -> Row:
        """What these weights, out of a file of so many bytes, are worth."""
        found = sentences.embeddings(_network(state), self.judges, self.split)
        cosines = (found * self.wanted).sum(1).double()
        floats = [value for value in state.values() if value.is_floating_point()]
        elements = sum(value.numel() for value in floats)
        return {
            **named(entry),
            "original": 100.0,
            "accuracy": 100 * float(cosines.mean()),
            "bytes": size,
            "ratio": 4 * elements / size,
            "weights": sum(int(value.count_nonzero()) for value in floats) / elements,
            "bits": 8 * size / elements,
            "least": 100 * float(cosines.min()),
            "cpu s": seconds,
        }


def rows(options: Options) -> Iterator[Row]:
    entries = [
        f"{method}/minilm/{bits}" for bits in PRECISION for method in ("posttraining", "trellis-hessian")
    ]
    if not any(options.wants(entry) for entry in entries):
        return
    folder = data_dir(options.data)
    path, why = minilm()
    if folder is None or path is None:
        options.note(
            "no data folder: give --data or set NNCODEC_DATA" if folder is None else why or "no MiniLM"
        )
        return
    torch.set_num_threads(options.threads)
    of = _subject(folder, path)
    for bits in PRECISION:
        if options.wants(f"posttraining/minilm/{bits}"):
            yield _ours(bits, of)
        if options.wants(f"trellis-hessian/minilm/{bits}"):
            yield _trellis(bits, of, options)


def _network(tensors: dict[str, Any]) -> nn.Module:
    model = sentences.MiniLM(tensors)
    del model.pooler
    return loaded(model, tensors)


@cache
def _subject(folder: Path, path: Path) -> _Subject:
    tensors = {name: value for name, value in read_safetensors(path).items() if "pooler" not in name}
    model, split = _network(tensors), sentences.tokenizer()
    batches = list(sentences.batches(sentences.calibration_texts(folder, EXAMPLES), split))
    judges = sentences.evaluation_texts(folder)
    return _Subject(model, batches, judges, split, sentences.embeddings(model, judges, split))


def _ours(bits: int, of: _Subject) -> Row:
    start = time.process_time()
    # No labels: curvature is that of the outputs' squared error.
    pairs = [(batch, torch.zeros(len(batch["ids"]))) for batch in of.batches]
    torch.manual_seed(0)
    method = PostTraining(
        target=float(bits),
        unit="bits",
        fisher="output",
        examples=EXAMPLES,
        embedding_precision=PRECISION[bits],
        **STEPS,
    )
    result = method.fit(of.model, pairs, lambda outputs, targets: outputs.sum())
    blob = nncodec.encode(result.model.state_dict(), result.codec)
    return of.row(f"posttraining/minilm/{bits}", nncodec.decode(blob), len(blob), time.process_time() - start)


def _trellis(bits: int, of: _Subject, options: Options) -> Row:
    calibration, seconds = of.calibration
    start = time.process_time()
    blob = nncodec.encode(
        of.model.state_dict(),
        "trellis",
        bits_per_weight=float(bits),
        hessian=calibration,
        threads=options.threads,
    )
    seconds += time.process_time() - start
    return of.row(f"trellis-hessian/minilm/{bits}", nncodec.decode(blob), len(blob), seconds)
