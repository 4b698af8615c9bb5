"""`harness data pull`: takes data sets along to a machine without network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.console import counted, line
from harness.cli.options import DATA_OPTIONS, checked_folders, joined, options, with_environment
from harness.cli.values import parse_names


@click.group("data")
def command() -> None:
    """Make a mirror of data sets, for machines without network."""


@command.command("pull", short_help="Write the rows of tasks to a folder.")
@click.argument("tasks", nargs=-1, required=True)
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The mirror folder.")
@options(DATA_OPTIONS)
def pull(tasks: tuple[str, ...], to: Path, **flags: Any) -> None:
    """Write the rows of TASKS to DIR, which `--data DIR` or HARNESS_DATA then gives to a run.

    \b
    harness data pull ceval cmmlu --to mirror
    harness --tasks ceval,cmmlu --data mirror --offline
    """
    settings = with_environment(joined(flags))
    checked_folders(settings)
    from harness.cli.progress import watch
    from harness.registry import load_plugins
    from harness.run.samples import pull_data
    from harness.run.spec import RunSpec

    names = tuple(name for words in tasks for name in parse_names(words))
    progress = watch()
    try:
        files = pull_data(RunSpec(tasks=names, **settings), load_plugins(), to, progress)
    finally:
        progress.finished()
    line(f"{counted(len(files), 'file')} in {to}: use them with --data {to}")
