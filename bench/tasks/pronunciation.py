"""English spelling to phonemes: a GRU encoder and decoder on words of CMUdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.tasks.task import Task, loaded

__all__ = ["TASKS"]

GRAPHEMES = ["<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz"]
_PHONEMES = (
    "<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 "
    "EH2 ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH "
    "UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH"
)
PHONEMES = _PHONEMES.split()
LONGEST = 20


class G2P(nn.Module):
    """Weights under the names of the file; gates in PyTorch's order r, z, n."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        for name, value in tensors.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(tuple(value.shape))))

    def _cell(self, side: str, x: Tensor, state: Tensor) -> Tensor:
        weights = [self.get_parameter(f"{side}_{part}") for part in ("w_ih", "w_hh", "b_ih", "b_hh")]
        return torch.gru_cell(x, state, *weights)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Grapheme ids (n, longest) with their end marks, to greedy phoneme ids (n, 20)."""
        state = words.new_zeros(len(words), self.get_parameter("enc_w_hh").shape[1], dtype=torch.float32)
        for t in range(words.shape[1]):
            after = self._cell("enc", self.enc_emb[words[:, t]], state)
            state = torch.where((t < lengths)[:, None], after, state)
        token, out = torch.full((len(words),), PHONEMES.index("<s>")), []
        for _ in range(LONGEST):
            state = self._cell("dec", self.dec_emb[token], state)
            token = torch.nn.functional.linear(state, self.fc_w, self.fc_b).argmax(1)
            out.append(token)
        return torch.stack(out, 1)


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Insertions, deletions and substitutions between two sequences (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def build(tensors: Mapping[str, Any]) -> nn.Module:
    return loaded(G2P(tensors), tensors)


@torch.inference_mode()
def words_right(model: nn.Module, data: Path, limit: int | None = None) -> dict[str, float]:
    """Share of words with a listed pronunciation, and phoneme error rate to the nearest one, in per cent."""
    lines = (data / "text" / "cmudict_eval.tsv").read_text(encoding="utf-8").splitlines()[:limit]
    entries = [line.split("\t") for line in lines]
    listed = [[p.split() for p in pronunciations.split("|")] for _, pronunciations in entries]
    ids = [[GRAPHEMES.index(c) if c in GRAPHEMES else 1 for c in word.lower()] + [2] for word, _ in entries]
    lengths = torch.tensor([len(x) for x in ids])
    words = torch.tensor([x + [0] * (int(lengths.max()) - len(x)) for x in ids])
    right = errors = phonemes = 0
    for row, wanted in zip(model(words, lengths).tolist(), listed, strict=True):
        end = row.index(3) if 3 in row else len(row)
        got = [PHONEMES[i] for i in row[:end]]
        right += got in wanted
        distance, length = min(((edit_distance(got, w), len(w)) for w in wanted), key=lambda found: found[0])
        errors += distance
        phonemes += length
    return {"words": 100 * right / len(entries), "phoneme_errors": 100 * errors / phonemes}


TASKS = {"g2p_en_gru": Task(build, words_right, {"words": 68.43, "phoneme_errors": 9.85})}
