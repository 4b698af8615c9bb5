"""Filters that read an answer from a reply as a careful reader would. What cannot be read is None, and counted.

The rules are those of `harness.scoring.extraction.final_answers`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import boxed, choice_letter, choice_letters, final_number, strip_reasoning

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

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
        labels = self._labels or _ALPHABET[: len(sample.choices) or 4]
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

    What the last `\\boxed{}` holds; else what follows the last cue (答案是, "answer is", ####) on its line; else the
    last formula between dollar signs; else a reply of one line of mathematics; else the number at which it arrives.
    """

    name = "math_answer"

    def apply(self, replies: Replies, sample: Sample) -> list[str | None]:
        return [None if reply is None else _math_answer(strip_reasoning(reply)[0]) for reply in replies]


_CUE = re.compile(r"(?:答案(?:应该|应)?(?:是|为|為|:|：)|\banswer(?: is|:)|####)[:：]?\s*(\S[^\n]*)", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def _math_answer(reply: str) -> str | None:
    if found := boxed(reply):
        return found[-1].strip() or None
    if cues := _CUE.findall(reply):
        after = cues[-1].strip().rstrip("。．.*")
        formulas = _FORMULA.findall(after)
        return "".join(formulas[0]) if len(formulas) == 1 else after
    if formulas := _FORMULA.findall(reply):
        return "".join(formulas[-1]).strip()
    line = reply.strip().rstrip("。．.")
    if line and re.fullmatch(r"[\x20-\x7e±√π°∞∪∩≤≥≠，；：]+", line) and not re.search(r"[a-z]{4,} ", line):
        return line
    return final_number(reply)


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [ChoiceLetter, LastNumber, MathAnswer, StripReasoning]
