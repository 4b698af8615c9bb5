"""Several runs side by side, by the categories of a task: what each reaches by subject, skill or length.

for table in by_category({"qwen3": report, "llava": other}, "subject"):
    table.task, table.rows, table.extremes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.errors import UsageError, suggest
from harness.quick import dataclass
from harness.record.report_fields import PartFields, Report, TaskReport
from harness.record.result_rows import EXTREMES
from harness.record.score_fields import MetricFields
from harness.record.shown import finite, value
from harness.words import Translate, english

PARTS = ("subset", "group")
"""Names by which the subsets and groups of a task are asked for, as a breakdown is by its own."""
WHOLE = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """A category: the value of each run in their order, None where a run has none."""

    name: str
    metrics: Sequence[MetricFields | None]

    @property
    def counts(self) -> str:
        """How many samples each run has there, said once where they have equally many."""
        counts = [str(metric["n"]) if metric else "-" for metric in self.metrics]
        return counts[0] if len(set(counts)) == 1 else " / ".join(counts)


@dataclass(frozen=True, slots=True)
class SideBySide:
    """A task by one of its breakdowns. rows: all of it first, then its categories as the first run has them."""

    task: str
    breakdown: str
    metric: str
    runs: Sequence[str]
    rows: Sequence[Row]

    def cells(self, t: Translate = english) -> list[list[str]]:
        """Header and rows as they are shown: `71.2 ± 1.4 %`, with half of the 95 % interval."""
        lines = [
            [
                t(WHOLE) if row is self.rows[0] else row.name,
                *(str(value(each)) if each else "-" for each in row.metrics),
                row.counts,
            ]
            for row in self.rows
        ]
        return [[t(self.breakdown) if self.breakdown in PARTS else self.breakdown, *self.runs, "n"], *lines]

    def extremes(self, t: Translate = english) -> Iterator[str]:
        """For each run, its three best and three worst categories by name; fewer where there are not six of them."""
        for place, run in enumerate(self.runs):
            known = [
                (row.name, each) for row in self.rows[1:] if (each := row.metrics[place]) and _number(each) is not None
            ]
            known.sort(key=lambda item: (_number(item[1]) or 0.0) * (-1 if item[1]["higher_is_better"] else 1))
            if not known or _number(known[0][1]) == _number(known[-1][1]):
                continue  # none is better than another
            most = min(EXTREMES, len(known) // 2)
            best, worst = known[:most], known[::-1][:most]
            for words, found in (("{run}, best: {categories}", best), ("{run}, worst: {categories}", worst)):
                if found:
                    named = ", ".join(f"{name} {value(metric)}" for name, metric in found)
                    yield t(words, run=run, categories=named)


def by_category(reports: Mapping[str, Report], breakdown: str) -> list[SideBySide]:
    """A table for each task that has the breakdown in any of the runs; `subset` and `group` are breakdowns, too.

    Compared is the first metric of the task. Raises `UsageError` where no task has it.
    """
    tasks: dict[str, list[TaskReport | None]] = {}
    for place, report in enumerate(reports.values()):
        for task in report["tasks"]:
            tasks.setdefault(task["task"], [None] * len(reports))[place] = task
    tables = [made for name, own in tasks.items() if (made := _table(name, own, breakdown, list(reports))) is not None]
    if not tables:
        known = sorted({name for own in tasks.values() for task in own if task for name in _breakdowns(task)})
        there = f"there are: {', '.join(known)}" if known else "its tasks have none"
        raise UsageError(f"--by: no task has a breakdown '{breakdown}'{suggest(breakdown, known)} ({there})")
    return tables


def _breakdowns(task: TaskReport) -> Iterator[str]:
    yield from (part["breakdown"] for part in task.get("categories", ()))
    if task["subsets"]:
        yield "subset"
    if task["groups"]:
        yield "group"


def _parts(task: TaskReport, breakdown: str) -> dict[str, PartFields]:
    """Name -> part. A task's own breakdown of the name goes before its subsets."""
    categories = {part["name"]: part for part in task.get("categories", ()) if part["breakdown"] == breakdown}
    if categories or breakdown not in PARTS:
        return {**categories}
    return {part["title"] or part["name"]: part for part in task["subsets" if breakdown == "subset" else "groups"]}


def _table(name: str, tasks: Sequence[TaskReport | None], breakdown: str, runs: Sequence[str]) -> SideBySide | None:
    parts = [_parts(task, breakdown) if task else {} for task in tasks]
    names = list(dict.fromkeys(part for own in parts for part in own))
    headline = next((task["metrics"][0] for task in tasks if task and task["metrics"]), None)
    if not names or headline is None:
        return None
    key = headline["metric"]
    whole = Row(WHOLE, [_metric(task, key) for task in tasks])
    rows = [Row(part, [_metric(own.get(part), key) for own in parts]) for part in names]
    return SideBySide(name, breakdown, key, runs, [whole, *rows])


def _metric(part: TaskReport | PartFields | None, key: str) -> MetricFields | None:
    return next((metric for metric in part["metrics"] if metric["metric"] == key), None) if part else None


def _number(metric: MetricFields) -> float | None:
    return finite(metric["value"])
