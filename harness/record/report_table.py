"""The results of a run as an HTML table, for notebooks: every text in it is escaped, and it loads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from harness.record.report_fields import Report
from harness.record.result_rows import DOUBTS, TableRow, rows
from harness.record.shown import short_title, value
from harness.terminal import visible
from harness.words import Translate, english

_NUMBER = ' style="text-align:right"'
_MOST_ROWS = 200


def report_table(report: Report, caption: str, t: Translate = english) -> str:
    """The result table with values as `71.2 ± 1.4 %`, n, and what is in doubt."""
    shown = list(rows(report, t=t))
    doubts = [name for name in DOUBTS if any(row.counts.get(name) for row in shown)]
    head = "".join(f"<th>{escape(t(name))}</th>" for name in ("task", "metric", "value", "n", *doubts))
    body = "".join(_row(cells) for cells in _cells(shown, doubts, t))
    title = f"{short_title(report)}, {caption}" if report.get("model") else caption
    return (
        f'<table><caption style="text-align:left">{_text(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _cells(shown: Sequence[TableRow], doubts: list[str], t: Translate) -> Iterator[list[str]]:
    for row in shown[:_MOST_ROWS]:
        label = "\u2003" * row.depth + row.label
        counts = [str(row.counts.get(name) or "") for name in doubts]
        yield [label, row.metric, str(value(row.result)), f"{row.result['n']:,}", *counts]
    if len(shown) > _MOST_ROWS:
        yield [t("... and {n} rows more", n=len(shown) - _MOST_ROWS), "", "", "", *([""] * len(doubts))]


def _row(cells: list[str]) -> str:
    texts = "".join(f'<td style="text-align:left">{_text(cell)}</td>' for cell in cells[:2])
    return f"<tr>{texts}{''.join(f'<td{_NUMBER}>{_text(cell)}</td>' for cell in cells[2:])}</tr>"


def _text(text: str) -> str:
    return escape(visible(text)).encode("utf-8", "replace").decode()
