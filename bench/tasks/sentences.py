"""Sentence embeddings of all-MiniLM-L6-v2: how far compressed weights move them.

BERT (Devlin et al. 2019) with six layers, mean pooling over the tokens, Euclidean norm 1 (Reimers and Gurevych 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.datasets import minilm, minilm_tokenizer, read_safetensors
from bench.tasks.task import Task, loaded
from bench.tasks.wordpiece import WordPiece

__all__ = ["TASKS", "Batch", "batches", "calibration_texts", "embeddings", "evaluation_texts"]

HEADS = 12
STORY_END = "<|endoftext|>"
Batch = dict[str, Tensor]


def _stories(data: Path) -> list[str]:
    text = (data / "text" / "tinystories_eval.txt").read_text(encoding="utf-8")
    return [" ".join(story.split()) for story in text.split(STORY_END) if story.strip()]


def _titles(data: Path) -> list[str]:
    return (data / "text" / "hacker_news_2000.txt").read_text(encoding="utf-8").splitlines()[1:]


def evaluation_texts(data: Path) -> list[str]:
    """A hundred sentences: two from each even story, and every 25th title."""
    found = []
    for story in _stories(data)[::2]:
        sentences = [part.strip() + "." for part in story.split(". ") if len(part) > 30]
        found += sentences[:: max(1, len(sentences) // 2)][:2]
    return (found + _titles(data)[::25])[:100]


def calibration_texts(data: Path, count: int) -> list[str]:
    """Texts that are not among the evaluation's: odd stories whole and in sentences, titles between its titles."""
    stories = _stories(data)[1::2]
    sentences = [part.strip() + "." for story in stories for part in story.split(". ") if len(part) > 30]
    titles = [title for i, title in enumerate(_titles(data)) if i % 25]
    mixed = stories + [text for pair in zip(titles, sentences, strict=False) for text in pair]
    mixed += titles[len(sentences) :]
    known = set(evaluation_texts(data))
    return [text for text in mixed if text not in known][:count]


class Attention(nn.Module):
    """Self-attention of BERT; submodules are named as in the checkpoint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        names = ("query", "key", "value")
        self.add_module("self", nn.ModuleDict({name: nn.Linear(width, width) for name in names}))
        norm, dense = nn.LayerNorm(width, eps=1e-12), nn.Linear(width, width)
        self.output = nn.ModuleDict({"LayerNorm": norm, "dense": dense})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        inner = self.get_submodule("self")
        q, k, v = (
            layer(x).view(batch, length, HEADS, width // HEADS).transpose(1, 2)
            for layer in (inner["query"], inner["key"], inner["value"])
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = self.output["dense"](mixed.transpose(1, 2).reshape(batch, length, width))
        return self.output["LayerNorm"](x + y)


class Layer(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.attention = Attention(width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        norm, dense = nn.LayerNorm(width, eps=1e-12), nn.Linear(inner, width)
        self.output = nn.ModuleDict({"LayerNorm": norm, "dense": dense})

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention(x, mask)
        y = self.output["dense"](F.gelu(self.intermediate["dense"](x)))
        return self.output["LayerNorm"](x + y)


class MiniLM(nn.Module):
    """Token ids and lengths to unit embeddings (n, width). The pooler's weights are carried but not used."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        words, width = tensors["embeddings.word_embeddings.weight"].shape
        positions = tensors["embeddings.position_embeddings.weight"].shape[0]
        inner = tensors["encoder.layer.0.intermediate.dense.weight"].shape[0]
        layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer."))
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(words, width),
                "position_embeddings": nn.Embedding(positions, width),
                "token_type_embeddings": nn.Embedding(2, width),
                "LayerNorm": nn.LayerNorm(width, eps=1e-12),
            }
        )
        self.embeddings.register_buffer("position_ids", torch.arange(positions)[None])
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(width, inner) for _ in range(layers))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(width, width)})

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        place = self.embeddings.position_ids[0, : ids.shape[1]]
        present = place < lengths[:, None]
        x = self.embeddings["word_embeddings"](ids) + self.embeddings["position_embeddings"](place)
        x = x + self.embeddings["token_type_embeddings"](torch.zeros_like(ids))
        x = self.embeddings["LayerNorm"](x)
        for layer in self.encoder["layer"]:
            x = layer(x, present[:, None, None, :])
        return F.normalize((x * present[:, :, None]).sum(1) / lengths[:, None], dim=1)


def batches(texts: list[str], tokenizer: WordPiece, size: int = 16) -> Iterator[Batch]:
    """Batches of texts of the same token count: no padding, so that all statistics are of real tokens."""
    by_length: dict[int, list[list[int]]] = {}
    for text in texts:
        ids = tokenizer(text)
        by_length.setdefault(len(ids), []).append(ids)
    for length in sorted(by_length):
        for first in range(0, len(by_length[length]), size):
            ids = torch.tensor(by_length[length][first : first + size])
            yield {"ids": ids, "lengths": torch.full((len(ids),), length)}


@torch.inference_mode()
def embeddings(model: nn.Module, texts: list[str], tokenizer: WordPiece) -> Tensor:
    """Unit vectors (n, width), sorted by token count."""
    return torch.cat([model(**batch) for batch in batches(texts, tokenizer)])


def tokenizer() -> WordPiece:
    path, why = minilm_tokenizer()
    if path is None:
        raise FileNotFoundError(why)
    return WordPiece.from_file(path)


def build(tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(MiniLM(tensors), tensors)


def cosine(model: nn.Module, data: Path, limit: int | None = None) -> dict[str, float]:
    """Mean and least cosine between the embeddings of these weights and of the weights as they came."""
    path, why = minilm()
    if path is None:
        raise FileNotFoundError(why)
    texts, split = evaluation_texts(data)[:limit], tokenizer()
    wanted = embeddings(build(read_safetensors(path)), texts, split)
    cosines = (embeddings(model, texts, split) * wanted).sum(1).double().numpy()
    return {"cosine": float(np.mean(cosines)), "least_cosine": float(np.min(cosines))}


def calibration(data: Path, count: int) -> Iterator[Batch]:
    yield from batches(calibration_texts(data, count), tokenizer())


TASKS = {"minilm": Task(build, cosine, {"cosine": 1.0}, calibration)}
