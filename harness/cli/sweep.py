"""The table of a sweep, and its chart: what each value of a setting scores, and how many tokens it takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import line, notice_path, show, table

if TYPE_CHECKING:
    from harness.record.file_types import Report
    from harness.run.sweep import SweepPoint

COLUMNS = ("task, metric", "setting", "value", "stderr", "n", "tokens an answer", "of reasoning", "cut")

DIALS = ("thinking", "reasoning_effort", "thinking_budget")
"""What is meant to change how long answers are."""


def print_sweep(name: str, reports: Mapping[str, Report], output: Path) -> None:
    """Print one row for each task and value, and write a chart of score against tokens, where tokens are known."""
    from harness.record.report import number
    from harness.run.sweep import sweep_points

    points = sorted(sweep_points(reports), key=lambda point: point.task)
    rows = []
    for point in points:
        tokens, reasoning = ("-" if each is None else f"{each:,.1f}" for each in (point.tokens, point.reasoning))
        first = (f"{point.task}, {point.metric}", point.label, number(point.value), number(point.stderr), str(point.n))
        rows.append([*first, tokens, reasoning, str(point.cut or "")])
    line()
    show(table(COLUMNS, rows, flexible=COLUMNS[:2]))
    for task in dict.fromkeys(point.task for point in points) if name in DIALS else ():
        took = [point.tokens for point in points if point.task == task]
        if None not in took and len(set(took)) == 1:
            line(f"{task}: answers took as many tokens with each {name}: the model or its server may ignore it")
    _write_charts(name, points, output)


def _write_charts(name: str, points: Sequence[SweepPoint], output: Path) -> None:
    if find_spec("matplotlib") is None:
        return
    from harness.view.charts import scatter, svg

    for task in dict.fromkeys(point.task for point in points):
        drawn = [
            (point.label, point.tokens, point.value)
            for point in points
            if point.task == task and point.tokens is not None and point.value is not None
        ]
        if len(drawn) > 1:
            path = output / f"sweep_{re.sub(r'[^A-Za-z0-9_-]+', '_', f'{name}_{task}')}.svg"
            path.write_bytes(svg(scatter(drawn, "tokens an answer", task), ground="white"))
            notice_path("Chart", path)
