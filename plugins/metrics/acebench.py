"""ACEBench's scores (chenchen0103/ACEBench, eval_main.py): calls by its own comparison, and notices of what is missing.

    filter_list: [{name: read, filter: [{function: acebench_answer}]}]
    metric_list: [{metric: acebench_dialogues}, {metric: acebench_acc}]

Rows are those of the benchmark's files; their `id` names the category and, where there are several turns, the dialogue.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from harness import CorpusMetric, Filter, Metric, Observation, Sample, SetValue, hookimpl
from harness.scoring import CallError, acebench_calls, acebench_correct, acebench_notices, all_right, strip_reasoning


class AceBenchAnswer(Filter):
    """The calls of a reply without its reasoning, as Python writes them: `[{"f": {"a": 1}}]`. None where it has none.

    A reply to a row of `special_*`, which is to say what is wrong, stays as it is.
    """

    name = "acebench_answer"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        category = str(sample.doc["id"])
        return [None if reply is None else self._read(strip_reasoning(reply)[0], category) for reply in replies]

    def _read(self, reply: str, category: str) -> str | None:
        if "special" in category:
            return reply
        try:
            calls = repr(acebench_calls(reply, several_turns="multi_turn" in category))
            ast.literal_eval(calls)  # 1e999 has no form that is read again
            return calls
        except (CallError, ValueError):
            return None


class AceBenchAcc(Metric):
    """1 where all calls of a reply are right by the benchmark's rules, or it says what is wrong with the request."""

    name = "acebench_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        right = _right(seen)
        return sum(right) / len(right) if right else None


class AceBenchDialogues(CorpusMetric):
    """The share of dialogues of which every turn is right; a row of a category with one turn is one by itself.

    This is the script's accuracy (`multiplt_turn_accuracy`). A dialogue of which a turn failed and no other is wrong
    does not count: nobody knows whether it would be right. Rows do not say how many turns there are: of a part of the
    rows (`--limit`), those count that were asked.
    """

    name = "acebench_dialogues"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)
    resamples = 1000

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def item(self, seen: Observation) -> tuple[str, int, tuple[bool, ...]] | None:
        right = _right(seen)
        return (*self._place(seen.sample), right) if right else None

    def unanswered(self, sample: Sample) -> tuple[str, int, None]:
        return (*self._place(sample), None)

    def _place(self, sample: Sample) -> tuple[str, int]:
        own = str(sample.doc["id"])
        dialogue, _, turn = own.rpartition("_")
        return (dialogue, int(turn)) if "multi_turn" in dialogue else (own, 0)

    def measure(self, items: Sequence[tuple[str, int, tuple[bool, ...] | None]]) -> SetValue:
        dialogues: list[list[tuple[bool, ...] | None]] = []
        last: tuple[str, int] | None = None
        for dialogue, turn, right in items:
            if last is None or last[0] != dialogue or turn <= last[1]:  # a resample may hold a dialogue twice
                dialogues.append([])
            dialogues[-1].append(right)
            last = (dialogue, turn)
        known = [share for dialogue in dialogues if (share := _share_right(dialogue)) is not None]
        return SetValue(sum(known) / len(known) if known else None, len(dialogues) - len(known))


def _share_right(turns: Sequence[tuple[bool, ...] | None]) -> float | None:
    """In which share of its repetitions every turn is right; None where that hangs on a turn that failed."""
    answered = [turn for turn in turns if turn is not None]
    failed = [None] * (len(turns) - len(answered))
    repeats = [all_right([*each, *failed]) for each in zip(*answered, strict=False)]
    known = [right for right in repeats if right is not None]
    return sum(known) / len(known) if known and len(known) == len(repeats) else None


def _right(seen: Observation) -> tuple[bool, ...]:
    """Of each reply, whether it is right; none where the gold is hidden."""
    doc = seen.sample.doc
    truth = doc.get("ground_truth")
    if truth is None:
        return ()
    return tuple(prediction is not None and _is_right(doc, prediction, truth) for prediction in seen.predictions)


def _is_right(doc: Mapping[str, Any], prediction: str, truth: Any) -> bool:
    if "special" in str(doc["id"]):
        return acebench_notices(str(doc["id"]), prediction, truth)
    functions = doc["function"] if isinstance(doc["function"], list) else [doc["function"]]
    return acebench_correct(functions, ast.literal_eval(prediction), truth)


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [AceBenchAnswer]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [AceBenchAcc, AceBenchDialogues]
