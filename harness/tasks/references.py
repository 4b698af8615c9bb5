"""Finds options that mean others by their place ("A and C", "none of the above"): such options cannot be moved.

What means the others wherever it stands ("none of them", "其他选项都不对") can be moved, and is not found here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_JOINT = r"(?:[、，,;；/&]|和|与|及|或者|或|以及|and|or|nor|to|至|到|~)"
# "以上" is also "and more": it means other options at the beginning, before a word for all, both or none of them.
_ABOVE_ZH = re.compile(
    r"[\s“\"(（]*(?:以上|上述|前述|上列|上面)(?:$|.{0,5}?(?:都|均|皆|全|所有|任|两|三|四|几|者|选项|说法|答案|结论))"
)
_FORMER_ZH = re.compile(r"前[一二两三四](?:个?选?项|者|个|种)")
_ABOVE_EN = re.compile(
    r"\b(?:all|none|any|both|neither|either|some|most|two|three|each|one)\b[^.]{0,20}\b(?:above|foregoing|preceding)\b"
    r"|\b(?:first|last|previous|preceding)\s+(?:(?:one|two|three|four)\s+)?(?:options?|choices?|answers?|statements?)\b"
    r"|\bthe\s+(?:first|last|previous|preceding)\s+(?:one|two|three|four)\.?$",
    re.IGNORECASE,
)
# Options as the question or another option names them: 选项B, B选项, option B.
_NAMED = r"选项\s*[{letters}](?![A-Za-z])|(?<![A-Za-z])[{letters}]\s*选项|\b(?:option|choice|answer)\s+\(?[{letters}]\b"
_MARKUP = re.compile(r"\$|\\(?:mathrm|text|rm)\b|[{}\\]")


def place_reference(texts: Sequence[str], question: str, labels: str) -> str:
    """Why the options of a row must keep their places; an empty text where they need not.

    texts: the options without their labels. labels: the letters that the row's options have.
    """
    letters = labels[: len(texts)]
    named = _NAMED.format(letters=letters)
    for place, text in enumerate(texts):
        bare = _MARKUP.sub("", text).strip()
        by_place = _ABOVE_ZH.match(bare) or _FORMER_ZH.match(bare) or _ABOVE_EN.search(bare)
        if by_place or re.search(named, bare) or _is_list_of_letters(bare, letters, texts):
            return f"option {labels[place]} refers to others: {_short(text)}"
    if all(bool(re.match(rf"\s*[(（]?{letters[place]}[)）.．、:：]", text)) for place, text in enumerate(texts)):
        return "the options carry letters in their texts"
    if match := re.search(named, question):
        return f"the question refers to an option: {_short(match[0])}"
    return ""


def _is_list_of_letters(text: str, letters: str, texts: Sequence[str]) -> bool:
    """`A和C`, `A、B、C均正确`, `Both A and B`, `AC`; but neither a single letter nor blood groups nor line segments."""
    one = rf"[(（]?[{letters}][)）]?"
    listed = rf"{one}(?:\s*{_JOINT}\s*{one})+"
    verdict = r"(?:两|二|三|四)?(?:选?项|者)?(?:都|均|皆|全)?(?:不)?(?:是|对|正确|可以?|有|错误?|成立|不是)?"
    english = r"(?:\s*(?:only|alone|(?:are|is)\s+(?:both\s+)?(?:correct|true|right|wrong|false|incorrect)))?"
    opening = r"(?:(?:both|either|neither|only|all of|none of|options?|choices?|answers?|[只仅]有?)\s*)?"
    if re.fullmatch(rf"{opening}{listed}\s*{verdict}{english}[。.]?", text, re.IGNORECASE):
        return any(letter in text for letter in letters)
    glued = re.fullmatch(rf"[{letters}]{{2,}}", text) and len(set(text)) == len(text)
    return bool(glued) and not all(re.fullmatch(r"[A-Za-z]{1,3}", other.strip()) for other in texts)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 30 else text[:29] + "…"
