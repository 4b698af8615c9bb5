"""`harness lite`: few rows that stand for all, and how far their estimate can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.completion import complete_runs
from harness.cli.console import line, notice
from harness.cli.options import DATA_OPTIONS, Parsed, checked_folders, joined, options, with_environment
from harness.cli.values import parse_names, parse_seed
from harness.files import check_folder
from harness.words import locale_language, translator

if TYPE_CHECKING:
    from harness.tasks.lite_files import LiteSet

MAKE = "make"
RUNS = click.option(
    "--runs", multiple=True, type=click.Path(), metavar="RUN", shell_complete=complete_runs,
    help="A run of the whole task: the error of the estimate is measured on it. Repeatable.",
)  # fmt: skip


class _Lite(click.Group):
    """`harness lite TASKS` is short for `harness lite make TASKS`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [MAKE, *args]
        return super().parse_args(ctx, args)


@click.group("lite", cls=_Lite)
def command() -> None:
    """Choose few rows of a task that stand for all of them, and measure how far their estimate can be trusted.

    \b
    harness lite cmmlu --size 200                                writes cmmlu.lite.json
    harness --tasks cmmlu.lite.json --model hf --model_args pretrained=DIR
    harness lite check cmmlu.lite.json --runs runs/a --runs runs/b
    """


@command.command(MAKE, short_help="Choose rows (`harness lite TASKS`).")
@click.argument("tasks", nargs=-1, required=True)
@click.option("--size", type=click.IntRange(min=1), default=200, show_default=True, metavar="N", help="Rows, about.")
@click.option(
    "--method", type=click.Choice(["kcenter", "anchors", "irt", "random"]), default="kcenter",
    show_default=True,
    help="Rows far apart by what they say; rows in the middle of clusters that the --runs answered alike, or of rows "
    "of alike difficulty by item response theory; or any. In proportion to the subsets.",
)  # fmt: skip
@click.option(
    "--embedding", multiple=True, type=click.Path(), metavar="DIR",
    help="A local model of texts (BGE) or of texts and pictures (CLIP) by which kcenter tells rows apart, in the place "
    "of character TF-IDF. Repeatable.",
)  # fmt: skip
@RUNS
@click.option("--to", type=click.Path(path_type=Path), default=".", metavar="DIR", help="The folder of the files.")
@click.option("--seed", type=Parsed("n", parse_seed), metavar="N", help="Of random choices. [default: 1234]")
@options(DATA_OPTIONS)
def make(
    tasks: tuple[str, ...],
    size: int,
    method: str,
    embedding: tuple[str, ...],
    runs: tuple[str, ...],
    to: Path,
    **flags: Any,
) -> None:
    """Write NAME.lite.json for each of TASKS. With --runs, the file says how far its estimates lay from full scores.

    \b
    harness lite ceval cmmlu --size 200
    harness lite ceval --method anchors --runs runs/a --runs runs/b --runs runs/c
    """
    settings = with_environment(joined(flags))
    checked_folders(settings)
    check_folder("--to", to)
    from harness.run.lite import make_lite_sets
    from harness.run.spec import RunSpec
    from harness.tasks.lite_files import SUFFIX, write_lite

    names = tuple(name for words in tasks for name in parse_names(words))
    for lite in make_lite_sets(RunSpec(tasks=names, **settings), size, method, runs, embeddings=embedding):
        to.mkdir(parents=True, exist_ok=True)
        path = to / f"{lite.task.replace(':', '@')}{SUFFIX}"
        write_lite(lite, path)
        _print(lite, path)
        if lite.check is None:
            t = translator(locale_language(None))
            notice(t("Its error is not known: harness lite check {file} --runs RUN --runs RUN", file=path))


@command.command("check", short_help="Measure the error of sets on runs of other models.")
@click.argument("sets", nargs=-1, required=True, type=click.Path(path_type=Path))
@RUNS
@options(DATA_OPTIONS)
def check(sets: tuple[Path, ...], runs: tuple[str, ...], **flags: Any) -> None:
    """Compare what the lite SETS estimate with the full scores of RUNs that had no part in them, and keep the error.

    A run on the set then gives its estimate the interval that it really has.
    """
    settings = with_environment(joined(flags))
    checked_folders(settings)
    from harness.run.lite import check_lite
    from harness.run.spec import RunSpec
    from harness.tasks.lite_files import read_lite, write_lite

    for path in sets:
        lite = check_lite(read_lite(path), RunSpec(tasks=(), **settings), runs)
        write_lite(lite, path)
        _print(lite, path)


def _print(lite: LiteSet, path: Path) -> None:
    t = translator(locale_language(None))
    line(
        t(
            "{file}: {n} of {of} rows of {task}, {method}",
            file=path,
            n=f"{lite.size:,}",
            of=f"{sum(lite.of_rows.values()):,}",
            task=lite.task,
            method=t(lite.method),
        )
    )
    if check := lite.check:
        rank = t("none") if check.rank_correlation is None else f"{check.rank_correlation:.3f}"
        line(
            "  "
            + t(
                "{metric} on {n} held-out models: mean absolute error {absolute}, mean error {error}, rank correlation "
                "{rank}; interval ± {half}, which held {held} of {n}",
                metric=check.metric,
                n=len(check.runs),
                absolute=f"{check.mean_absolute:.4f}",
                error=f"{check.mean_error:+.4f}",
                rank=rank,
                half=f"{check.half_width:.4f}",
                held=check.held,
            )
        )
