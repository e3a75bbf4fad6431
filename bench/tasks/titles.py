"""A character-level LSTM with attention on titles of Hacker News."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.tasks.task import Task, loaded

__all__ = ["TASKS"]

WINDOW, MARK = 40, "<s>"


class TextGenRNN(nn.Module):
    """Character ids (n, 40) to logits of the next character (n, characters)."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        words, width = tensors["embedding.weight"].shape
        units = tensors["rnn_1.weight_hh_l0"].shape[1]
        self.embedding = nn.Embedding(words, width)
        self.rnn_1 = nn.LSTM(width, units, batch_first=True)
        self.rnn_2 = nn.LSTM(units, units, batch_first=True)
        self.attention = nn.Linear(width + 2 * units, 1, bias=False)
        self.output = nn.Linear(width + 2 * units, words)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        first = self.rnn_1(x)[0]
        features = torch.cat([x, first, self.rnn_2(first)[0]], 2)
        weights = self.attention(features).softmax(1)
        return self.output((features * weights).sum(1))


def windows(data: Path, limit: int | None) -> tuple[Tensor, Tensor]:
    """Inputs (n, 40) and next characters (n) of every sixth title, 300 titles."""
    vocabulary = json.loads((data / "text" / "textgenrnn_vocab.json").read_text(encoding="utf-8"))
    lines = (data / "text" / "hacker_news_2000.txt").read_text(encoding="utf-8").splitlines()[1:]
    inputs, wanted = [], []
    for title in lines[::6][: 300 if limit is None else limit]:
        ids = [vocabulary[c] for c in (MARK, *title, MARK) if c in vocabulary]
        for i in range(1, len(ids)):
            seen = ids[max(0, i - WINDOW) : i]
            inputs.append([0] * (WINDOW - len(seen)) + seen)
            wanted.append(ids[i])
    return torch.tensor(inputs), torch.tensor(wanted)


def build(tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(TextGenRNN(tensors), tensors)


@torch.inference_mode()
def next_character(model: nn.Module, data: Path, limit: int | None = None) -> dict[str, float]:
    """Bits per character, and the share of characters that were the likeliest, in per cent."""
    inputs, wanted = windows(data, limit)
    loss, right = 0.0, 0
    for x, y in zip(inputs.split(500), wanted.split(500), strict=True):
        logits = model(x)
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
        right += int((logits.argmax(1) == y).sum())
    return {"bits": loss / log(2) / len(wanted), "top1": 100 * right / len(wanted)}


TASKS = {"textgenrnn_hackernews": Task(build, next_character, {"bits": 0.3330, "top1": 93.51})}
