"""`harness log`: what trackers have missed, sent later."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.completion import complete_loggers, complete_runs
from harness.cli.console import line, notice
from harness.cli.options import LOG_TO
from harness.errors import ExitCode, UsageError


@click.command("log")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), shell_complete=complete_runs)
@click.option(
    "--to", "targets", type=LOG_TO, multiple=True, metavar="LOGGER,K=V,...", shell_complete=complete_loggers,
    help="Where to, as for --log_to. Repeatable. [default: where the run was logged before]",
)  # fmt: skip
def command(runs: tuple[Path, ...], targets: tuple[tuple[str, dict[str, Any]], ...]) -> int:
    """Send the runs in the folders RUNS to experiment trackers. A tracker that has a run goes on with it, and one that
    has all of it gets nothing again.

    \b
    harness log runs/2026-08-01-demo-0f3a9c
    harness log runs/A runs/B --to wandb,project=NAME --to tensorboard,dir=logs
    """
    from harness.registry import load_plugins
    from harness.run.log import LogError, LogTarget, send, targets_of
    from harness.run.result import load_run

    registry = load_plugins()
    failed = False
    for run in runs:
        folder = load_run(run).path
        chosen = [LogTarget(*target) for target in targets] or targets_of(folder)
        if not chosen:
            raise UsageError(f"{run}: was never logged; say where to, as in --to tensorboard,dir=logs")
        for target in chosen:
            try:
                with contextlib.redirect_stdout(sys.stderr):  # trackers greet
                    is_new, where = send(folder, target, registry)
            except LogError as error:
                notice(f"error: {run}: {error}")
                failed = True
                continue
            line(f"{run}: {target.name}: {'sent' if is_new else 'has everything already'}: {where}")
    return ExitCode.INTERRUPTED if failed else ExitCode.OK
