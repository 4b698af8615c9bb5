"""`harness merge`: one run of its shards."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.completion import complete_runs


@click.command("merge")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), shell_complete=complete_runs)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="DIR",
    help="Where the run folder of all is made. [default: beside the shards]",
)  # fmt: skip
@click.option("--out", "output", type=click.Path(path_type=Path), hidden=True)
@click.option("--mixed_versions", is_flag=True, help="Take shards that different versions of packages computed.")
def command(runs: tuple[Path, ...], output: Path | None, mixed_versions: bool) -> int:
    """Make one run of its shards: RUNS are the folders that `--shard 1/16` to `--shard 16/16` made, or a folder that
    holds them. The new folder is what one process would have left; the shards stay as they are.

    \b
    harness merge runs
    harness merge node1/runs/*-shard-* node2/runs/*-shard-* --output runs
    """
    from harness.cli.progress import watch
    from harness.cli.run import print_result
    from harness.run.merge import merge

    progress = watch()
    try:
        result = merge(runs, output, progress=progress, mixed_versions=mixed_versions)
    finally:
        progress.finished()
    return print_result(result)
