"""The score of a conversation in an environment: whether it left the state that the right actions leave.

The rule is tau-bench's (sierra-research/tau-bench, envs/base.py, `calculate_reward`): the state at the end is that of
the row's actions on a fresh state, and every output of the row was said to the user. A conversation that did not come
to its end scores 0.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from harness.errors import DataError
from harness.metrics import Metric, Observation
from harness.task_code.client import TaskCode
from harness.task_code.code_metrics import FindMetric
from harness.tasks.file_models import words
from harness.tasks.task import Task
from harness.types import JSON

NAME = "end_state"
_ENDED = ("user", "tool", "answer")
_RESPOND = "respond"
"""tau-bench's name for what is said and not done."""


class EndState(Metric):
    """1 where a conversation left the state that the row's actions leave, and said the row's outputs.

    actions, outputs: columns; an action is {name, arguments} (or `kwargs`), and an output a text, in which commas do
    not count.
    """

    name = NAME
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)
    task: ClassVar[Task]
    code: ClassVar[TaskCode]

    def __init__(self, actions: str = "actions", outputs: str = "outputs") -> None:
        self._actions, self._outputs = actions, outputs

    def score(self, seen: Observation) -> float | None:
        doc = seen.sample.doc
        if doc.get(self._actions) is None or not seen.predictions:
            return None
        environment = self.task.config.environment
        final = words(environment.ends) if environment is not None else ()
        wanted = [_action(each) for each in doc[self._actions]]
        state = self._state(doc, [each for each in wanted if each[0] not in (*final, _RESPOND)])
        right = [prediction is not None and self._is_right(doc, prediction, state) for prediction in seen.predictions]
        return sum(right) / len(right)

    def _is_right(self, doc: Mapping[str, JSON], conversation: str, wanted: str) -> bool:
        try:
            told = json.loads(conversation)
            end, turns = told["end"], [turn for turn in told["turns"] if turn["role"] == "assistant"]
        except (ValueError, TypeError, KeyError):
            return False
        if end not in _ENDED:
            return False
        done = [(turn["call"]["name"], turn["call"]["arguments"]) for turn in turns if "call" in turn]
        if self._state(doc, done) != wanted:
            return False
        said = [turn["content"].lower().replace(",", "") for turn in turns if "call" not in turn]
        return all(any(str(output).lower() in text for text in said) for output in doc.get(self._outputs) or ())

    def _state(self, doc: Mapping[str, JSON], actions: Sequence[tuple[str, JSON]]) -> str:
        environment = self.task.config.environment
        assert environment is not None
        return self.code.play(environment.functions, doc, actions, digest=True)[1]


def _action(given: Any) -> tuple[str, JSON]:
    if isinstance(given, Mapping) and isinstance(given.get("name"), str):
        arguments = given.get("arguments", given.get("kwargs", {}))
        if isinstance(arguments, Mapping):
            return given["name"], dict(arguments)
    raise DataError(f"the row's actions should be {{name, arguments}}, found {str(given)[:80]}")


def with_environment(task: Task, code: TaskCode, metric: FindMetric) -> FindMetric:
    """Where the metrics of a task are found that has an environment: `end_state` knows it."""
    if task.config.environment is None:
        return metric
    bound = type("TaskEndState", (EndState,), {"task": task, "code": code, "__doc__": EndState.__doc__})
    return functools.partial(_found, bound, metric)


def _found(bound: type[Metric], metric: FindMetric, name: str) -> type[Metric]:
    return bound if name == NAME else metric(name)
