"""CMMU's scores (FlagOpen/CMMU, `eval/cmmu_evaluator.py`): a letter, several letters, or a blank, by the row's `type`.

filter_list: [{name: official, filter: [{function: cmmu_answer}]}]
metric_list: [{metric: cmmu_acc}]
"""

from __future__ import annotations

from collections.abc import Sequence

from harness import Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import mean_over_predictions
from harness.scoring.official import cmmu_blank_correct, cmmu_letters

BLANK = "fill-in-the-blank"


class CmmuAnswer(Filter):
    """The first letter, or all of them in their order where several may be right; a blank's reply stays as it is."""

    name = "cmmu_answer"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        kind = sample.doc["type"]
        if kind == BLANK:
            return list(replies)
        letters = [None if reply is None else cmmu_letters(reply) for reply in replies]
        if kind == "multiple-choice":
            return [(each and each[:1]) or None for each in letters]
        return ["".join(sorted(each)) or None if each else None for each in letters]


class CmmuAccuracy(Metric):
    """1 where the letters are the right ones, or a line is similar enough to what belongs into the blank."""

    name = "cmmu_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        def right(answer: str, golds: Sequence[str]) -> bool:
            return cmmu_blank_correct(answer, golds[0]) if seen.sample.doc["type"] == BLANK else answer == golds[0]

        return mean_over_predictions(seen, right)


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [CmmuAnswer]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CmmuAccuracy]
