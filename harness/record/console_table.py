"""The result table of a report in a terminal, with what is to be said below it, and one table of several runs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.record.coverage import bad_row_lines
from harness.record.report_fields import Report
from harness.record.report_lines import (
    contamination_lines,
    corrections,
    doubts_about_metrics,
    gaps,
    losses,
    of_parts,
    partial,
    scorers,
    settings,
    unscored,
)
from harness.record.result_rows import DOUBTS, TableRow, metric_label, name_of, number, ordered, rows
from harness.record.score_fields import MetricFields
from harness.terminal import visible
from harness.words import Translate, english


def render(report: Report, width: int = 80, *, subsets: bool = False, t: Translate = english) -> RenderableType:
    """The result table, for a console of `width` columns: a task's rows, then its groups, then (if asked) its subsets.

    A group of tasks stands above its tasks, which are indented. What does not fit is left out from the right of this
    list: the interval, the columns of doubt (which then stand below, in words). A single sample of doubt is enough for
    its column.
    """
    shown = list(rows(report, subsets=subsets, t=t))
    doubts = [name for name in DOUBTS if any(row.counts.get(name) for row in shown)]
    columns = ["metric", "value", "stderr", "95% interval", "n", *doubts]
    words: list[Text] = []
    if _width(shown, columns, t) > width:
        columns.remove("95% interval")
    if _width(shown, columns, t) > width and doubts:
        columns = columns[: -len(doubts)]
        for task in report["tasks"]:
            if counts := [f"{task['counts'][name]} {t(name)}" for name in doubts if task["counts"].get(name)]:
                words.append(Text(visible(f"{task['task']}: {', '.join(counts)}"), style="yellow"))
    words += [Text(visible(line), style="yellow") for line in (*partial(report, t), *corrections(report, t))]
    words += [Text(visible(line), style="dim") for line in settings(report, t)]
    words += [Text(visible(line), style="dim") for line in of_parts(report, t)]
    seen = contamination_lines(report, t, found=True)
    doubtful = (*bad_row_lines(report, t), *losses(report, t), *gaps(report, t), *unscored(report, t), *seen)
    words += [Text(visible(line), style="yellow") for line in doubtful]
    words += [Text(visible(str(incident["text"])), style="yellow") for incident in report.get("incidents", ())]
    words += [Text(visible(text), style="dim") for text in scorers(report, t)]
    words += [Text(visible(text), style="yellow") for text in doubts_about_metrics(report, t)]
    return Group(_table(shown, columns, t), *words)


def render_together(reports: Mapping[str, Report], t: Translate = english) -> RenderableType:
    """One table of several runs, a metric of a task at a time: what each run got, under its name."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(t("task, metric, model"), overflow="fold")
    for name in ("value", "stderr", "n"):
        table.add_column(t(name), justify="right", no_wrap=True, style=_style(name))
    lines: dict[str, dict[str, MetricFields]] = {}
    for name, report in reports.items():
        for _, entry in ordered(report):
            for metric in entry["metrics"]:
                title = f"{name_of(entry, t)}, {metric_label(metric, metric.get('average', entry.get('average')), t)}"
                lines.setdefault(title, {})[name] = metric
    for title, by_run in lines.items():
        table.add_row(Text(visible(title)), style="dim")
        for name, metric in by_run.items():
            cells = (f"  {name}", number(metric["value"]), number(metric["stderr"]), str(metric["n"]))
            table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def summary_text(report: Report, width: int = 100) -> str:
    """The result table as plain text, without colour or line ends at odd places."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False).print(render(report, width))
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines()).strip("\n")


def _table(rows: Sequence[TableRow], columns: Sequence[str], t: Translate) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(t("task"), overflow="fold")
    for name in columns:
        right = name != "metric"
        table.add_column(t(name), justify="right" if right else "left", no_wrap=right, style=_style(name))
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row.cells(columns)), style="dim" if row.part else "")
    return table


def _style(column: str) -> str:
    return "bold" if column == "value" else "yellow" if column in DOUBTS else ""


def _width(rows: Sequence[TableRow], columns: Sequence[str], t: Translate) -> int:
    """Columns of a terminal that the table takes; a Chinese character takes two."""
    cells = [tuple(map(t, ("task", *columns))), *(row.cells(columns) for row in rows)]
    return sum(max(map(cell_len, column)) for column in zip(*cells, strict=True)) + len(columns)
