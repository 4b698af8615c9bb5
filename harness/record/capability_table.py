"""The capability map of a report, as a table: what a model can do best, and what worst."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.record.report_fields import Report
from harness.terminal import visible
from harness.words import Translate, english

if TYPE_CHECKING:
    from rich.console import RenderableType

LEAST = 3
"""With fewer abilities there is nothing to set side by side that the table of tasks does not show."""


def capability_table(report: Report, t: Translate = english) -> RenderableType | None:
    """A row an ability, the best first; None where a report has too few of them."""
    from rich.table import Table
    from rich.text import Text

    scored = [
        (ability, ability["raw"], ability["corrected"])
        for ability in report.get("abilities", ())
        if ability["raw"] is not None and ability["corrected"] is not None
    ]
    if len(scored) < LEAST:
        return None
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(t("ability"), no_wrap=True)
    for name in ("raw", "above chance", "95% interval", "n"):
        table.add_column(t(name), justify="right", no_wrap=True)
    table.add_column(t("tasks"), overflow="fold")
    for ability, raw, corrected in scored:
        ends = corrected["interval"]
        cells = (
            t(ability["ability"]),
            _percent(raw["value"]),
            _percent(corrected["value"]),
            f"{_percent(ends[0])} .. {_percent(ends[1])}" if ends else "-",
            str(ability["n"]),
            ", ".join(ability["tasks"]),
        )
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def _percent(share: float) -> str:
    return f"{round(share, 3) + 0.0:.1%}"  # no minus before a zero


def cutoff_line(report: Report, t: Translate = english) -> str | None:
    """Which benchmarks a model may have been trained on, where the run says when its training data ends."""
    cutoff = report.get("cutoff")
    if not cutoff:
        return None
    dated = [(task["task"], task.get("date") or "") for task in report["tasks"]]
    older = [f"{name} ({date})" for name, date in dated if date and date <= cutoff[: len(date)]]
    undated = [name for name, date in dated if not date]
    words = "no task of this run was published before the model's cut-off {date}"
    if older:
        words = "published before the model's cut-off {date}, and so perhaps in its training data: {tasks}"
    said = [t(words, date=cutoff, tasks=", ".join(older))]
    return "; ".join([*said, *([t("without a date: {tasks}", tasks=", ".join(undated))] if undated else [])])
