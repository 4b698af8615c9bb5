"""Filters that read an answer from a reply as a careful reader would. What cannot be read is None, and counted.

The rules are those of `harness.scoring.extraction.final_answers`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import boxed, choice_letter, choice_letters, final_number, gold_texts, strip_reasoning

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

    What the last `\\boxed{}` holds; else what follows the last cue (答案是, "answer is", ####) on its line; else a
    reply that is one line of mathematics; else the last formula between dollar signs; else the number at which it
    arrives. words: an answer may also be in words, which is what a reply of one line without numbers or formulas is.
    letters: of options; where the gold is one of them, the letter that the reply chooses (sets of both kinds).
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
            return boxes[-1].strip() or None
        if cues := _CUE.findall(reply):
            after = cues[-1].strip().rstrip("。．.*")
            formulas = _FORMULA.findall(after)
            return "".join(formulas[0]) if len(formulas) == 1 else after
        line = line.rstrip("。．.")
        if "\n" not in line and _SIGNS.fullmatch(line) and not _WORDS.search(_COMMAND.sub("", line)):
            return line  # nothing but mathematics; several results stand side by side
        if formulas := _FORMULA.findall(reply):
            return "".join(formulas[-1]).strip()
        return final_number(reply)


_CUE = re.compile(r"(?:答案(?:应该|应)?(?:是|为|為|:|：)|\banswer(?: is|:)|####)[:：]?\s*(\S[^\n]*)", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_SIGNS = re.compile(r"[\x20-\x7e±√π°∞∪∩≤≥≠，；：]+")
_WORDS = re.compile(r"[A-Za-z]{4,} +[A-Za-z]{2,}")


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [ChoiceLetter, LastNumber, MathAnswer, StripReasoning]
