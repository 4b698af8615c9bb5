"""The results of runs as files for papers, sheets and other programs.

    text({"qwen3": report}, "markdown")

One row a metric: the task, what is below it, value, standard error, 95 % interval, n and doubts, with a column for the
run where there are several. Numbers are those of `report.json`, rounded only where people read them (Markdown, LaTeX).
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import files
from harness.errors import MachineError, UsageError
from harness.record.by_category import SideBySide
from harness.record.report_fields import Report
from harness.record.result_rows import DOUBTS, TableRow, rows
from harness.record.shown import finite, interval_of, value
from harness.terminal import visible, visible_line
from harness.view import charts
from harness.words import Translate, english

COLUMNS = ("task", "metric", "value", "stderr", "low", "high", "n", *DOUBTS)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_MARKDOWN = re.compile(r"[\\|`*\[\]~]")
_LATEX = {
    "[": "{[}", "]": "{]}", "*": "{*}",  # a row that began so would be an argument of the end of the row before
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def text(reports: Mapping[str, Report], form: str, *, subsets: bool = False, t: Translate = english) -> str:
    """The results as `markdown`, `csv`, `latex` (booktabs), `json`, or a `badge` (SVG) of the first value.

    What people read is in the words of `t`; the columns of CSV and JSON have the same names in every language.
    """
    return _TEXTS[form](reports, subsets, t)


def write(
    reports: Mapping[str, Report], form: str, path: Path, *, subsets: bool = False, t: Translate = english
) -> None:
    """The results in a file: any of the texts, `xlsx`, or the chart as `svg` or `png`. Raises SaveError."""
    if form in _TEXTS:
        data = text(reports, form, subsets=subsets, t=t).encode("utf-8", "replace")
    elif form == "xlsx":
        data = _xlsx(reports, subsets, t)
    elif form in ("svg", "png"):
        draw = charts.bars(bars_of(reports))
        data = charts.svg(draw, ground="white") if form == "svg" else charts.png(draw)
    else:
        raise UsageError(f"there is no form '{form}' (there are: {', '.join(FORMS)})")
    files.replace(path, [data])


def _records(
    reports: Mapping[str, Report], subsets: bool, t: Translate = english
) -> Iterator[tuple[str, TableRow, list[Any]]]:
    """(run, row, its cells under `COLUMNS`), the name of a task in each of its rows."""
    for run, report in reports.items():
        name = ""
        for row in rows(report, subsets=subsets, t=t):
            name = row.label if row.label and not row.part else name
            label = f"{name} / {row.label}" if row.part else name
            low, high = interval_of(row.result) or (None, None)
            numbers = [finite(row.result["value"]), finite(row.result["stderr"]), low, high, row.result["n"]]
            doubts = [row.counts.get(doubt) or None for doubt in DOUBTS]
            yield run, row, [label, row.metric, *numbers, *doubts]


def _sheet(reports: Mapping[str, Report], subsets: bool, t: Translate = english) -> tuple[list[str], list[list[Any]]]:
    """Header and rows; columns of doubts that no row has are left out, and that of the run where there is but one."""
    found = [(run, cells) for run, _, cells in _records(reports, subsets, t)]
    kept = [place for place, name in enumerate(COLUMNS) if name not in DOUBTS or any(row[place] for _, row in found)]
    several = len(reports) > 1
    header = [*(["run"] if several else []), *(COLUMNS[place] for place in kept)]
    return header, [[*([run] if several else []), *(row[place] for place in kept)] for run, row in found]


def _csv(reports: Mapping[str, Report], subsets: bool, t: Translate) -> str:
    return _csv_grid(*_sheet(reports, subsets))


def _csv_grid(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([inert_cell(cell) for cell in row] for row in lines)
    return stream.getvalue()


def inert_cell(cell: Any) -> Any:
    """A cell without control characters, and, since a spreadsheet takes a text that begins so for one, no formula."""
    if not isinstance(cell, str):
        return cell
    begins = cell.startswith(_FORMULA) or cell.lstrip().startswith(_FORMULA)
    return visible(f"'{cell}" if begins else cell)


def _xlsx(reports: Mapping[str, Report], subsets: bool, t: Translate) -> bytes:
    try:
        from openpyxl import Workbook
        from openpyxl.styles import Font
    except ModuleNotFoundError:
        raise MachineError("a workbook needs the package openpyxl: pip install 'harness-eval[view]'") from None
    book = Workbook()
    sheet: Any = book.active
    sheet.title = t("results")
    header, lines = _sheet(reports, subsets, t)
    for row in ([t(name) for name in header], *lines):
        sheet.append([inert_cell(cell) for cell in row])
    for cell in sheet[1]:
        cell.font = Font(bold=True)
    sheet.freeze_panes = "A2"
    for column in sheet.columns:
        widest = max(len(str(cell.value or "")) for cell in column)
        sheet.column_dimensions[column[0].column_letter].width = min(50, max(8, widest + 2))
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def _read_by_people(
    reports: Mapping[str, Report], subsets: bool, t: Translate = english
) -> tuple[list[str], list[list[str]]]:
    """Header and rows with values as `71.2 ± 1.4 %`."""
    found = list(_records(reports, subsets, t))
    doubts = [name for name in DOUBTS if any(row.counts.get(name) for _, row, _ in found)]
    several = len(reports) > 1
    lines = []
    for run, row, cells in found:
        counts = [str(row.counts.get(name) or "") for name in doubts]
        own = [cells[0], row.metric, str(value(row.result)), str(row.result["n"]), *counts]
        lines.append([run, *own] if several else own)
    return [*(["run"] if several else []), "task", "metric", "value", "n", *doubts], lines


def categories(found: Sequence[SideBySide], form: str, t: Translate = english) -> str:
    """Tasks by a breakdown: as `markdown` or `latex` with a column a run, as `csv` or `json` with a row a value."""
    if form in ("markdown", "latex"):
        grid = _markdown_grid if form == "markdown" else _latex_grid
        parts = []
        for side in found:
            header, *lines = side.cells(t)
            table, title = grid(header, lines, header[1:]), f"{side.task}: {side.metric}"
            if form == "latex":  # a comment ends with its line
                words = [
                    f"% {visible_line(title)}",
                    "",
                    table.rstrip("\n"),
                    *(f"% {visible_line(e)}" for e in side.extremes(t)),
                ]
            else:
                notes = [f"- {_markdown_text(each)}" for each in side.extremes(t)]
                words = [f"**{_markdown_text(title)}**", "", table.rstrip("\n"), *notes]
            parts.append("\n".join(words) + "\n")
        return "\n".join(parts)
    header = ["task", "metric", "breakdown", "category", "run", "value", "low", "high", "n"]
    rows = [
        [
            side.task,
            side.metric,
            side.breakdown,
            row.name,
            run,
            finite(each["value"]),
            *(interval_of(each) or (None, None)),
            each["n"],
        ]
        for side in found
        for row in side.rows
        for run, each in zip(side.runs, row.metrics, strict=True)
        if each
    ]
    return listed(header, rows, form)


def listed(header: Sequence[str], rows: Sequence[Sequence[Any]], form: str) -> str:
    """Rows as `csv`, as `json` with an object each, or as a table in `markdown` or `latex`."""
    if form == "csv":
        return _csv_grid(header, rows)
    if form == "json":
        return json.dumps([dict(zip(header, row, strict=True)) for row in rows], ensure_ascii=False, indent=2) + "\n"
    grid = _markdown_grid if form == "markdown" else _latex_grid
    return grid(header, [[str(cell) for cell in row] for row in rows], ())


def _markdown(reports: Mapping[str, Report], subsets: bool, t: Translate) -> str:
    header, lines = _read_by_people(reports, subsets, t)
    return _markdown_grid([t(name) for name in header], lines, [t(name) for name in ("value", "n", *DOUBTS)])


def _markdown_grid(header: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    aligned = ["---:" if name in right else "---" for name in header]
    cells = ([_markdown_text(cell) for cell in row] for row in (header, *lines))
    first, *others = cells
    return "".join(f"| {' | '.join(row)} |\n" for row in (first, aligned, *others))


def _markdown_text(text: str) -> str:
    """A text that Markdown shows as it is: no markup of its own, and none of HTML."""
    escaped = _MARKDOWN.sub(lambda found: f"\\{found[0]}", visible_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex(reports: Mapping[str, Report], subsets: bool, t: Translate) -> str:
    header, lines = _read_by_people(reports, subsets, t)
    return _latex_grid([t(name) for name in header], lines, [t(name) for name in ("value", "n", *DOUBTS)])


def _latex_grid(header: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    columns = "".join("r" if name in right else "l" for name in header)
    body = [" & ".join(_escaped(cell) for cell in row) + r" \\" for row in lines]
    head = " & ".join(_escaped(name) for name in header) + r" \\"
    parts = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(parts) + "\n"


def _escaped(cell: str) -> str:
    return "".join(_LATEX.get(character, character) for character in visible_line(cell)).replace(" ± ", r" $\pm$ ")


def _json(reports: Mapping[str, Report], subsets: bool, t: Translate) -> str:
    header, lines = _sheet(reports, subsets)
    return json.dumps([dict(zip(header, row, strict=True)) for row in lines], ensure_ascii=False, indent=2) + "\n"


def _badge(reports: Mapping[str, Report], subsets: bool, t: Translate) -> str:
    """The first value of the first run on a small sign, for a README."""
    report = next(iter(reports.values()))
    row = next(rows(report, t=t), None)
    left, right = (row.label, str(value(row.result))) if row else ("harness", t("no result"))
    widths = [10 + 7 * sum(2 if ord(c) > 0x2E7F else 1 for c in part) for part in (left, right)]
    middle = [widths[0] / 2, widths[0] + widths[1] / 2]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{sum(widths)}" height="20" role="img" '
        f'aria-label="{html.escape(visible(left))}: {html.escape(visible(right))}">'
        f'<rect width="{widths[0]}" height="20" fill="#444"/>'
        f'<rect x="{widths[0]}" width="{widths[1]}" height="20" fill="#1f5fad"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{middle[0]}" y="14">{html.escape(visible(left))}</text>'
        f'<text x="{middle[1]}" y="14">{html.escape(visible(right))}</text></g></svg>\n'
    )


def bars_of(reports: Mapping[str, Report]) -> dict[str, list[tuple[str, float, Sequence[float] | None]]]:
    """Run -> (task, value, interval) of the first metric of each task, for `charts.bars`."""
    found: dict[str, list[tuple[str, float, Sequence[float] | None]]] = {}
    for run, report in reports.items():
        for task in report["tasks"]:
            for metric in task["metrics"][:1]:
                if (known := finite(metric["value"])) is not None:
                    found.setdefault(run, []).append((task["task"], known, interval_of(metric)))
    return found


_TEXTS: Mapping[str, Callable[[Mapping[str, Report], bool, Translate], str]] = {
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
    "json": _json,
    "badge": _badge,
}
FORMS = (*_TEXTS, "xlsx", "svg", "png")
TEXT_FORMS = ("markdown", "csv", "latex", "json")
"""In which `categories` are written."""
