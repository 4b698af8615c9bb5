"""MMMU (`mmmu/utils/eval_utils.py`) and MMMU-Pro (`mmmu-pro/evaluate.py`), both of MMMU-Benchmark/MMMU
at bb0b95a (2025-05-19).

The answer of a multiple-choice question is the candidate letter that occurs last, however it is meant. What the scripts
draw at random is None here; see `guess.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_STRIPPED = (",", ".", "!", "?", ";", ":", "'")
_CUES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
_GROUPED = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
_SCIENTIFIC = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
_SIMPLE = re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")

DISCIPLINES: Mapping[str, tuple[str, ...]] = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech and Engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}


def mmmu_choice(response: str, options: Mapping[str, str]) -> str | None:
    """The letter of MMMU's rule; `options` is letter -> text."""
    text = _padded(response)
    return (
        _last([(text.rfind(f"({letter})"), letter) for letter in options if f"({letter})" in text])
        or _last([(text.rfind(f" {letter} "), letter) for letter in options if f" {letter} " in text])
        or _by_option_text(text, options)
    )


def mmmu_pro_choice(response: str, options: Mapping[str, str]) -> str | None:
    """The letter of MMMU-Pro's rule: the text after the last `Answer:` first, then two looser stages."""
    if "Answer:" in response:
        tail = response.rpartition("Answer:")[2]
        letters = [letter for letter in options if letter in tail]
        if len(letters) == 1:
            return letters[0]
    text = _padded(response)
    # The looser stages find "X " and "X." anywhere, but place them by " X ", which may be nowhere (-1).
    return (
        _last([(text.rfind(f"({letter})"), letter) for letter in options if f"({letter})" in text])
        or _last([(text.rfind(f" {letter} "), letter) for letter in options if f"{letter} " in text])
        or _last([(text.rfind(f" {letter} "), letter) for letter in options if f"{letter}." in text])
        or _by_option_text(text, options)
    )


def video_mmmu_choice(response: str, options: Mapping[str, str]) -> str | None:
    """The letter of Video-MMMU's rule (lmms-eval at 75571cf, `parse_videommmu_multi_choice_response`): "X." and "X:"
    count before brackets."""
    text = _padded(response)
    marked = [letter for mark in ".:" for letter in options if f"{letter}{mark}" in text]
    mark = "." if any(f"{letter}." in text for letter in options) else ":"
    return (
        _last([(text.rfind(f"{letter}{mark}"), letter) for letter in marked])
        or _last([(text.rfind(f"({letter})"), letter) for letter in options if f"({letter})" in text])
        or _last([(text.rfind(f" {letter} "), letter) for letter in options if f"{letter} " in text])
        or _by_option_text(text, options)
    )


def mmmu_open(response: str) -> list[str | float]:
    """What MMMU takes a free answer to say: the tails after its cues, and all numbers in them."""
    tails = _key_tails(response)
    patterns = (_GROUPED, _SCIENTIFIC, _SIMPLE)
    numbers = [number for tail in tails for pattern in patterns for number in pattern.findall(tail)]
    return [value for text in (*tails, *numbers) for value in _normalised(text)]


def mmmu_open_correct(response: str, gold: str | Sequence[str]) -> bool:
    """Whether a gold text stands within what the answer says, or a gold number equals one of its numbers."""
    golds = [gold] if isinstance(gold, str) else list(gold)
    accepted = [value for text in golds for value in _normalised(text)]
    for said in mmmu_open(response):
        if isinstance(said, str):
            if any(isinstance(value, str) and value in said for value in accepted):
                return True
        elif said in accepted:
            return True
    return False


def _padded(response: str) -> str:
    for mark in _STRIPPED:
        response = response.strip(mark)
    return f" {response} "


def _last(candidates: Sequence[tuple[int, str]]) -> str | None:
    """The letter that occurs last; of equal places the first."""
    return max(candidates, key=lambda item: item[0])[1] if candidates else None


def _by_option_text(text: str, options: Mapping[str, str]) -> str | None:
    if len(text.split()) <= 5:
        return None
    lower = text.lower()
    return _last(
        [(lower.rfind(option.lower()), letter) for letter, option in options.items() if option.lower() in lower]
    )


def _key_tails(response: str) -> list[str]:
    text = response.strip().strip(".").lower()
    parts = re.split(r"\.\s(?=[A-Z])|\n", text)
    tails = []
    for index, part in enumerate(parts):
        cues = (*_CUES, "=") if index == len(parts) - 1 else _CUES
        # An empty tail gives way to the next cue's, as in the script's test for a value that is not yet set.
        shortest = ""
        for tail in (part.split(cue)[-1].strip() for cue in cues if cue in part):
            shortest = tail if not shortest or len(tail) < len(shortest) else shortest
        if shortest and shortest not in _TRIVIAL:
            tails.append(shortest)
    return tails or [text]


def _normalised(text: str) -> list[str | float]:
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        # A single character stands alone only between spaces.
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
