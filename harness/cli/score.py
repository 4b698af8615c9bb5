"""`harness score`: new scores from old answers."""

from __future__ import annotations

import click

from harness.cli.options import METRICS
from harness.cli.run import print_result


@click.command("score")
@click.argument("run")
@METRICS
def command(run: str, metrics: tuple[tuple[str, ...], ...]) -> int:
    """Score the answers in the folder RUN again, by the task files as they are now. Asks no model and loads no rows.

    \b
    harness score runs/2026-08-01-demo-0f3a9c
    harness score runs/2026-08-01-demo-0f3a9c --metrics ece,lucky_guess
    """
    from harness.runner import score_run

    return print_result(score_run(run, metrics=[name for names in metrics for name in names]))
