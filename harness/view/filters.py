"""Which samples of a run's index are looked at, and the words and signs of a search as its index has them."""

from __future__ import annotations

import re
import string

from harness.quick import dataclass

# Chinese has no spaces: each character is a word of the index, and a search for several of them is one for a phrase.
# So is each emoji.
_PICTURES = [*range(0x2600, 0x27C0), *range(0x1F1E6, 0x1F200), *range(0x1F300, 0x1FB00)]
EMOJI = "".join(map(chr, _PICTURES))
_ALONE = (
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u2600-\u27bf\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff"
)
_SEAMS = re.compile(rf"(?<=[{_ALONE}])(?=[\w{_ALONE}])|(?<=\w)(?=[{_ALONE}])")
_STANDS_ALONE = re.compile(rf"[{_ALONE}]$")
_WORD = re.compile(rf"(?:[^\W_]|[{_ALONE}])+")
_SIGNS = {sign: 1 << place for place, sign in enumerate(string.punctuation)}
"""The 32 signs of ASCII, each a bit."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which samples are looked at. Empty means any.

    text: words, and signs that stand alone, that the prompt or the answer holds. tasks: those of an ability.
    least, most: characters of the reply, ends included.
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
    """The text with each character of Chinese and each emoji as a word of its own, as the index of words holds it."""
    return _SEAMS.sub(" ", text)


def phrases_of(text: str) -> list[tuple[str, str]]:
    """(phrase of FTS5, the word that may go on) of each word; of Chinese and emoji, a phrase and no such word."""
    phrases = []
    for word in _WORD.findall(text):
        goes_on = not _STANDS_ALONE.search(word)
        phrase = f'"{_SEAMS.sub(" ", word)}"' + ("*" if goes_on else "")
        phrases.append((phrase, word.lower() if goes_on and word.isascii() else ""))
    return phrases


def signs_in(text: str) -> int:
    """The signs of ASCII that a text holds, as bits."""
    return sum(_SIGNS[sign] for sign in _SIGNS.keys() & set(text))


def signs_of(text: str) -> int:
    """The signs that a search is for, as bits: those that stand alone in it, as in `100 %`."""
    return signs_in("".join(part for part in text.split() if all(sign in _SIGNS for sign in part)))


WHOLE_SUBSET = "-"
"""Stands in a filter for the subset without a name."""
