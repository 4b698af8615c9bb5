"""Scores over the tasks of a group, from the tasks' own values, as lm-eval forms them (lm_eval/api/group.py).

k tasks with values v_i, standard errors se_i and n_i scored samples, N = sum n_i:

micro  sum(n_i v_i) / N, the value over all samples, with the pooled error of lm_eval/api/metrics.py
       (`pooled_sample_stderr`): se^2 = sum((n_i - 1) n_i se_i^2) / (N - k) / N, which is the pooled variance of the
       samples within their tasks, divided by N. How far the tasks lie apart is no part of it.
macro  sum(v_i) / k, each task counting the same, with se = sqrt(sum se_i^2) / k.

Tasks are counted, not groups: the tasks of an inner group each count for the outer one. A task that is in two inner
groups counts once. A task with subsets gives its micro mean to a micro mean, and its own average to a macro mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from harness.errors import suggest
from harness.metrics import ScoreKey
from harness.quick import dataclass
from harness.scoring.aggregation import Average
from harness.types import Counts, GroupMembers, GroupMetric, GroupResult, GroupScore, MetricResult, Result, ScoreName

_OTHER: Mapping[Average, Average] = {"micro": "macro", "macro": "micro"}


@dataclass(frozen=True, slots=True)
class MemberScores:
    """What a task of a group has: its results of level `task`, and what the keys of its scores stand for.

    only_pipeline: the name of its filter pipeline where it has one, also where no filter is run on its answers.
    """

    keys: Sequence[ScoreKey]
    only_pipeline: str
    results: Sequence[Result] = ()

    def key_of(self, metric: str, pipeline: str) -> ScoreKey | None:
        return next((key for key in self.named(metric) if self.pipeline_of(key) == pipeline), None)

    def named(self, metric: str) -> list[ScoreKey]:
        return [key for key in self.keys if ScoreName.parse(key.name).metric == metric]

    def pipeline_of(self, key: ScoreKey) -> str:
        return key.pipeline if ScoreName.parse(key.name).pipeline else self.only_pipeline

    def value(self, key: ScoreKey, average: Average) -> MetricResult | None:
        """The task's value as the group's average needs it; None where no sample was scored."""
        wanted = [result for result in self.results if average == "micro" and result.average in (None, "micro")]
        for result in [*wanted, *self.results][:1]:
            named = (metric for metric in result.metrics if metric.metric == key.name and metric.value is not None)
            return next(named, None)
        return None


def group_result(members: GroupMembers, scores: Mapping[str, MemberScores]) -> GroupResult:
    """The numbers of a group. scores: by task; holds every task of the group."""
    counts = sum((scores[name].results[0].counts for name, _ in members.tasks), Counts())
    asked: list[GroupScore] = []
    others: list[GroupScore] = []
    for entry in members.group.metrics:
        average: Average = "micro" if entry.weight_by_size else "macro"
        for pipeline in _pipelines(entry, members, scores):
            asked.append(_score(entry.metric, pipeline, average, members, scores))
            others.append(_score(entry.metric, pipeline, _OTHER[average], members, scores))
    return GroupResult(members, counts, tuple(_named(asked)), tuple(_named(others)))


def problems(members: GroupMembers, scores: Mapping[str, MemberScores]) -> Iterator[str]:
    """What of a group's list leads to no value, one line each, known before anything runs."""
    for entry in members.group.metrics:
        if _pipelines(entry, members, scores):
            yield from _contradiction(entry, members, scores)
            continue
        keys = [(key, scores[name]) for name, _ in members.tasks for key in scores[name].keys]
        names = list(dict.fromkeys(ScoreName.parse(key.name).metric for key, _ in keys))
        what, known = f"metric '{entry.metric}'", names
        if entry.metric in names:
            known = list(dict.fromkeys(one.pipeline_of(key) for key, one in keys))
            what += f" through filter_list {', '.join(entry.filters or ())}"
        near = suggest((entry.filters or ("",))[0] if entry.metric in names else entry.metric, known)
        yield (
            f"{entry.where}: group '{members.group.name}': none of its tasks has {what}, so that it has no "
            f"value{near} (there is: {', '.join(known)})"
        )


def _contradiction(entry: GroupMetric, members: GroupMembers, scores: Mapping[str, MemberScores]) -> Iterator[str]:
    better = {name: key.higher_is_better for name, _ in members.tasks for key in scores[name].named(entry.metric)}
    if len(set(better.values())) > 1:
        more, less = (next(name for name in better if better[name] is way) for way in (True, False))
        yield (
            f"{entry.where}: group '{members.group.name}': more '{entry.metric}' is better in '{more}' and "
            f"worse in '{less}': their mean says little"
        )


def _pipelines(entry: GroupMetric, members: GroupMembers, scores: Mapping[str, MemberScores]) -> list[str]:
    """The pipelines for which at least one task has the metric."""
    each = (scores[name] for name, _ in members.tasks)
    pipelines = dict.fromkeys(one.pipeline_of(key) for one in each for key in one.named(entry.metric))
    return [name for name in pipelines if entry.filters is None or name in entry.filters]


def _score(
    metric: str, pipeline: str, average: Average, members: GroupMembers, scores: Mapping[str, MemberScores]
) -> GroupScore:
    by_pipeline: dict[str, MetricResult] = {}
    keys: list[ScoreKey] = []
    for name, _ in members.tasks:
        key = scores[name].key_of(metric, pipeline)
        value = scores[name].value(key, average) if key is not None else None
        if key is not None:
            keys.append(key)
        if value is not None:
            by_pipeline[name] = value
    missing = tuple(name for name, _ in members.tasks if name not in by_pipeline)
    result = mean_of(list(by_pipeline.values()), average, keys[0].metric.bounds)
    better = all(key.higher_is_better for key in keys)
    return GroupScore(replace(result, metric=metric, higher_is_better=better), average, pipeline, missing)


def _named(scores: Sequence[GroupScore]) -> Iterator[GroupScore]:
    """A metric that has values for several pipelines is named by both, as in a task."""
    for score in scores:
        several = len({other.pipeline for other in scores if other.result.metric == score.result.metric}) > 1
        name = str(ScoreName(score.result.metric, score.pipeline if several else ""))
        yield replace(score, result=replace(score.result, metric=name))


def mean_of(
    values: Sequence[MetricResult], average: Average, bounds: tuple[float, float] | None = None
) -> MetricResult:
    """The mean of several tasks' values, by the formulas above; no error where one of them has none.

    The interval is that of `interval_of_mean`, within the metric's bounds.
    """
    from harness.scoring.statistics.estimates import Estimate, interval_of_mean

    known = [(value.value, value.n) for value in values if value.value is not None]
    sizes = [n for _, n in known]
    if not known:
        return MetricResult("", None, 0, bounds=bounds)
    if len(values) == 1:
        return values[0]
    weights = sizes if average == "micro" else [1] * len(known)
    mean = sum(value * weight for (value, _), weight in zip(known, weights, strict=True)) / sum(weights)
    errors = [value.stderr for value in values if value.stderr is not None]
    if len(errors) < len(values):
        return MetricResult("", mean, sum(sizes), bounds=bounds)
    stderr = pooled_stderr(errors, sizes) if average == "micro" else math.hypot(*errors) / len(errors)
    total = sum(weights)
    parts = [
        (weight / total, Estimate(value, each.stderr, each.interval))
        for each, (value, _), weight in zip(values, known, weights, strict=True)
    ]
    low, high = interval_of_mean(mean, stderr, parts, bounds)
    least, greatest = bounds or (-math.inf, math.inf)
    return MetricResult("", mean, sum(sizes), stderr, (max(least, low), min(greatest, high)), bounds=bounds)


def pooled_stderr(errors: Sequence[float], sizes: Sequence[int]) -> float:
    """The standard error of a mean over several sets, from those of the sets, each of at least two samples."""
    total = sum(sizes)
    squares = sum((n - 1) * n * error**2 for error, n in zip(errors, sizes, strict=True))
    return math.sqrt(squares / (total - len(sizes)) / total)
