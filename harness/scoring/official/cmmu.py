"""CMMU (FlagOpen/CMMU, `eval/pre_process.py` and `eval/cmmu_evaluator.py`): letters, and blanks by its rules.

As there, the letters I, N, S and T are taken out of a reply, with which the script means to take out `[INST]`. Blanks
are published by GPT-4 and by these rules.
"""

from __future__ import annotations

import difflib
import re

_LETTER_CUES = ("故选", "正确选项为", "答案选", "答案为", "答案是", "答案")
_BLANK_CUES = ("答案为", "答案是", "答案", "为", "因此", "结果", " = ")
_DENIALS = ("\\times", "不对", "不正确", "×", "x", "X")
_SAME = {
    "√": "正确", "：": ":", "$": "", "（": "(", "）": ")", "，": ",", "。": ".", "变小": "减小", "变大": "增大",
    "路程": "距离", "\\pi": "π",
}  # fmt: skip
_UNIT = re.compile(r"(\d+)(?:cm|m|s|h|kg|g|l|ml|km|mm)\n?")
_SIMILAR = 0.7


def cmmu_letters(reply: str) -> str:
    """All capital letters behind the last cue, in the order of the reply; a reply of one character is that."""
    if len(reply) == 1:
        return reply
    text = re.sub("[INST/]", "", reply.replace("The", "").replace("If", ""))
    cue = next((cue for cue in _LETTER_CUES if cue in text), None)
    return "".join(re.findall("[A-Z]", text.split(cue)[-1] if cue else text))


def cmmu_blank_correct(reply: str, gold: str) -> bool:
    """Whether a line of the reply is more than 0.7 similar to the gold (difflib's ratio)."""
    wanted = _plain(gold)
    return any(difflib.SequenceMatcher(None, _plain(line), wanted).ratio() > _SIMILAR for line in reply.split("\n"))


def _plain(text: str) -> str:
    if "$" not in text:
        for word in _DENIALS:
            text = text.replace(word, "错误")
    text = re.sub(r"\\text\s*\{(.*?)\}", r"\1", text)
    for old, new in _SAME.items():
        text = text.replace(old, new)
    cue = next((cue for cue in _BLANK_CUES if cue in text), None)
    text = (text.split(cue)[-1] if cue else text).strip().removeprefix(":")
    text = text[:-1] if text[-1:] in (".", ",", ":", ";") and text else text
    unit = _UNIT.fullmatch(text)
    return (unit[1] if unit else text).strip()
