"""Which samples of a run's index are looked at, and the words of a search as its index has them."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Chinese has no spaces: each character is a word of the index, and a search for several of them is one for a phrase.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SEAMS = re.compile(rf"(?<=[{_CJK}])(?=\w)|(?<=\w)(?=[{_CJK}])")
_ENDS_IN_CJK = re.compile(rf"[{_CJK}]$")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which samples are looked at. Empty means any. text: words that the prompt or the answer holds.

    tasks: those of an ability. least, most: characters of the reply, ends included.
    """

    task: str = ""
    subset: str = ""
    kind: str = ""
    answer: str = ""
    text: str = ""
    cut: bool = False
    tasks: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None


def separated(text: str) -> str:
    """The text with each character of Chinese as a word of its own, as the index of words holds it."""
    return _SEAMS.sub(" ", text)


def phrases_of(text: str) -> list[tuple[str, str]]:
    """(phrase of FTS5, the word that may go on) of each word; of Chinese, a phrase and no such word."""
    phrases = []
    for word in _WORD.findall(text):
        goes_on = not _ENDS_IN_CJK.search(word)
        phrase = f'"{_SEAMS.sub(" ", word)}"' + ("*" if goes_on else "")
        phrases.append((phrase, word.lower() if goes_on and word.isascii() else ""))
    return phrases


WHOLE_SUBSET = "-"
"""Stands in a filter for the subset without a name."""
