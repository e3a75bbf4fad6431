"""The tokenizer of uncased BERT models: basic splitting, then WordPiece by greedy longest match.

Schuster and Nakajima 2012 (WordPiece); Devlin et al. 2019 (BERT). Reads the vocabulary of a ``tokenizer.json``.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

__all__ = ["WordPiece"]

_CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def _is_punctuation(char: str) -> bool:
    ascii_symbol = char.isascii() and char.isprintable() and not char.isalnum() and char != " "
    return ascii_symbol or unicodedata.category(char).startswith("P")


def _is_ideograph(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _CJK)


def _clean(text: str) -> str:
    """Lower case without accents; control characters removed, every blank a space."""
    kept = []
    for char in text:
        if char in "\t\n\r" or unicodedata.category(char) == "Zs":
            kept.append(" ")
        elif char not in "\0\ufffd" and not unicodedata.category(char).startswith("C"):
            kept.append(f" {char} " if _is_ideograph(char) else char)
    parts = unicodedata.normalize("NFD", "".join(kept).lower())
    return "".join(char for char in parts if unicodedata.category(char) != "Mn")


def _words(text: str) -> list[str]:
    """Runs of letters and digits, and single punctuation marks."""
    spaced = "".join(f" {char} " if _is_punctuation(char) else char for char in _clean(text))
    return spaced.split()


class WordPiece:
    """Text to token ids, ``[CLS]`` in front and ``[SEP]`` behind."""

    def __init__(self, vocabulary: Mapping[str, int], longest_word: int = 100) -> None:
        self._ids = dict(vocabulary)
        self._longest_word = longest_word
        self._longest_piece = max(map(len, self._ids))

    @classmethod
    def from_file(cls, path: Path) -> WordPiece:
        """From a ``tokenizer.json`` whose model is of type WordPiece."""
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        return cls(model["vocab"], model.get("max_input_chars_per_word", 100))

    def _pieces(self, word: str) -> list[int]:
        if len(word) > self._longest_word:
            return [self._ids["[UNK]"]]
        found, start = [], 0
        while start < len(word):
            for end in range(min(len(word), start + self._longest_piece), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self._ids:
                    found.append(self._ids[piece])
                    start = end
                    break
            else:
                return [self._ids["[UNK]"]]
        return found

    def __call__(self, text: str, longest: int = 256) -> list[int]:
        """Token ids of ``text``, at most ``longest`` with the two marks."""
        pieces = [piece for word in _words(text) for piece in self._pieces(word)]
        return [self._ids["[CLS]"], *pieces[: longest - 2], self._ids["[SEP]"]]
