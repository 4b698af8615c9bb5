"""MMMU's and MMMU-Pro's scores (MMMU-Benchmark/MMMU, `mmmu/utils/eval_utils.py` and `mmmu-pro/evaluate.py`).

Rows are those of the hub: `options` is a list, or a text that spells one; `question_type` is `multiple-choice` or
something else, and absent in MMMU-Pro, where every question has options.

    filter_list: [{name: official, filter: [{function: mmmu_answer}]}]
    metric_list: [{metric: mmmu_acc}, {metric: mmmu_guessed}]

The scripts draw a letter at random where they read none. That is no answer: `mmmu_acc` counts it as wrong, and the
report says how many there are; `mmmu_guessed` says what the scripts come to.
"""

from __future__ import annotations

import ast
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from harness import CorpusMetric, Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import gold_texts, mean_over_predictions
from harness.scoring.official import choice_scores, mmmu_choice, mmmu_open_correct, mmmu_pro_choice, video_mmmu_choice

_RULES = {"mmmu": mmmu_choice, "mmmu_pro": mmmu_pro_choice, "video_mmmu": video_mmmu_choice}


class MmmuAnswer(Filter):
    """The letter that a reply chooses by the authors' rule; the reply to an open question stays as it is.

    rule: `mmmu`, `mmmu_pro`, which looks for `Answer:` first, or `video_mmmu`, which takes "B." before "(B)".
    """

    name = "mmmu_answer"

    def __init__(self, rule: str = "mmmu") -> None:
        if rule not in _RULES:
            raise ValueError(f"rule is '{rule}'; it can be one of {', '.join(_RULES)}")
        self._rule = _RULES[rule]

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        options = _options(sample.doc)
        if options is None:
            return list(replies)
        return [None if reply is None else self._rule(reply, options) for reply in replies]


class MmmuAccuracy(Metric):
    """1 where the letter is right, or an open answer says the gold text or number. No letter is 0, and unparsed."""

    name = "mmmu_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(seen, lambda answer, golds: _is_right(answer, golds, seen.sample.doc))


class MmmuGuessed(CorpusMetric):
    """The accuracy with a guess in the place of what could not be read.

    official: the scripts' own draws, one after the other in the order of the rows, from `random.seed(42)`. expected:
    what such a draw is worth on average.
    """

    name = "mmmu_guessed"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"seed": 42}

    def item(self, seen: Observation) -> tuple[str | None, tuple[str, ...], tuple[str, ...]] | None:
        golds = gold_texts(seen.sample)
        if golds is None or not seen.predictions:
            return None
        answer, options = seen.predictions[0], _options(seen.sample.doc)
        if options is None:  # nothing is drawn for an open answer: it is as if it were the letter that it must be
            return ("right" if _is_right(answer, golds, seen.sample.doc) else "wrong", ("right",), ("right",))
        return answer, golds, tuple(options)

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        return {mode: sum(choice_scores(items, mode)) / len(items) for mode in ("official", "expected")}


def _is_right(answer: str | None, golds: Sequence[str], doc: Mapping[str, Any]) -> bool:
    if answer is None:
        return False
    return answer in golds if _options(doc) is not None else mmmu_open_correct(answer, golds)


def _options(doc: Mapping[str, Any]) -> dict[str, str] | None:
    """Letter -> text; None for an open question."""
    if doc.get("question_type", "multiple-choice") != "multiple-choice":
        return None
    given = doc["options"]
    texts = _spelt(given) if isinstance(given, str) else given
    return {string.ascii_uppercase[index]: str(text) for index, text in enumerate(texts)}


def _spelt(text: str) -> Sequence[Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = ast.literal_eval(text)
    if not isinstance(value, list | tuple):
        raise ValueError(f"'options' spells {type(value).__name__}, not a list")
    return value


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [MmmuAnswer]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [MmmuAccuracy, MmmuGuessed]
