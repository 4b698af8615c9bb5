"""How the numbers of a report read on a page: shares as percent with half of their 95 % interval, others as they are.

value(task["metrics"][0])       # 21.7 ± 1.8 %
card(task, chances, sort="value")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.quick import dataclass
from harness.record.coverage import part_words, row_words
from harness.record.file_types import Number
from harness.record.manifest import model_title
from harness.record.manifest_fields import Manifest
from harness.record.report_fields import PartFields, Report, TaskReport
from harness.record.result_rows import DOUBTS, number
from harness.record.score_fields import MetricFields
from harness.types import JSON
from harness.words import Translate, english

SORTS = ("file", "value", "name")
Chances = Mapping[str, tuple[float, int]]
"""Subset -> the sum over its samples of what a guess among the options would score, and of how many samples."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as it is printed: `21.7`, `1.8` (half of the interval), `%`; `-` for one that was never formed.

    place, low, high: where the value and the ends of its interval are on a bar, in percent of its width; None where
    there is nothing to set them against.
    """

    text: str
    half: str
    unit: str
    place: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        return f"{self.text}{f' ± {self.half}' if self.half else ''}{f' {self.unit}' if self.unit else ''}"


@dataclass(frozen=True, slots=True)
class Part:
    """A subset, a group of subsets with its `members`, or a category. n: see `counted`."""

    name: str
    title: str
    value: Shown | None
    order: float
    n: str
    chance: float | None = None
    members: Sequence[Part] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """A task as a page shows it.

    n: see `counted`. groups: its subsets in their groups; those of no group last, below a part without a name.
    breakdowns: what rows are told apart by (skill, length) -> its values.
    """

    task: str
    title: str
    part: str
    metric: MetricFields | None
    value: Shown | None
    others: Sequence[tuple[MetricFields, Shown]]
    chance: float | None
    n: str
    doubts: Mapping[str, int]
    average: str | None
    tokens: Number | None
    groups: Sequence[Part]
    breakdowns: Mapping[str, Sequence[Part]]


def finite(found: Number | None) -> float | None:
    """The number; None where it is none, or one that has no place on a scale."""
    return float(found) if isinstance(found, int | float) else None


def interval_of(metric: MetricFields) -> tuple[float, float] | None:
    """The 95 % interval, where both of its ends are numbers."""
    low, high = (finite(end) for end in metric["interval"] or (None, None))
    return None if low is None or high is None else (low, high)


def is_share(metric: MetricFields) -> bool:
    """Whether the values of a metric lie in [0, 1], which are shown in percent."""
    return metric.get("bounds") == [0.0, 1.0]


def percent(share: float | None, digits: int = 1) -> str:
    """`21.7 %`; `-` where there is none."""
    return "-" if share is None else f"{round(100 * share, digits) + 0.0:.{digits}f} %"


def value(metric: MetricFields, top: float | None = None) -> Shown:
    """A metric of a report. top: the right end of its bar, where its values have no bounds."""
    found, interval = finite(metric["value"]), interval_of(metric)
    if found is None:
        return Shown(number(metric["value"]), "", "")
    low, high = interval or (found, found)
    half = (high - low) / 2
    if is_share(metric):
        text, spread, unit, top = f"{100 * found:.1f}", f"{100 * half:.1f}", "%", 1.0
    else:
        text, spread, unit = number(found), number(half), ""
    places = [None if top is None else round(100 * min(max(each / top, 0.0), 1.0), 2) for each in (found, low, high)]
    return Shown(text, spread if interval else "", unit, *places)


def counted(part: TaskReport | PartFields) -> str:
    """How many samples the first value is of; `45 / 60` where others have no score."""
    asked = part["counts"]["n"]
    scored = part["metrics"][0]["n"] if part["metrics"] else asked
    return f"{scored:,}" if scored == asked else f"{scored:,} / {asked:,}"


def card(task: TaskReport, chances: Chances, sort: str = "file", t: Translate = english) -> Card:
    """A task of a report. chances: where a guess has a score. sort: one of `SORTS`."""
    metric = task["metrics"][0] if task["metrics"] else None
    total, n = (sum(each) for each in zip(*chances.values(), strict=True)) if chances else (0.0, 0)
    breakdowns: dict[str, list[PartFields]] = {}
    for category in task.get("categories", ()):
        breakdowns.setdefault(category["breakdown"], []).append(category)
    top = _top([task, *task["groups"], *task["subsets"], *task.get("categories", ())])
    return Card(
        task["task"],
        task.get("title") or task["task"],
        shown_part(task, t),
        metric,
        value(metric, top) if metric else None,
        [(other, value(other)) for other in task["metrics"][1:]],
        total / n if n else None,
        counted(task),
        {name: count for name in DOUBTS if (count := task["counts"].get(name))},
        task.get("average"),
        task.get("usage", {}).get("completion_tokens"),
        list(_groups(task, chances, sort, top)),
        {name: _sorted([_part(part, {}, top) for part in parts], sort) for name, parts in breakdowns.items()},
    )


def shown_part(task: TaskReport, t: Translate = english) -> str:
    """What of a task was asked, where that is not all of it: `(2 of 5 subsets)`, `(60 of 200 rows)`."""
    covers = task.get("covers")
    if covers is None or (words := part_words(covers, t)):
        return words if covers else ""
    rows = row_words(covers["rows"], covers["of_rows"], t)
    return f" ({rows})" if rows else ""


def chips(report: Report) -> Iterator[tuple[str, str]]:
    """(what, its value): what a reader asks first about how the numbers came about."""
    told: Mapping[str, Any] = report
    spec, model, environment = (told.get(name) or {} for name in ("spec", "model", "environment"))
    identity = model.get("identity")
    shots = sorted({task.get("num_fewshot") or 0 for task in report["tasks"]})
    splits = sorted({task["split"] for task in report["tasks"] if task.get("split")})
    seconds = finite(report.get("seconds"))
    for name, given in (
        ("shots", ", ".join(map(str, shots))),
        ("split", ", ".join(splits)),
        ("limit", spec.get("limit")),
        ("dtype", model.get("dtype") or (identity.get("dtype") if isinstance(identity, Mapping) else None)),
        ("template", "chat" if spec.get("apply_chat_template") else None),
        ("device", model.get("device")),
        ("gpu", environment.get("gpu")),
        ("seed", spec.get("seed")),
        ("time", None if seconds is None else f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"),
        ("began", str(report.get("started") or "")[:16].replace("T", " ")),
    ):
        if given is not None and given != "":
            yield name, str(given)


def short_title(report: Report | Manifest) -> str:
    """The model's name without the path to it, or the name that the run was given."""
    told: Mapping[str, JSON] = report.get("spec") or {}
    return str(told.get("name") or model_title(report).rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or "model")


def _top(parts: Sequence[TaskReport | PartFields]) -> float | None:
    """Where the bars of values without bounds end; None where some are below zero, or none is known."""
    ends: list[float] = []
    for part in parts:
        for metric in part["metrics"][:1]:
            known = (finite(metric["value"]), *(interval_of(metric) or ()))
            ends += [end for end in known if end is not None]
    return max(ends) if ends and min(ends) >= 0 and max(ends) > 0 else None


def _groups(task: TaskReport, chances: Chances, sort: str, top: float | None) -> Iterator[Part]:
    subsets = {part["name"]: _part(part, chances, top) for part in task["subsets"]}
    left = dict(subsets)
    for group in task["groups"]:
        members = [subsets[name] for name in group.get("members", ()) if name in subsets]
        for member in members:
            left.pop(member.name, None)
        # A group of one subset is that subset, and a report of before members does not say them.
        if len(members) == 1 or (not members and len(task["groups"]) == len(subsets)):
            left.update((member.name, member) for member in members)
        else:
            yield _part(group, {}, top, _sorted(members, sort))
    if left:
        yield Part("", "", None, 0.0, "", members=_sorted(list(left.values()), sort))


def _part(part: PartFields, chances: Chances, top: float | None, members: Sequence[Part] = ()) -> Part:
    total, n = chances.get(part["name"], (0.0, 0))
    metric = part["metrics"][0] if part["metrics"] else None
    found = finite(metric["value"]) if metric else None
    sign = 1.0 if metric and metric["higher_is_better"] else -1.0
    return Part(
        part["name"],
        part["title"] or part["name"],
        value(metric, top) if metric else None,
        float("-inf") if found is None else sign * found,
        counted(part),
        total / n if n else None,
        members,
    )


def _sorted(parts: list[Part], sort: str) -> list[Part]:
    if sort == "name":
        return sorted(parts, key=lambda part: part.title)
    return sorted(parts, key=lambda part: part.order, reverse=True) if sort == "value" else parts
