"""What a run found, as data: `report.json`, made of its results, its manifest and what it cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import cast

from harness.quick import dataclass
from harness.record.coverage import NAMED
from harness.record.file_types import FORMAT
from harness.record.manifest import seconds_of
from harness.record.manifest_fields import Manifest
from harness.record.report_fields import CategoryFields, GroupReport, PartFields, Report, ResultFields, TaskReport
from harness.record.score_fields import MetricFields
from harness.record.usage import Usage
from harness.types import (
    JSON,
    Counts,
    GroupResult,
    GroupScore,
    MetricResult,
    Result,
    SampleKey,
)

_FROM_MANIFEST = ("command", "model", "plugins", "versions", "environment", "started", "spec", "data", "corrected")
_FROM_TASK = ("title", "date", "version", "num_fewshot", "split")


@dataclass(frozen=True, slots=True)
class Missing:
    """Samples that were asked and cannot be read back: how many, and the names of the first of them, where known."""

    n: int
    first: tuple[str, ...] = ()


def missing_of(asked: Iterable[SampleKey], on_disk: Collection[SampleKey]) -> Missing | None:
    """What of the samples that were asked is not on disk, if anything."""
    lost = [key for key in asked if key not in on_disk]
    named = [(key.subset, str(key.id), f"view {key.view}" if key.view else "") for key in lost[:NAMED]]
    return Missing(len(lost), tuple(" ".join(filter(None, parts)) for parts in named)) if lost else None


def build_report(
    manifest: Manifest,
    results: Sequence[Result],
    usage: Mapping[str, Usage] | None = None,
    groups: Sequence[GroupResult] = (),
    missing: Mapping[str, Missing] | None = None,
) -> Report:
    """What `report.json` holds.

    `tasks` is a list in the order of the results; a task holds `counts`, `metrics` (each with value, n, stderr,
    interval, and where there are such: the `scorer` behind it, `truncated`, how many samples it cut a text of, the
    `error` in the place of a value, and the `setting` that a table shows beside its name), the same `by_average` (micro
    and macro) where it has subsets, its `groups` and `subsets`, and `categories`, the values of its `breakdown`, where
    it has one. `groups` beside them are groups of tasks: `members` (tasks and groups), `tasks` (all that they come to),
    and `metrics`, each with the `average` that the group asks for, the `filter` pipeline, and the tasks where it is
    `missing`. `missing` of a task are samples that cannot be read back; see `losses`. `incidents` is what was survived
    on the way, in whichever session, each with a line `text`. usage: what each task cost, see `watch`.
    """
    by_task: dict[str, list[Result]] = {}
    for result in results:
        by_task.setdefault(result.task, []).append(result)
    tasks = []
    for name, of_task in by_task.items():
        task = _task_report(name, of_task, manifest.get("tasks", {}).get(name, {}))
        task["usage"] = (usage or {}).get(name, Usage()).to_json()
        if missing and name in missing:
            task["missing"] = {"n": missing[name].n, "first": list(missing[name].first)}
        tasks.append(task)
    told: Mapping[str, object] = manifest
    return {
        "format": FORMAT,
        "kind": manifest.get("kind", "run"),
        **cast(Report, {name: told[name] for name in _FROM_MANIFEST if name in told}),
        "seconds": seconds_of(manifest),
        "incidents": [each for session in manifest.get("sessions", ()) for each in session.get("incidents", ())],
        "tasks": tasks,
        "groups": [_group_report(group) for group in groups],
    }


def _task_report(name: str, results: Sequence[Result], known: Mapping[str, object]) -> TaskReport:
    """A task with its parts. known: what the manifest says of it."""
    whole = [result for result in results if result.level == "task"]
    groups, subsets, categories = (
        _parts([result for result in results if result.level == level]) for level in ("group", "subset", "category")
    )
    task: TaskReport = {
        "task": name,
        **cast(TaskReport, {field: known[field] for field in _FROM_TASK if field in known}),
        **(_numbers(whole) if whole else ResultFields(counts=asdict(Counts()), metrics=[])),
        "groups": [cast(PartFields, {"name": of, "title": title, **numbers}) for title, of, numbers in groups],
        "subsets": [cast(PartFields, {"name": of, "title": title, **numbers}) for title, of, numbers in subsets],
    }
    if named := [
        cast(CategoryFields, {"breakdown": breakdown, "name": of, "title": of, **numbers})
        for breakdown, of, numbers in categories
    ]:
        task["categories"] = named
    members = {result.name: list(result.members) for result in results if result.members}
    for part in task["groups"]:
        if part["name"] in members:
            part["members"] = members[part["name"]]
    return task


def _parts(results: Sequence[Result]) -> list[tuple[str, str, ResultFields]]:
    """(title, name, numbers) of each part of a task; the title of a category is its breakdown."""
    by_name: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_name.setdefault((result.title, result.name), []).append(result)
    return [(title, name, _numbers(of_part)) for (title, name), of_part in by_name.items()]


def _numbers(results: Sequence[Result]) -> ResultFields:
    """The results of one name: the first is its own average, and each stands under its average."""
    metrics = [[_metric(metric) for metric in result.metrics] for result in results]
    numbers = ResultFields(average=results[0].average, counts=asdict(results[0].counts), metrics=metrics[0])
    by_average = {str(result.average): own for result, own in zip(results, metrics, strict=True) if result.average}
    if by_average:
        numbers["by_average"] = by_average
    return numbers


def _group_report(result: GroupResult) -> GroupReport:
    group, members = result.members.group, result.members
    by_average: dict[str, list[MetricFields]] = {}
    for asked, other in zip(result.scores, result.others, strict=True):
        for score in sorted((asked, other), key=lambda score: score.average != "micro"):
            by_average.setdefault(score.average, []).append(_group_metric(score))
    return {
        "group": group.name,
        "title": group.title or group.name,
        "version": group.version,
        "members": list(members.children),
        "tasks": [name for name, _ in members.tasks],
        "counts": asdict(result.counts),
        "metrics": [_group_metric(score) for score in result.scores],
        "by_average": by_average,
    }


def _group_metric(score: GroupScore) -> MetricFields:
    of_group = {"average": score.average, "filter": score.pipeline, "missing": list(score.missing)}
    return cast(MetricFields, {**_metric(score.result), **of_group})


def _metric(metric: MetricResult) -> MetricFields:
    fields: dict[str, JSON] = asdict(metric)
    fields["interval"] = list(metric.interval) if metric.interval else None
    fields["bounds"] = list(metric.bounds) if metric.bounds else None
    for name in ("bounds", "scorer", "truncated", "reasoned", "unknown", "error", "setting"):
        if not fields[name]:
            del fields[name]
    return cast(MetricFields, fields)
