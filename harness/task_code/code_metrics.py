"""Metrics and filters that are Python of a task: what `process_results`, metric and aggregation functions give.

A sample is read and scored in the process of the task's code, from the raw replies, by the rules of lm-eval; what comes
back are the values that `metric_list` names.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from harness.filters import Filter
from harness.metrics import CorpusMetric, Metric, Observation
from harness.task_code.client import CodeError, TaskCode
from harness.task_code.lm_eval_names import DEFAULT_AGGREGATIONS, FILTERS, LESS_IS_BETTER
from harness.tasks.file_models import functions_in
from harness.tasks.schema_entries import FilterStepEntry, MetricEntry
from harness.tasks.scoring_spec import AT, is_code_metric
from harness.tasks.task import Task
from harness.tasks.yaml_file import PythonFunction
from harness.types import JSON, FilterPipeline, FilterStep, Response, Sample, ScoringSpec

_FILTER = "task_code"
_INVALID = "[invalid]"
_REMEMBERED = 4096

FindMetric = Callable[[str], type[Metric]]
FindFilter = Callable[[str], type[Filter]]


class ScoredByCode:
    """What the code of one task says of samples. Remembers the last ones: several metrics ask for the same."""

    def __init__(self, task: Task, code: TaskCode) -> None:
        self.name, self.digest, self._code = task.name, task.digest, code
        self._output_type = task.config.output_type
        self._free = task.config.process_results is not None
        self._asks = task.config.construct_requests is not None
        self._pipelines = {item.name: item.filter for item in task.config.filter_list or ()} or {"none": []}
        self._foreign = {
            name for name, steps in self._pipelines.items() if not all(_is_known(step, code) for step in steps)
        }
        self._scores: OrderedDict[Any, dict[str, Any] | CodeError] = OrderedDict()
        functions = [function for _, function in functions_in(task.document.data)]
        spec = {**self._spec(task), "functions": [_pair(function) for function in functions]}
        try:
            code.open_task(task.name, spec, functions[0])
        except CodeError as error:
            raise task.document.error(("filter_list",), f"filter_list: {error}") from None

    def _spec(self, task: Task) -> dict[str, Any]:
        config = task.config
        return {
            "output_type": config.output_type,
            "process_results": _pair(config.process_results),
            "pipelines": {
                name: [] if name in self._foreign else [_step(step) for step in steps]
                for name, steps in self._pipelines.items()
            },
            "metrics": [_metric(entry) for entry in config.metric_list or ()],
        }

    def scores(self, seen: Observation) -> dict[str, Any]:
        """All values of one sample, by name. Raises `CodeError`."""
        replies = tuple(response.text or "" for response in seen.responses)
        key = (seen.sample.key, seen.pipeline, replies, seen.logprobs)
        if key not in self._scores:
            try:
                self._scores[key] = self._asked(seen, replies)
            except CodeError as error:
                self._scores[key] = error
            while len(self._scores) > _REMEMBERED:
                self._scores.popitem(last=False)
        found = self._scores[key]
        if isinstance(found, CodeError):
            raise found
        return found

    def _asked(self, seen: Observation, replies: Sequence[str]) -> dict[str, Any]:
        sample = seen.sample
        if sample.target is None and not self._free:
            return {}
        generates = self._output_type == "generate_until"
        if generates and seen.pipeline in self._foreign:  # filters that lm-eval does not know have read the replies
            replies = [_INVALID if answer is None else answer for answer in seen.predictions]
        target: Any = list(sample.target) if isinstance(sample.target, tuple) else sample.target
        pairs = [
            (value, bool(response.is_greedy[place]) if place < len(response.is_greedy) else False)
            for response in seen.responses
            for place, value in enumerate(response.logprobs)
        ]
        gold = {"target": target, "choices": list(sample.choices)}
        results = [_result(response) for response in seen.responses] if self._asks else None
        found = self._code.score(
            self.name, seen.pipeline, sample.doc, replies if generates else None, pairs, gold, results
        )
        return {name.replace("@", AT): value for name, value in found.items()}

    def join(self, metric: str, items: Sequence[Any]) -> Any:
        return self._code.join(self.name, metric, items)

    def read(self, pipeline: str, sample: Sample, replies: Sequence[str | None]) -> list[str | None]:
        """What a pipeline with code of the task reads, as texts; None for what it could not read."""
        read = self._code.read(self.name, pipeline, sample.doc, [reply or "" for reply in replies])
        texts = [_text(item) for item in read] if isinstance(read, list) else [_text(read)]
        return texts[: len(replies)] or [None]

    @property
    def pipelines_with_code(self) -> frozenset[str]:
        """Pipelines of which a step is Python, or a filter that only lm-eval has or that the code has registered."""
        ours = {"regex_pos", "format_span", *self._code.filters}
        return frozenset(
            name
            for name, steps in self._pipelines.items()
            if any(_is_python(step) or step.function in ours for step in steps)
        )


class CodeMetric(Metric):
    """The mean of a value that code of the task gives; a sample for which it gives none has no score."""

    source: ClassVar[ScoredByCode]

    def score(self, seen: Observation) -> float | tuple[float, ...] | None:
        found = self.source.scores(seen)
        if self.values:
            missing = [name for name in self.values if name not in found]
            if missing:
                raise CodeError(f"gave no '{missing[0]}' (it gave: {', '.join(found)})")
            return tuple(_number(found[name], name) for name in self.values)
        if self.name not in found:
            return None
        value = _number(found[self.name], self.name)
        return None if math.isnan(value) and self.skips_nan else value

    skips_nan: ClassVar[bool] = False


class CodeCorpusMetric(CorpusMetric):
    """A value of a whole set: an aggregation of the task or of lm-eval over what code gave for each sample."""

    source: ClassVar[ScoredByCode]

    @property
    def identity(self) -> Mapping[str, JSON]:
        return {}  # the task's digest holds all of it

    def item(self, seen: Observation) -> Any | None:
        return self.source.scores(seen).get(self.name)

    def measure(self, items: Sequence[Any]) -> float | Mapping[str, float]:
        joined = self.source.join(self.name, items)
        if isinstance(joined, dict) and "__kept__" not in joined:
            return {str(name): _number(value, str(name)) for name, value in joined.items()}
        return _number(joined, self.name)


class CodeFilter(Filter):
    """A pipeline whose steps are Python of the task."""

    name = _FILTER
    joins = True
    source: ClassVar[ScoredByCode]

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline

    def apply(self, replies: Sequence[str | None], sample: Sample) -> Sequence[str | None]:
        return self.source.read(self._pipeline, sample, replies)


def with_code(
    task: Task, code: TaskCode, metric: FindMetric, filter: FindFilter
) -> tuple[ScoringSpec, FindMetric, FindFilter]:
    """How a task is scored whose metrics or filters are Python: its scoring, and where they are found.

    Of a task that has none, what was given. Raises `TaskError` for what the code lacks.
    """
    config = task.config
    made = {
        entry_name(task, index): entry
        for index, entry in enumerate(config.metric_list or ())
        if is_code_metric(entry, config)
    }
    steps = [step for item in config.filter_list or () for step in item.filter]
    registered = code.filters if any(functions_in(task.document.data)) else ()
    if not made and not any(_is_python(step) or step.function in registered for step in steps):
        return task.scoring, metric, filter
    source = ScoredByCode(task, code)
    classes = {name: _class_of(name, entry, source, task) for name, entry in made.items()}
    reader = type("TaskFilter", (CodeFilter,), {"source": source})
    pipelines = tuple(
        FilterPipeline(item.name, (FilterStep(_FILTER, {"pipeline": item.name}, item.where),), item.where)
        if item.name in source.pipelines_with_code
        else item
        for item in task.scoring.pipelines
    )
    return (
        replace(task.scoring, pipelines=pipelines),
        lambda name: classes[name] if name in classes else metric(name),
        lambda name: reader if name == _FILTER else filter(name),
    )


def entry_name(task: Task, index: int) -> str:
    """What an entry of `metric_list` is called in the scoring."""
    return task.scoring.metrics[index].metric


def _class_of(name: str, entry: MetricEntry, source: ScoredByCode, task: Task) -> type[Metric]:
    how = _aggregation(entry)
    content: dict[str, Any] = {"name": name, "source": source, "__doc__": None}
    content["higher_is_better"] = name not in LESS_IS_BETTER
    if how not in ("mean", "nanmean"):
        return type("TaskCorpusMetric", (CodeCorpusMetric,), content)
    # lm-eval's functions for pass@k give a value for each k, under its own name; @ divides names of scores here.
    sizes = (entry.model_extra or {}).get("k")
    if isinstance(entry.metric, PythonFunction) and sizes is not None and "pass_at_k" in entry.metric.name:
        sizes = sizes if isinstance(sizes, list) else [sizes]
        content |= {"values": tuple(f"pass{AT}{size}" for size in sizes), "stem": None}
    return type("TaskMetric", (CodeMetric,), {**content, "skips_nan": how == "nanmean"})


def _aggregation(entry: MetricEntry) -> str | PythonFunction:
    if entry.aggregation is not None:
        return entry.aggregation
    return DEFAULT_AGGREGATIONS.get(entry.metric, "mean") if isinstance(entry.metric, str) else "mean"


def _metric(entry: MetricEntry) -> dict[str, Any]:
    how = _aggregation(entry)
    function = entry.metric if isinstance(entry.metric, PythonFunction) else None
    return {
        "name": function.name.rpartition(".")[2] if function else str(entry.metric).replace("@", AT),
        "function": _pair(function),
        "aggregation": _pair(how) if isinstance(how, PythonFunction) else how,
        "options": dict(entry.model_extra or {}),
    }


def _step(step: FilterStepEntry) -> dict[str, Any]:
    function = _pair(step.function) if isinstance(step.function, PythonFunction) else step.function
    return {"function": function, "options": dict(step.model_extra or {}), "filter_fn": _pair(step.filter_fn)}


def _is_known(step: FilterStepEntry, code: TaskCode) -> bool:
    return isinstance(step.function, PythonFunction) or step.function in FILTERS or step.function in code.filters


def _is_python(step: FilterStepEntry) -> bool:
    return isinstance(step.function, PythonFunction) or step.filter_fn is not None


def _pair(function: PythonFunction | None) -> list[str] | None:
    return None if function is None else [function.folder, function.name]


def _result(response: Response) -> Any:
    """What came of one request, as lm-eval hands it to `process_results`."""
    if not response.logprobs:
        return response.text or ""
    if not response.is_greedy:
        return response.logprobs[0]
    return [response.logprobs[0], response.is_greedy[0]]


def _text(value: Any) -> str | None:
    if value is None or value == _INVALID:
        return None
    return value if isinstance(value, str) else str(value)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, list) and len(value) == 1:  # an array of one number
        return _number(value[0], name)
    raise CodeError(f"'{name}' is no number, and its aggregation takes numbers: {str(value)[:80]}")
