"""The rows of the result table as text: all metrics of each task and group, then those of its parts.

Values stand as their metrics give them (an accuracy is 0.6132, not 61.32), with four decimals, as in lm-eval and so
that a perplexity and an accuracy need no different reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from harness.quick import dataclass
from harness.record.coverage import part_words
from harness.record.file_types import Number
from harness.record.report_fields import CategoryFields, GroupReport, Report, TaskReport
from harness.record.score_fields import MetricFields
from harness.types import ScoreName
from harness.words import Translate, english

_SHOWN_SUBSETS = 12
EXTREMES = 3
"""How many of the best, and of the worst, categories of a breakdown a table shows."""
DOUBTS = ("failed", "refused", "unparsed", "truncated", "empty", "cut")
_LONGEST_NAME = 60
"""Characters of a category's name that a table shows: a column may hold whole texts."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A line of the result table. `part`: a part of a task, and not a task or a group of tasks."""

    label: str
    depth: int
    metric: str
    result: MetricFields
    counts: Mapping[str, int]
    part: bool = False

    def cells(self, columns: Sequence[str]) -> list[str]:
        known = {
            "metric": self.metric,
            "value": number(self.result["value"]),
            "stderr": number(known_stderr(self.result)),
            "95% interval": interval(self.result),
            "n": str(self.result["n"]),
        }
        doubts = {name: str(self.counts[name]) if self.counts.get(name) else "" for name in DOUBTS}
        return ["  " * self.depth + self.label, *({**known, **doubts}[name] for name in columns)]


def rows(report: Report, *, subsets: bool = False, t: Translate = english) -> Iterator[TableRow]:
    """The result table: all metrics of each task and group, its other average, then the first metric of its parts."""
    for depth, entry in ordered(report):
        name = name_of(entry, t)
        for index, (label, metric) in enumerate(_labelled(entry, t)):
            yield TableRow("" if index else name, depth, label, metric, {} if index else entry["counts"])
        if "group" in entry:
            continue
        # Of a task that is not asked as a whole, its subsets say more than groups of which some are left out.
        shown = subsets or (bool(part_words(entry.get("covers"))) and len(entry["subsets"]) <= _SHOWN_SUBSETS)
        groups = [part for part in entry["groups"] if not (shown and part_words(part.get("covers")))]
        for part in [*groups, *(entry["subsets"] if shown else ())]:
            # What a part is called, and the name by which `--tasks TASK/NAME` takes it.
            name, title = part["name"], part["title"] or part["name"]
            called = title if title == name or not name.isascii() else f"{title} ({name})"
            for metric in part["metrics"][:1]:
                label = metric_label(metric, part.get("average"), t)
                words = called + part_words(part.get("covers"), t)
                yield TableRow(words, depth + 1, label, metric, part["counts"], part=True)
        for category, place in shown_categories(entry.get("categories", ()), every=subsets):
            for metric in category["metrics"][:1]:
                label = metric_label(metric, None, t)
                name = " ".join(category["name"].split())
                name = f"{name[: _LONGEST_NAME - 1]}…" if len(name) > _LONGEST_NAME else name
                words = f"{t(f'{{breakdown}}{place}', breakdown=category['breakdown'])}: {name}"
                yield TableRow(words, depth + 1, label, metric, category["counts"], part=True)


def shown_categories(
    categories: Sequence[CategoryFields], *, every: bool = False
) -> Iterator[tuple[CategoryFields, str]]:
    """The categories of each breakdown that a table has room for: of many, the three best and the three worst, with
    the words that say which."""
    for breakdown in dict.fromkeys(part["breakdown"] for part in categories):
        parts = [part for part in categories if part["breakdown"] == breakdown]
        known = [part for part in parts if part["metrics"] and part["metrics"][0]["value"] is not None]
        if not every and len(known) > 2 * EXTREMES:
            best_first = known[0]["metrics"][0]["higher_is_better"]
            known.sort(key=lambda part: float(part["metrics"][0]["value"] or 0.0), reverse=best_first)
            yield from ((part, ", best") for part in known[:EXTREMES])
            yield from ((part, ", worst") for part in known[-EXTREMES:])
        else:
            yield from ((part, "") for part in parts)


def ordered(report: Report) -> Iterator[tuple[int, TaskReport | GroupReport]]:
    """(depth, entry) of all tasks and groups of tasks, each task below the first group that holds it.

    A group without values takes no row.
    """
    groups = {group["group"]: group for group in report.get("groups", ())}
    tasks = {task["task"]: task for task in report["tasks"]}
    inner = {name for group in groups.values() for name in group["members"]}
    shown: set[str] = set()

    def below(name: str, depth: int) -> Iterator[tuple[int, TaskReport | GroupReport]]:
        if name in shown:
            return
        shown.add(name)
        if name not in groups:
            yield depth, tasks[name]
            return
        if groups[name]["metrics"]:
            yield depth, groups[name]
        for member in groups[name]["members"]:
            yield from below(member, depth + bool(groups[name]["metrics"]))

    for task in tasks:
        for name, group in groups.items():
            if name not in inner and task in group["tasks"]:
                yield from below(name, 0)
        yield from below(task, 0)


def _labelled(entry: TaskReport | GroupReport, t: Translate = english) -> Iterator[tuple[str, MetricFields]]:
    named: dict[str, MetricFields] = {}
    for metric in entry["metrics"]:
        # How many rows a modifier left alone is worth a line where there are any.
        if metric["value"] != 0 or ScoreName.parse(metric["metric"]).metric != "kept_order":
            named[metric_label(metric, metric.get("average", entry.get("average")), t)] = metric
    if "task" in entry or len(entry["tasks"]) != 1:  # a group of one: its averages are one
        for average, metrics in entry.get("by_average", {}).items():
            for metric in metrics[:1]:
                named.setdefault(metric_label(metric, average, t), metric)
    yield from named.items()


def name_of(entry: TaskReport | GroupReport, t: Translate = english) -> str:
    return entry["title"] if "group" in entry else entry["task"] + part_words(entry.get("covers"), t)


def metric_label(metric: MetricFields, average: str | None, t: Translate = english) -> str:
    arrow = "" if metric["higher_is_better"] else f" ({t('less is better')})"
    gap = f", {t('not of all tasks')}" if metric.get("missing") else ""
    words = filter(None, (str(metric["metric"]), metric.get("setting"), average and t(average)))
    return f"{', '.join(words)}{gap}{arrow}"


def known_stderr(metric: MetricFields) -> float | None:
    """The standard error; None where all samples score alike: what is 0 then is the spread that was seen, not the
    doubt, which the interval tells."""
    ends, stderr = metric["interval"], metric["stderr"]
    if stderr is None or (stderr == 0 and ends and float(ends[0]) < float(ends[1])):
        return None
    return float(stderr)


def number(value: Number | None) -> str:
    """A value as it is shown everywhere: four decimals, or six digits where it is large; `-` where there is none."""
    if value is None:
        return "-"
    value = float(value)
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else "nan"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.6g}"


def interval(metric: MetricFields) -> str:
    """`0.5861-0.6403`, or `-` where it is not known."""
    bounds = metric["interval"]
    return f"{number(bounds[0])} .. {number(bounds[1])}" if bounds else "-"
