"""CMMMU (CMMMU-Benchmark/CMMMU, `eval/utils/eval_utils.py` at e1ba883): 选择, 判断 and 填空.

The rule for 判断 looks for words of agreement before words of denial, so that 不正确 counts as 对: that is how the
published numbers came about. What the script draws at random is None here; see `guess.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_STRIPPED = (",", ".", "!", "?", ";", ":", "'")
_TRIVIAL = frozenset((":", ",", ".", "!", "?", ";", "'"))
_JUDGEMENT_CUES = ("是", "为", "所以", "判断", "陈述", "说法", "表达", "答案", "结果")
_ANSWER_CUES = ("是", "为", "所以", "等于", "方案", "选择", "正确答案", "因此", "最后", "答案", "结果")
_YES = ("正确", "对", "准确", "肯定")
_NO = ("不对", "错误", "不正确", "不准确", "不合适", "否定", "错的", "错")
_AMBIGUOUS = ("对错", "是否正确", "否正确", "或者", "是否", "正确性", "对不")
_NUMBERS = (
    re.compile(r"-?\d{1,3}(?:，\d{3})+"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+)(?![eE][+-]?\d+)(?!，\d)"),
)


def cmmmu_choice(response: str, options: Mapping[str, str]) -> str | None:
    """The letters that occur most often, all of them in their order; in brackets, else bare, else by option text.

    An empty reply is wrong without a draw, and "" here.
    """
    if not response or not options:
        return ""
    for mark in _STRIPPED:
        response = response.strip(mark)
    response = f" {response} "
    counted = {letter: response.count(f"({letter})") for letter in options}
    if not any(counted.values()):
        counted = {letter: response.count(letter) for letter in options}
    if not any(counted.values()) and response.strip():
        counted = {letter: response.count(text) for letter, text in options.items()}
    most = max(counted.values())
    return "".join(letter for letter in options if counted[letter] == most) if most else None


def cmmmu_judgement(response: str) -> str | None:
    """对 or 错, by the majority of the parts of a reply that say one of them; None where they balance."""
    parts = {part for part in _tails(response, _JUDGEMENT_CUES) if not any(word in part for word in _AMBIGUOUS)}
    yes = sum(any(word in part for word in _YES) for part in parts)
    no = sum(any(word in part for word in _NO) and not any(word in part for word in _YES) for part in parts)
    return None if yes == no else "对" if yes > no else "错"


def cmmmu_blank_correct(response: str, answer: str) -> bool:
    """Whether the gold text stands within a part of the reply, or its number is one of the reply's numbers."""
    tails = _tails(response, _ANSWER_CUES, "=")
    said = [*tails, *(number for tail in tails for pattern in _NUMBERS for number in pattern.findall(tail))]
    golds = _normalised(answer, answer)
    for value in (value for text in said for value in _normalised(text, answer)):
        if isinstance(value, str):
            if any(isinstance(gold, str) and gold in value for gold in golds):
                return True
        elif value in golds:
            return True
    return False


def _tails(response: str, cues: tuple[str, ...], last_cue: str = "") -> list[str]:
    """Of each sentence, the shortest text after a cue; the whole reply where no sentence has one."""
    text = response.strip("。").strip()
    sentences = re.split(r"。|\n", text)
    tails = []
    for index, sentence in enumerate(sentences):
        known = (*cues, last_cue) if last_cue and index == len(sentences) - 1 else cues
        found = [sentence.split(cue)[-1].strip() for cue in known if cue in sentence]
        # An empty tail gives way to the next cue's, as in the script's test for a value that is not yet set.
        shortest = ""
        for tail in found:
            shortest = tail if not shortest or len(tail) < len(shortest) else shortest
        if shortest and shortest not in _TRIVIAL:
            tails.append(shortest)
    return tails or [text]


def _normalised(text: str, answer: str) -> list[str | float]:
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        too_long = len(text) > len(answer) + 20 or _latin(text) > _latin(answer) + 2
        return [] if too_long else [text]


def _latin(text: str) -> int:
    return sum(char.isascii() and char.isalpha() for char in text)
