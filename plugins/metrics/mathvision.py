"""MATH-Vision's scores (mathllm/MATH-V, `evaluation/evaluate.py`).

Rows are those of the hub: `answer` is a letter where there are `options`, whose text is then right, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness import Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import mean_over_predictions
from harness.scoring.official import mathvision_answer, mathvision_correct


class MathVisionAnswer(Filter):
    """What the authors' script takes for the answer: boxed, after a cue, or the whole reply; None where it is empty."""

    name = "mathvision_answer"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else mathvision_answer(reply) or None for reply in replies]


class MathVisionAccuracy(Metric):
    """1 where the answer is the gold letter or number, or the text of the gold option; numbers to two decimals."""

    name = "mathvision_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        options = seen.sample.doc.get("options") or ()

        def right(answer: str, golds: Sequence[str]) -> bool:
            option = str(options[ord(golds[0]) - ord("A")]) if options else ""
            return mathvision_correct(answer, golds[0], option)

        return mean_over_predictions(seen, right, unread="")


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [MathVisionAnswer]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [MathVisionAccuracy]
