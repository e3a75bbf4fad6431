"""The tokenizer of the sentence task, on a vocabulary small enough to check by hand."""

from __future__ import annotations

import pytest
from bench.tasks.wordpiece import WordPiece

WORDS = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "the", ",", "!", "cafe", "日", "##日"]
IDS = {word: i for i, word in enumerate(WORDS)}


def pieces(text: str, longest: int = 256) -> list[str]:
    return [WORDS[i] for i in WordPiece(IDS, 10)(text, longest)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("unaffable", ["un", "##aff", "##able"]),
        ("The,unable!", ["the", ",", "un", "##able", "!"]),
        ("CAFÉ\tthe\u0000", ["cafe", "the"]),  # accents go, tabs are blanks, control characters vanish
        ("日日", ["日", "日"]),  # ideographs are words of their own
        ("unaffx", ["[UNK]"]),  # a word that cannot be covered is unknown as a whole
        ("unaffaffable", ["[UNK]"]),  # longer than a word may be
    ],
)
def test_pieces(text: str, wanted: list[str]) -> None:
    assert pieces(text) == ["[CLS]", *wanted, "[SEP]"]


def test_long_texts_are_cut() -> None:
    assert pieces("the the the the", 4) == ["[CLS]", "the", "the", "[SEP]"]
