"""`harness score`: new scores from old answers."""

from __future__ import annotations

import click

from harness.cli.run import print_result


@click.command("score")
@click.argument("run")
def command(run: str) -> int:
    """Score the answers in the folder RUN again, by the task files as they are now. Asks no model and loads no rows.

    \b
    harness score runs/2026-08-01-demo-0f3a9c
    """
    from harness.runner import score_run

    return print_result(score_run(run))
