"""Calls of functions: a filter that reads them from replies, and BFCL's comparison of them.

The forms that can be read are those of `harness.scoring.read_calls`; the rules of the comparison are BFCL's own
(`harness.scoring.calls_match`). Nothing is executed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness import Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import (
    CallError,
    ToolCall,
    calls_match,
    mean_over_predictions,
    python_calls,
    read_calls,
    strip_reasoning,
)

FORMS = ("any", "python")


class ToolCalls(Filter):
    """The calls of a reply as JSON, `[{"name": ..., "arguments": {...}}]`, without its reasoning.

    It is `[]` where the reply calls nothing, and None where a call cannot be read. form: `any` that models write by
    themselves, or `python`, where the prompt asks for `[f(a=1)]`: anything else is then unreadable. functions: the
    column with their JSON Schemas, which give arguments their types where a form writes them as text.
    """

    name = "tool_calls"

    def __init__(self, form: str = "any", functions: str | None = None) -> None:
        if form not in FORMS:
            raise ValueError(f"form is '{form}'; it can be one of {', '.join(FORMS)}")
        self._form, self._functions = form, functions

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        functions = _value(sample.doc, self._functions) if self._functions else ()
        return [None if reply is None else self._read(strip_reasoning(reply)[0], functions) for reply in replies]

    def _read(self, reply: str, functions: Sequence[Mapping[str, Any]]) -> str | None:
        try:
            calls = python_calls(reply) if self._form == "python" else read_calls(reply, functions)
            return json.dumps([{"name": each.name, "arguments": each.arguments} for each in calls], ensure_ascii=False)
        except (CallError, TypeError):  # keys that JSON has none of
            return None


class BfclAcc(Metric):
    """1 where the calls that `tool_calls` reads are right by BFCL's rules: those that are wanted, by their syntax tree.

    In categories of irrelevance none at all is right, in those of relevance any. functions, truth: columns with what is
    offered and what is right. category: the column of BFCL's category, or a field of the subset by that name.
    underscores: whether `math_add` is `math.add`.
    """

    name = "bfcl_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(
        self,
        functions: str = "functions",
        truth: str = "ground_truth",
        category: str = "category",
        underscores: bool = True,
    ) -> None:
        self._functions, self._truth, self._category, self._underscores = functions, truth, category, underscores

    def score(self, seen: Observation) -> float | None:
        doc = seen.sample.doc
        category = str(seen.sample.subset_fields.get(self._category) or doc[self._category])
        if "relevance" in category:
            wants_none = "irrelevance" in category
            called = [prediction not in (None, "[]") for prediction in seen.predictions]
            return sum(one != wants_none for one in called) / len(called) if called else None
        functions, truths = _value(doc, self._functions), _value(doc, self._truth)

        def right(answer: str, _: Sequence[str]) -> bool:
            calls = [ToolCall(each["name"], each["arguments"]) for each in json.loads(answer)]
            try:
                return calls_match(functions, calls, truths, category, underscores=self._underscores)
            except (
                AttributeError,
                LookupError,
                NotImplementedError,
                TypeError,
            ):  # a value of a shape that the rules do not foresee is none that is allowed
                return False

        return mean_over_predictions(seen, right)


def _value(doc: Mapping[str, Any], column: str) -> Any:
    """A column's list, which some copies of the data hold as a text of JSON."""
    value = doc[column]
    return json.loads(value) if isinstance(value, str) else value


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [ToolCalls]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [BfclAcc]
