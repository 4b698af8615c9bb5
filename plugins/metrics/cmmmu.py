"""CMMMU's scores (CMMMU-Benchmark/CMMMU, `eval/utils/eval_utils.py`): 选择, 判断 and 填空 questions in one set.

Rows are those of the hub: `type`, `option1` to `option4`, `answer`. What the script draws at random where it reads
nothing is no answer here: it counts as wrong, and the report says how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness import Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import mean_over_predictions
from harness.scoring.official import cmmmu_blank_correct, cmmmu_choice, cmmmu_judgement


class CmmmuAnswer(Filter):
    """All letters that occur most often, or 对 or 错; the reply to a 填空 question stays as it is."""

    name = "cmmmu_answer"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(reply, sample.doc) for reply in replies]

    def _read(self, reply: str, doc: Mapping[str, Any]) -> str | None:
        if doc["type"] == "选择":
            return cmmmu_choice(reply, {"ABCD"[i]: str(doc[f"option{i + 1}"]) for i in range(4)})
        return cmmmu_judgement(reply) if doc["type"] == "判断" else reply


class CmmmuAccuracy(Metric):
    """1 where exactly the right letters, or the right judgement, were read, or a blank's text or number is said."""

    name = "cmmmu_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        def right(answer: str, golds: Sequence[str]) -> bool:
            filled = seen.sample.doc["type"] not in ("选择", "判断")
            return cmmmu_blank_correct(answer, golds[0]) if filled else answer in golds

        return mean_over_predictions(seen, right)


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [CmmmuAnswer]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CmmmuAccuracy]
