"""MathVista's reading of answers (lupantech/MathVista, `evaluation/extract_answer.py` and `calculate_score.py`).

Rows are those of the hub: `question_type`, `answer_type`, `choices`, `precision`. What the filter gives is compared
with `answer` as text (`metric: exact_match`).
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from harness import Filter, Sample, hookimpl
from harness.scoring import choice_letter, final_number, strip_reasoning
from harness.scoring.official import mathvista_extract, mathvista_normalise

_LONGEST_ANSWER = 300
"""Characters. Of what the authors' model extracted in their recorded outputs, 13 of 23,000 are longer (`extracted`)."""


class MathVistaAnswer(Filter):
    """The answer in the form of the gold: an option's text, an integer, a number of so many decimals, a list.

    The authors' rules read short replies; a reply that they leave to a model to extract from is read by the rules of
    this project where it is long, and is taken for the answer itself where it is not. A choice is then the option that
    is nearest by edit distance, as in the script. legacy_integers: as in the results published in 2023. extracted: what
    is read is what a model extracted already, however long.
    """

    name = "mathvista_answer"

    def __init__(self, legacy_integers: bool = False, extracted: bool = False) -> None:
        self._legacy, self._extracted = legacy_integers, extracted

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(reply, sample) for reply in replies]

    def _read(self, reply: str, sample: Sample) -> str | None:
        doc = sample.doc
        kind, form, choices = doc["question_type"], doc["answer_type"], doc.get("choices") or ()
        extraction = reply if self._extracted else mathvista_extract(reply, kind, form, choices)
        if extraction is None and len(reply) <= _LONGEST_ANSWER:
            extraction = reply
        elif extraction is None:  # what a long reply arrives at, in the place of the authors' model
            text, _ = strip_reasoning(reply)
            letters = string.ascii_uppercase[: len(choices)]
            extraction = choice_letter(text, letters, choices) if choices else final_number(text)
        if extraction is None:
            return None
        return mathvista_normalise(extraction, kind, form, choices, doc.get("precision"), legacy_integers=self._legacy)


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [MathVistaAnswer]
