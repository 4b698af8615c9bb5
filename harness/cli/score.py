"""`harness score`: new scores from old answers."""

from __future__ import annotations

from typing import Any

import click

from harness.cli.options import METRICS, without_repetitions
from harness.cli.run import print_result


@click.command("score")
@click.argument("run")
@METRICS
def command(run: str, metrics: tuple[list[str | dict[str, Any]], ...]) -> int:
    """Score the answers in the folder RUN again, by the task files as they are now. Asks no model and loads no rows.

    \b
    harness score runs/2026-08-01-demo-0f3a9c
    harness score runs/2026-08-01-demo-0f3a9c --metrics ece,lucky_guess
    """
    from harness.run.rescore import score_run

    added = without_repetitions(entry for entries in metrics for entry in entries)
    return print_result(score_run(run, metrics=added))
