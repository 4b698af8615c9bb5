"""`harness data pull`: takes data sets along to a machine without network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.console import line, notice
from harness.cli.options import DATA_OPTIONS, options
from harness.cli.run import settings_of


@click.group("data")
def command() -> None:
    """Make a mirror of data sets, for machines without network."""


@command.command("pull")
@click.argument("tasks", nargs=-1, required=True)
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The mirror folder.")
@options(DATA_OPTIONS)
@click.pass_context
def pull(context: click.Context, /, tasks: tuple[str, ...], to: Path, **flags: Any) -> None:
    """Write the rows of TASKS to DIR, which `--data DIR` or HARNESS_DATA then gives to a run.

    \b
    harness data pull ceval cmmlu --to mirror
    harness --tasks ceval,cmmlu --data mirror --offline
    """
