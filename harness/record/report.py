"""What a run found, as data (`report.json`) and as one table.

Values stand as their metrics give them (an accuracy is 0.6132, not 61.32), with four decimals, as in lm-eval and so
that a perplexity and an accuracy need no different reading.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.record.manifest import seconds_of
from harness.types import JSON, Counts, MetricResult, Record, Result

FORMAT = 1
DOUBTS = ("failed", "unparsed", "truncated", "empty")
_FROM_MANIFEST = ("command", "model", "plugins", "versions", "environment", "started", "spec", "data")


@dataclass(slots=True)
class Usage:
    """What answers cost, as far as the model says: tokens, prompt tokens cut off, and seconds of the model's time."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated_tokens: int = 0
    seconds: float = 0.0


def watch(records: Iterable[Record], usage: dict[str, Usage]) -> Iterator[Record]:
    """Hand the records on, and add up in `usage` (by task) what their answers cost."""
    for record in records:
        total = usage.setdefault(record.task, Usage())
        for response in record.responses:
            total.prompt_tokens += response.prompt_tokens or 0
            total.completion_tokens += response.completion_tokens or 0
            total.truncated_tokens += response.truncated
            total.seconds += response.seconds or 0.0
        yield record


def build_report(
    manifest: Mapping[str, JSON], results: Sequence[Result], usage: Mapping[str, Usage] | None = None
) -> dict[str, JSON]:
    """What `report.json` holds.

    `tasks` is a list in the order of the results; a task holds `counts`, `metrics` (each with value, n, stderr,
    interval, and where there are such: the `scorer` behind it, `truncated`, how many samples it cut a text of, and the
    `error` in the place of a value), the same `by_average` (micro and macro) where it has subsets, and its `groups` and
    `subsets`. `incidents` is what was survived on the way, in whichever session, each with a line `text`. usage: what
    each task cost, see `watch`.
    """
    tasks: dict[str, dict[str, JSON]] = {}
    for result in results:
        task = tasks.setdefault(result.task, {"task": result.task})
        if result.level == "task":
            _add_average(task, result)
        else:
            parts = task.setdefault(f"{result.level}s", {})
            _add_average(parts.setdefault(result.name, {"name": result.name, "title": result.title}), result)
    return {
        "format": FORMAT,
        **{name: manifest[name] for name in _FROM_MANIFEST if name in manifest},
        "seconds": seconds_of(manifest),
        "incidents": [found for session in manifest.get("sessions", ()) for found in session.get("incidents", ())],
        "tasks": [
            {
                **_finish(task, manifest.get("tasks", {}).get(name, {})),
                "usage": asdict((usage or {}).get(name, Usage())),
            }
            for name, task in tasks.items()
        ],
    }


def _add_average(entry: dict[str, JSON], result: Result) -> None:
    """The first result of a name is the task's own average; the second stands beside it."""
    metrics = [_metric(metric) for metric in result.metrics]
    if "metrics" not in entry:
        entry.update(average=result.average, counts=asdict(result.counts), metrics=metrics)
    if result.average is not None:
        entry.setdefault("by_average", {})[result.average] = metrics


def _finish(task: dict[str, JSON], known: Mapping[str, JSON]) -> dict[str, JSON]:
    order = ("task", "title", "version", "num_fewshot", "average", "counts", "metrics", "by_average")
    empty = {"counts": asdict(Counts()), "metrics": []}
    fields = {**empty, **{name: known[name] for name in order if name in known}, **task}
    whole = {name: fields[name] for name in order if name in fields}
    return {**whole, "groups": list(task.get("groups", {}).values()), "subsets": list(task.get("subsets", {}).values())}


def _metric(metric: MetricResult) -> dict[str, JSON]:
    fields = asdict(metric)
    fields["interval"] = list(metric.interval) if metric.interval else None
    for name in ("scorer", "truncated", "error"):
        if not fields[name]:
            del fields[name]
    return fields


def render(report: Mapping[str, JSON], width: int = 80, *, subsets: bool = False) -> RenderableType:
    """The result table, for a console of `width` columns: a task's rows, then its groups, then (if asked) its subsets.

    What does not fit is left out from the right of this list: the interval, the columns of doubt (which then stand
    below, in words). A single sample of doubt is enough for its column.
    """
    rows = [row for task in report["tasks"] for row in _rows(task, subsets)]
    doubts = [name for name in DOUBTS if any(row.counts.get(name) for row in rows)]
    columns = ["metric", "value", "stderr", "95% interval", "n", *doubts]
    words: list[Text] = []
    if _width(rows, columns) > width:
        columns.remove("95% interval")
    if _width(rows, columns) > width and doubts:
        columns = columns[: -len(doubts)]
        words = list(_in_words(report["tasks"], doubts))
    words += [Text(str(found["text"]), style="yellow") for found in report.get("incidents", ())]
    words += [Text(text, style="dim") for text in scorers(report)]
    words += [Text(text, style="yellow") for text in doubts_about_metrics(report)]
    return Group(_table(rows, columns), *words)


def render_together(reports: Mapping[str, Mapping[str, JSON]]) -> RenderableType:
    """One table of several runs, a metric of a task at a time: what each run got, under its name."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task, metric, model", overflow="fold")
    for name in ("value", "stderr", "n"):
        table.add_column(name, justify="right", no_wrap=True, style=_style(name))
    lines: dict[str, dict[str, Mapping[str, JSON]]] = {}
    for name, report in reports.items():
        for task in report["tasks"]:
            for metric in task["metrics"]:
                title = f"{task['task']}, {_metric_label(metric, task.get('average'))}"
                lines.setdefault(title, {})[name] = metric
    for title, by_run in lines.items():
        table.add_row(Text(title), style="dim")
        for name, metric in by_run.items():
            cells = (f"  {name}", number(metric["value"]), number(metric["stderr"]), str(metric["n"]))
            table.add_row(*(Text(cell) for cell in cells))
    return table


def scorers(report: Mapping[str, JSON]) -> Iterator[str]:
    """One line for each model (or other people's code) that scored answers: a task, its metrics, and what it was."""
    for task in report["tasks"]:
        found: dict[str, list[str]] = {}
        for metric in task["metrics"]:
            if scorer := metric.get("scorer"):
                words = ", ".join(f"{name} {value}" for name, value in scorer.items() if value is not None)
                found.setdefault(words, []).append(metric["metric"])
        for words, metrics in found.items():
            yield f"{task['task']}: {', '.join(metrics)} by {words}"


def doubts_about_metrics(report: Mapping[str, JSON]) -> Iterator[str]:
    """One line for each metric that has no value for its set, or cut texts that are longer than its window."""
    for task in report["tasks"]:
        cut: dict[int, list[str]] = {}
        for metric in task["metrics"]:
            if metric.get("truncated"):
                cut.setdefault(metric["truncated"], []).append(metric["metric"])
            if metric.get("error"):
                yield f"{task['task']}: {metric['metric']} has no value: {metric['error']}"
        for count, metrics in cut.items():
            texts = "sample has a text" if count == 1 else "samples have a text"
            yield f"{task['task']}: {count} {texts} longer than the window of {', '.join(metrics)}, which was cut"


def summary_text(report: Mapping[str, JSON], width: int = 100) -> str:
    """The result table as plain text, without colour or line ends at odd places."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False).print(render(report, width))
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines()).strip("\n")


def number(value: JSON) -> str:
    """A value as it is shown everywhere: four decimals, or six digits where it is large; `-` where there is none."""
    if value is None:
        return "-"
    value = float(value)
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else "nan"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.6g}"


def interval(metric: Mapping[str, JSON]) -> str:
    """`0.5861-0.6403`, or `-` where it is not known."""
    bounds = metric["interval"]
    return f"{number(bounds[0])} .. {number(bounds[1])}" if bounds else "-"


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    depth: int
    metric: str
    result: Mapping[str, JSON]
    counts: Mapping[str, int]

    def cells(self, columns: Sequence[str]) -> list[str]:
        known = {
            "metric": self.metric,
            "value": number(self.result["value"]),
            "stderr": number(self.result["stderr"]),
            "95% interval": interval(self.result),
            "n": str(self.result["n"]),
        }
        doubts = {name: str(self.counts[name]) if self.counts.get(name) else "" for name in DOUBTS}
        return ["  " * self.depth + self.label, *({**known, **doubts}[name] for name in columns)]


def _rows(task: Mapping[str, JSON], subsets: bool) -> Iterator[_Row]:
    """All metrics of the task, its other average, and the first metric of each group and subset."""
    named = [(_metric_label(metric, task.get("average")), metric) for metric in task["metrics"]]
    for average, metrics in task.get("by_average", {}).items():
        if average != task.get("average"):
            named += [(_metric_label(metric, average), metric) for metric in metrics[:1]]
    for index, (label, metric) in enumerate(named):
        yield _Row("" if index else task["task"], 0, label, metric, {} if index else task["counts"])
    for part in [*task["groups"], *(task["subsets"] if subsets else ())]:
        for metric in part["metrics"][:1]:
            name = part["title"] or part["name"]
            yield _Row(name, 1, _metric_label(metric, part.get("average")), metric, part["counts"])


def _metric_label(metric: Mapping[str, JSON], average: str | None) -> str:
    arrow = "" if metric["higher_is_better"] else " (less is better)"
    return f"{metric['metric']}{f', {average}' if average else ''}{arrow}"


def _table(rows: Sequence[_Row], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task", overflow="fold")
    for name in columns:
        right = name != "metric"
        table.add_column(name, justify="right" if right else "left", no_wrap=right, style=_style(name))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row.cells(columns)), style="" if row.depth == 0 else "dim")
    return table


def _style(column: str) -> str:
    return "bold" if column == "value" else "yellow" if column in DOUBTS else ""


def _width(rows: Sequence[_Row], columns: Sequence[str]) -> int:
    """Columns of a terminal that the table takes; a Chinese character takes two."""
    cells = [("task", *columns), *(row.cells(columns) for row in rows)]
    return sum(max(map(cell_len, column)) for column in zip(*cells, strict=True)) + len(columns)


def _in_words(tasks: Sequence[Mapping[str, Any]], doubts: Sequence[str]) -> Iterator[Text]:
    for task in tasks:
        found = [f"{task['counts'][name]} {name}" for name in doubts if task["counts"].get(name)]
        if found:
            yield Text(f"{task['task']}: {', '.join(found)}", style="yellow")
