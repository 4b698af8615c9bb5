"""One setting with several values: a run each, and what they come to side by side.

harness --tasks aime25 --model openai ... --sweep reasoning_effort=low,high
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.report_fields import Report
from harness.record.result_rows import known_stderr
from harness.run.recipes import under_flags
from harness.run.result import RunResult
from harness.run.spec import RunSpec
from harness.scoring.statistics.significance import columns_p
from harness.tasks.generation import generation_params
from harness.thinking import Thinking
from harness.types import JSON, SampleKey

FIELDS = ("thinking", "reasoning_effort", "thinking_budget", "num_fewshot", "repeats", "seed", "system_instruction")
"""Fields of a run that a sweep may set; every other name is a parameter of generation."""


def swept(spec: RunSpec, name: str, values: Sequence[JSON]) -> dict[str, RunSpec]:
    """Label -> the run with each value of the setting. Raises `UsageError`."""
    if len({str(value) for value in values}) < 2:
        raise UsageError(f"--sweep {name}: at least two different values are expected, as in temperature=0,0.6,1")
    runs = {}
    for value in values:
        if name in FIELDS:
            wants_number = name in ("thinking_budget", "num_fewshot", "repeats", "seed")
            if wants_number and (not isinstance(value, int) or isinstance(value, bool)):
                raise UsageError(f"--sweep {name}: {value} is not a whole number")
            told = value if wants_number else {True: "on", False: "off"}.get(value, str(value))
            changes: dict[str, Any] = {name: told}
            run = replace(spec, **changes)
        else:
            # What is swept is over what a recipe says of single tasks.
            own = {task: under_flags(asked, {name: value}) for task, asked in spec.task_gen_kwargs.items()}
            run = replace(spec, gen_kwargs={**spec.gen_kwargs, name: value}, task_gen_kwargs=own)
        # The last of several values is refused before the first one is asked.
        generation_params({}, run.gen_kwargs, ())
        Thinking.of(run.thinking, run.reasoning_effort, run.thinking_budget)
        runs[f"{name}={value}"] = replace(run, name=f"{spec.name} {name}={value}" if spec.name else None)
    return runs


DIALS = ("thinking", "reasoning_effort", "thinking_budget")
"""What is meant to change how long a model reasons."""


@dataclass(frozen=True, slots=True)
class DialEffect:
    """Whether answers to the same questions became longer or shorter by a setting.

    questions: those that every value has answers to. of_reasoning: whether the tokens of reasoning were compared, or,
    where nobody counts these, those of whole answers. reasoned: whether any answer shows or counts reasoning. p: of no
    difference, by permuting the values of each question; None where no question has counts for all of them.
    """

    task: str
    questions: int
    of_reasoning: bool
    reasoned: bool
    p: float | None


def dial_effects(results: Mapping[str, RunResult]) -> Iterator[DialEffect]:
    """What a setting did to the lengths of answers, by task; results: of each of its values."""
    runs = list(results.values())
    for task in (entry["task"] for entry in runs[0].report["tasks"]):
        of_reasoning: list[dict[SampleKey, float]] = []
        of_answers: list[dict[SampleKey, float]] = []
        reasoned = False
        for run in runs:
            thoughts, whole = {}, {}
            for record in run.samples(task):
                took = [each.completion_tokens for each in record.responses]
                thought = [each.reasoning_tokens for each in record.responses]
                reasoned = reasoned or any(thought) or any(each.reasoning for each in record.responses)
                if took and None not in took:
                    whole[record.key] = float(sum(filter(None, took)))
                if thought and None not in thought:
                    thoughts[record.key] = float(sum(filter(None, thought)))
            of_reasoning.append(thoughts)
            of_answers.append(whole)
        counted = all(any(each.values()) for each in of_reasoning)
        columns = of_reasoning if counted else of_answers
        shared = [key for key in columns[0] if all(key in column for column in columns)]
        table = np.log1p([[column[key] for column in columns] for key in shared])
        yield DialEffect(task, len(shared), counted, reasoned, columns_p(table) if shared else None)


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One value of a task: its label, score, standard error, and tokens of an answer on average, as far as counted."""

    task: str
    metric: str
    label: str
    value: float | None
    stderr: float | None
    n: int
    tokens: float | None
    reasoning: float | None
    cut: int


def sweep_points(reports: Mapping[str, Report]) -> Iterator[SweepPoint]:
    """The headline of each task in each of the runs."""
    for label, report in reports.items():
        for task in report["tasks"]:
            if not task["metrics"]:
                continue
            metric, usage = task["metrics"][0], task.get("usage", {})
            answers = int(usage.get("answers", 0) or 0)
            tokens = int(usage.get("completion_tokens", 0) or 0)
            reasoning = int(usage.get("reasoning_tokens", 0) or 0)
            yield SweepPoint(
                task["task"],
                str(metric["metric"]),
                label,
                None if metric["value"] is None else float(metric["value"]),
                known_stderr(metric),
                int(metric["n"]),
                tokens / answers if answers and tokens else None,
                reasoning / answers if answers and reasoning else None,
                int(task["counts"].get("cut", 0)),
            )
