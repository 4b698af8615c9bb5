"""Values that a model's makers published, beside those of a run: whether they agree, and what differs in protocol.

A run agrees where 0 lies within the 95 % interval of the difference, its own value less the published one. The interval
is the run's, over questions, and half of the last digit that was published wider on both sides. The published value is
of the same questions, so that its own error is not another one; where a recipe says that it is of `n` others, their
sampling error counts too, at most sqrt(p (1 - p) / n), and the two halves add up in squares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist
from typing import Any, cast

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.report_fields import DepartureFields, PublishedFields, Report, TaskReport
from harness.record.score_fields import MetricFields
from harness.terminal import visible
from harness.types import JSON
from harness.words import Translate, english

HUB_FOLDER = ".eval_results"
VERDICTS = ("agrees", "above", "below", "unclear", "no value")


def departure(words: str, **values: str | int | None) -> DepartureFields:
    """What was not done as it was published: words with `{names}` of values; None is a setting that is not set."""
    return {"words": words, "values": values}


def compared(
    task: TaskReport, published: Mapping[str, JSON], recipe: Mapping[str, JSON], differs: Sequence[DepartureFields]
) -> PublishedFields:
    """A task's value beside the one that was published for it.

    published: an entry of a recipe's `tasks`. recipe: its `source` and `date`. differs: what differs in protocol.
    """
    name = published.get("metric")
    metric = next((each for each in task["metrics"] if name in (None, each["metric"])), None)
    scale = float(published.get("scale", 100))
    value = float(published["published"]) / scale
    rounding = 0.5 * 10 ** -_decimals(published["published"]) / scale
    fields: dict[str, Any] = {
        "metric": metric["metric"] if metric else str(name or ""),
        "value": value,
        "source": published.get("source", recipe.get("source", "")),
        "date": published.get("date", recipe.get("date", "")),
        "note": published.get("note", ""),
        "verdict": "no value",
        "difference": None,
        "interval": None,
        "differs": [_said(each, english) for each in differs],
        "differs_words": list(differs),
    }
    if metric and metric["value"] is not None:
        ours = float(metric["value"])
        difference = fields["difference"] = ours - value
        fields["verdict"] = "unclear"
        if metric["interval"]:
            own = _own_error(value, metric, published.get("n"))
            below, above = ours - float(metric["interval"][0]), float(metric["interval"][1]) - ours
            low = difference - math.hypot(below, own) - rounding
            high = difference + math.hypot(above, own) + rounding
            fields["interval"] = [low, high]
            fields["verdict"] = "below" if high < 0 else "above" if low > 0 else "agrees"
    return cast(PublishedFields, fields)


def _own_error(value: float, metric: MetricFields, n: int | None) -> float:
    """Half of the 95 % interval of a published share of `n` questions; 0 where they are the task's own."""
    if n is None or metric.get("bounds") != [0, 1] or not 0 <= value <= 1:
        return 0.0
    return NormalDist().inv_cdf(0.975) * math.sqrt(value * (1 - value) / n)


def _decimals(value: float | int) -> int:
    exponent = Decimal(str(value)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A published value beside the run's, as it is shown. verdict: one of `VERDICTS`."""

    task: str
    value: str
    published: str
    difference: str
    interval: str
    verdict: str
    note: str


def published_rows(report: Report) -> Iterator[PublishedRow]:
    """A row for each task of which a value was published."""
    for task in report["tasks"]:
        if told := task.get("published"):
            ours = next((each["value"] for each in task["metrics"] if each["metric"] == told["metric"]), None)
            ends = told["interval"]
            yield PublishedRow(
                task["task"],
                "-" if ours is None else f"{float(ours):.4f}",
                f"{told['value']:.4f}",
                "-" if told["difference"] is None else f"{told['difference']:+.4f}",
                f"{ends[0]:+.4f} .. {ends[1]:+.4f}" if ends else "-",
                told["verdict"],
                str(told.get("note") or ""),
            )


def render_published(report: Report, t: Translate = english) -> RenderableType | None:
    """A table of the published values beside the run's; None where none is known."""
    entries = list(published_rows(report))
    if not entries:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(t("task"), overflow="fold")
    for name in ("value", "published", "difference"):
        table.add_column(t(name), justify="right", no_wrap=True)
    table.add_column(t("95% interval"), justify="right")  # in a narrow terminal it is this that takes two lines
    table.add_column("", no_wrap=True)
    for row in entries:
        cells = (row.task, row.value, row.published, row.difference, row.interval)
        style = {"agrees": "green", "below": "red", "above": "yellow"}.get(row.verdict, "dim")
        table.add_row(*(Text(visible(cell)) for cell in cells), Text(t(row.verdict), style=style))
    words = [Text(visible(text), style="yellow") for text in protocol_lines(report, t)]
    return Group(table, *words, *(Text(visible(text), style="dim") for text in source_lines(report, t)))


def source_lines(report: Report, t: Translate = english) -> Iterator[str]:
    """Where the published values are from, a line for each source."""
    known = [told for task in report["tasks"] if (told := task.get("published"))]
    for text in dict.fromkeys(f"{told['source']} ({told['date']})" for told in known):
        yield t("published: {source}", source=text)


def protocol_lines(report: Report, t: Translate = english) -> Iterator[str]:
    """What differs from the published protocol, a line for all tasks of which the same does."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for task in report["tasks"]:
        if (told := task.get("published")) and told["differs"]:
            words = told.get("differs_words")  # which a report of an earlier version does not hold
            phrases = told["differs"] if words is None else [_said(each, t) for each in words]
            alike.setdefault(tuple(phrases), []).append(task["task"])
    for differs, tasks in alike.items():
        yield t("{tasks}: not as published: {differences}", tasks=", ".join(tasks), differences=t("; ").join(differs))


def _said(each: DepartureFields, t: Translate) -> str:
    values = {name: t("none") if value is None else value for name, value in each["values"].items()}
    return t(each["words"], **values)


def read_eval_results(folder: Path) -> list[dict[str, JSON]]:
    """The published values in a model's folder, in the hub's own format: `.eval_results/*.yaml`.

    Each entry: `dataset` (an id on the hub), `task_id`, `published`, `source`, `date`, `note`. Raises `UsageError` with
    the file for what is not of this format.
    """
    import yaml

    entries: list[dict[str, JSON]] = []
    for path in sorted((folder / HUB_FOLDER).glob("*.y*ml")):
        try:
            listed = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{path}: is not YAML that can be read: {' '.join(str(error).split())}") from None
        for place, item in enumerate(listed if isinstance(listed, list) else [listed]):
            dataset = item.get("dataset") if isinstance(item, dict) else None
            value = item.get("value") if isinstance(item, dict) else None
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            if not isinstance(dataset, dict) or not isinstance(dataset.get("id"), str) or not plain:
                raise UsageError(f"{path}: entry {place + 1}: `dataset: {{id: ...}}` and a number `value` are expected")
            source = item.get("source")
            where = str(source.get("url") or "") if isinstance(source, dict) else ""
            entries.append(
                {
                    "dataset": dataset["id"],
                    "task_id": str(dataset.get("task_id") or ""),
                    "published": value,
                    "source": where or str(path),
                    "date": str(item.get("date") or ""),
                    "note": str(item.get("notes") or ""),
                }
            )
    return entries
