"""A language model of the Llama architecture on short stories."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.tasks.task import Task, loaded

__all__ = ["TASKS"]

HEADS, CONTEXT, BOS = 8, 512, 1
STORY_END = "<|endoftext|>"


class Vocabulary:
    """Pieces with scores; text becomes tokens by merging the best-scored neighbours, as SentencePiece's BPE does."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        at, self.scores, self.ids = 4, [], {}
        while at < len(raw):
            score, length = struct.unpack_from("<fi", raw, at)
            self.ids.setdefault(raw[at + 8 : at + 8 + length], len(self.scores))
            self.scores.append(score)
            at += 8 + length

    def encode(self, text: str) -> list[int]:
        """Token ids, BOS first."""
        pieces = [b" "]
        for char in text:
            coded = char.encode()
            pieces += [coded] if coded in self.ids else [bytes([byte]) for byte in coded]
        known = [p in self.ids for p in pieces]
        ids = [self.ids[p] if k else p[0] + 3 for p, k in zip(pieces, known, strict=True)]
        while True:
            best, where = -1e10, -1
            for i in range(len(ids) - 1):
                joined = self.ids.get(pieces[i] + pieces[i + 1])
                if joined is not None and self.scores[joined] > best:
                    best, where = self.scores[joined], i
            if where < 0:
                return [BOS, *ids]
            pieces[where : where + 2] = [pieces[where] + pieces[where + 1]]
            ids[where : where + 2] = [self.ids[pieces[where]]]


def rotate(x: Tensor) -> Tensor:
    """Rotary position embedding of base 10000 on adjacent pairs; x has shape (n, heads, length, size)."""
    length, size = x.shape[2:]
    rates = 10000.0 ** -(torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(length).float(), rates)
    even, odd = x[..., ::2], x[..., 1::2]
    turned = (even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos())
    return torch.stack(turned, -1).flatten(-2)


class Block(nn.Module):
    def __init__(self, width: int, key_width: int, inner: int) -> None:
        super().__init__()
        sizes = {"wq": width, "wk": key_width, "wv": key_width, "wo": width}
        self.attention = nn.ModuleDict({k: nn.Linear(width, n, bias=False) for k, n in sizes.items()})
        self.attention_norm = nn.RMSNorm(width, eps=1e-5)
        self.feed_forward = nn.ModuleDict(
            {
                "w1": nn.Linear(width, inner, bias=False),
                "w2": nn.Linear(inner, width, bias=False),
                "w3": nn.Linear(width, inner, bias=False),
            }
        )
        self.ffn_norm = nn.RMSNorm(width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        size, a, f = width // HEADS, self.attention, self.feed_forward
        y = self.attention_norm(x)
        q, k, v = (a[name](y).view(n, length, -1, size).transpose(1, 2) for name in ("wq", "wk", "wv"))
        shared = HEADS // k.shape[1]
        k, v = rotate(k).repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        mixed = F.scaled_dot_product_attention(rotate(q), k, v, is_causal=True)
        x = x + a["wo"](mixed.transpose(1, 2).reshape(n, length, width))
        y = self.ffn_norm(x)
        return x + f["w2"](F.silu(f["w1"](y)) * f["w3"](y))


class Llama(nn.Module):
    """Token ids (n, length) to logits (n, length, words); the output layer is the embedding."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        words, width = tensors["tok_embeddings.weight"].shape
        key_width = tensors["layers.0.attention.wk.weight"].shape[0]
        inner = tensors["layers.0.feed_forward.w1.weight"].shape[0]
        count = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers."))
        self.tok_embeddings = nn.Embedding(words, width)
        self.layers = nn.ModuleList(Block(width, key_width, inner) for _ in range(count))
        self.norm = nn.RMSNorm(width, eps=1e-5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tok_embeddings(ids)
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.norm(x), self.tok_embeddings.weight)


def stories(data: Path, limit: int | None) -> Iterator[Tensor]:
    """Token ids (1, length) of each story, at most 512."""
    vocabulary = Vocabulary(data / "text" / "tok512.bin")
    text = (data / "text" / "tinystories_eval.txt").read_text(encoding="utf-8")
    for story in [part.strip() for part in text.split(STORY_END) if part.strip()][:limit]:
        yield torch.tensor(vocabulary.encode(story)[:CONTEXT])[None]


def build(tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(Llama(tensors), tensors)


@torch.inference_mode()
def next_token(model: nn.Module, data: Path, limit: int | None = None) -> dict[str, float]:
    """Mean cross-entropy in nats per token, and the share of tokens that were the likeliest, in per cent."""
    loss, right, count = 0.0, 0, 0
    for ids in stories(data, limit):
        logits, wanted = model(ids[:, :-1])[0], ids[0, 1:]
        loss += float(F.cross_entropy(logits, wanted, reduction="sum"))
        right += int((logits.argmax(1) == wanted).sum())
        count += len(wanted)
    return {"nats": loss / count, "top1": 100 * right / count}


TASKS = {
    "stories260k": Task(build, next_token, {"nats": 1.5795, "top1": 57.69}),
    "stories260k_bf16": Task(build, next_token, {"nats": 1.5798, "top1": 57.68}),
}
