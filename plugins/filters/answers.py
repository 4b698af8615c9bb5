"""Filters that read an answer from a reply as a careful reader would. What cannot be read is None, and counted.

The rules are those of `harness.scoring.extraction.final_answers`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import answer_tags, boxed, choice_letter, choice_letters, final_number, gold_texts, strip_reasoning

Replies = Sequence[str | None]


class StripReasoning(Filter):
    """The reply without `<think>...</think>` and its like. The record keeps the raw text."""

    name = "strip_reasoning"

    def apply(self, replies: Replies, sample: Sample) -> list[str | None]:
        return [None if reply is None else strip_reasoning(reply)[0] for reply in replies]


class ChoiceLetter(Filter):
    """The letter of the option that a reply chooses; with `several: true` all of them, in order ("ABD").

    labels: the options' labels, one character each; left out, as many letters as the sample has choices, or A to D.
    A reply that gives the text of exactly one choice chooses it.
    """

    name = "choice_letter"

    def __init__(self, labels: str | None = None, several: bool = False) -> None:
        if labels is not None and len(set(labels)) != len(labels):
            raise ValueError(f"labels are '{labels}', but must all differ")
        self._labels = labels
        self._read = choice_letters if several else choice_letter

    def apply(self, replies: Replies, sample: Sample) -> list[str | None]:
        labels = self._labels or string.ascii_uppercase[: len(sample.choices) or 4]
        # Choices that are mere letters say nothing about the options' texts.
        texts = sample.choices if any(len(choice.strip(" ().")) > 1 for choice in sample.choices) else ()
        texts = texts if len(texts) == len(labels) else ()
        return [None if reply is None else self._read(reply, labels, texts) for reply in replies]


class LastNumber(Filter):
    """The number that a reply gives as its answer: set apart, after a cue, or the last one. Plain text: "-5", "3/4"."""

    name = "last_number"

    def apply(self, replies: Replies, sample: Sample) -> list[str | None]:
        return [None if reply is None else final_number(reply) for reply in replies]


class MathAnswer(Filter):
    """The expression that a reply gives as its answer, for `math_equal`. Reasoning is left out.

    What the last `\\boxed{}` holds (of several side by side, all of them); else what the last `<answer>` does; else
    what follows the last cue (答案是, 答：, "answer is", ####) on its line; else a reply that is one line of
    mathematics; else the last formula between dollar signs; else the number at which it arrives. words: an answer may
    also be in words, which is what a reply of one line without numbers or formulas is. letters: of options; where the
    gold is one of them, the letter that the reply chooses (sets of both kinds).
    """

    name = "math_answer"

    def __init__(self, words: bool = False, letters: str = "") -> None:
        self._words, self._letters = words, letters

    def apply(self, replies: Replies, sample: Sample) -> list[str | None]:
        golds = gold_texts(sample) if self._letters else None
        if golds and golds[0] and golds[0] in self._letters:
            texts = [None if reply is None else strip_reasoning(reply)[0] for reply in replies]
            return [None if text is None else choice_letter(text, self._letters) for text in texts]
        return [None if reply is None else self._read(strip_reasoning(reply)[0]) for reply in replies]

    def _read(self, reply: str) -> str | None:
        line = reply.strip()
        if self._words and "\n" not in line and not re.search(r"(?<![A-Za-z])[0-9]|[$\\]|答案|answer", line):
            return line or None
        if boxes := boxed(reply):
            return _boxes_at_the_end(reply, boxes) or None
        if tags := answer_tags(reply):
            return self._read(tags[-1]) or tags[-1].strip() or None
        if cues := _CUE.findall(reply):
            after = _REASON.split(_BOLD.sub(lambda match: match[1] or "", cues[-1]).strip(), maxsplit=1)[0].rstrip(
                "。．.* "
            )
            formulas = _FORMULA.findall(after)
            return "".join(formulas[0]) if len(formulas) == 1 else after
        line = line.rstrip("。．.")
        if "\\boxed{" in line.replace(" ", ""):
            return None  # cut off within its box
        if "\n" not in line and _SIGNS.fullmatch(line) and not _WORDS.search(_COMMAND.sub("", line)):
            return line  # nothing but mathematics; several results stand side by side
        if formulas := _FORMULA.findall(reply):
            return "".join(formulas[-1]).strip()
        return final_number(reply)


def _boxes_at_the_end(reply: str, boxes: Sequence[str]) -> str:
    """The last box, with a percent sign behind it, and those beside it in its line with at most `and` between."""
    last = boxes[-1]
    place = reply.rfind(last)
    sign = re.match(r"\}\s*[$)\\]*\s*%", reply[place + len(last) :])
    joined = last.strip() + (r"\%" if sign and last.strip() and "%" not in last else "")
    for content in boxes[-2::-1]:
        start = reply.rfind(content, 0, place)
        if not joined or content.strip() == joined or not _BESIDE.fullmatch(reply, start + len(content), place):
            break
        joined, place = f"{content.strip()}, {joined}", start
    return joined


_BESIDE = re.compile(r"\}[ \t,，、;；$)\\]*(?:and|or|和|或|与|以及)?[ \t$(\\]*\\(?:boxed|fbox)\s*\{\s*")
# **5**, and the ** with which **Answer:** ends; not 2**10.
_BOLD = re.compile(r"(?<![\w)}])\*\*(?=[^\s*])([^*\n]+)(?:\*\*|$)|\A\*\*(?=\s)")
_REASON = re.compile(
    r"\s*[,，;；(（]?\s*(?:因为|由于|\bbecause\b|\bsince\b|而不是|而非|不是|\b(?:and )?not (?=[$\\\d-]))"
)
_CUE = re.compile(
    r"(?:答案(?:应该|应)?(?:是|为|為|:|：)|(?<![回解应问作])答[:：]|\banswers?(?: is| are|:)|####)[:：]?\s*(\S[^\n]*)",
    re.IGNORECASE,
)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_SIGNS = re.compile(r"[\x20-\x7e±√π°∞∪∩≤≥≠，；：]+")
_WORDS = re.compile(r"\b(?!(?:or|and)\b)[A-Za-z']{2,} +(?!(?:or|and)\b)[A-Za-z']{2,}")


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [ChoiceLetter, LastNumber, MathAnswer, StripReasoning]
