"""`harness report`: the results of a run, again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from harness.cli.console import counted, line, notice, show, width
from harness.errors import UsageError


@click.command("report")
@click.argument("run")
@click.option("--subsets", is_flag=True, help="With a row for every subset.")
@click.option("--json", "as_json", is_flag=True, help="As JSON: what report.json holds.")
def command(run: str, subsets: bool, as_json: bool) -> None:
    """Print the results in the folder RUN.

    \b
    harness report runs/2026-08-01-demo-0f3a9c --subsets
    """
    from harness.runner import load_run

    folder = load_run(Path(run))
    if not folder.report:
        raise UsageError(f"'{run}' has no report yet: the run has not ended; its command goes on with it")
    if as_json:
        line(json.dumps(folder.report, ensure_ascii=False, indent=2))
    else:
        print_report(folder.report, folder.path, subsets=subsets)


def print_report(report: Mapping[str, Any], path: Path, *, subsets: bool = False) -> None:
    """The result table on stdout; where the run is, and what failed in it, on stderr."""
    from harness.record.report import render

    show(render(report, width(), subsets=subsets))
    failed = sum(task["counts"]["failed"] for task in report["tasks"])
    if failed:
        what = counted(failed, "sample")
        notice(f"{what} failed: `error` in the records says why, and the same command tries them again")
    notice(f"Run folder: {path}")
