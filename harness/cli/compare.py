"""`harness compare`: two runs, sample by sample."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from harness.cli.completion import complete_runs
from harness.cli.console import counted, line, notice, show, table
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.scoring.statistics.paired import Comparison

COLUMNS = ("task", "first", "second", "difference", "p", "n")


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", shell_complete=complete_runs)
@click.option("--list", "listed", is_flag=True, help="Name the samples that were won and lost.")
@click.option("--json", "as_json", is_flag=True, help="All numbers, as JSON.")
def command(runs: tuple[str, ...], listed: bool, as_json: bool) -> None:
    """Compare runs with the first of them, sample by sample.

    The difference is that of the same questions; p is of an exact McNemar or permutation test (a bootstrap for values
    of a whole set), corrected by Holm's method where there are several tasks. A task and its form under --modify are
    compared row by row.

    \b
    harness compare runs/before runs/after
    """
    if len(runs) < 2:
        raise UsageError("name two runs or more: the first is what the others are compared with")
    from harness.run.compare import compare_runs, run_labels, unshared_tasks

    labels = dict(zip(runs, run_labels(runs), strict=True))
    for other in runs[1:]:
        comparisons = compare_runs(runs[0], other, across=True, message=notice)
        if as_json:
            line(json.dumps([asdict(item) for item in comparisons], ensure_ascii=False))
            continue
        line(f"first:  {labels[runs[0]]}")
        line(f"second: {labels[other]}")
        show(table(COLUMNS, [_row(item) for item in comparisons], ["task"]))
        for item in comparisons:
            _explain(item, listed=listed)
        for which, names in zip(("first", "second"), unshared_tasks(runs[0], other), strict=True):
            if names:
                line(f"only in the {which} run: {', '.join(names)}")


def _row(pair: Comparison) -> tuple[str, ...]:
    from harness.record.junit import p_value as as_text

    p_value = pair.p_value if pair.adjusted_p is None else pair.adjusted_p
    numbers = ["-" if value is None else f"{value:.4f}" for value in (pair.first, pair.second)]
    difference = "-" if pair.difference is None else f"{pair.difference:+.4f}"
    return (pair.name, *numbers, difference, as_text(p_value), str(pair.n))


def _explain(pair: Comparison, *, listed: bool) -> None:
    """What the table has no room for."""
    # A sample is won where the second run is better, whichever direction that is.
    won, lost = (pair.wins, pair.losses) if pair.higher_is_better else (pair.losses, pair.wins)
    facts = []
    if pair.interval is not None:
        facts.append(f"95% interval {pair.interval[0]:+.4f} .. {pair.interval[1]:+.4f}")
    if won or lost or pair.ties:
        facts.append(f"{len(won)} won, {len(lost)} lost, {counted(pair.ties, 'tie')}")
    if pair.detectable:
        facts.append(f"a difference below {pair.detectable:.4f} would hardly show")
    facts += [f"{counted(count, 'sample')} left out: {what}" for what, count in pair.notes.items()]
    if facts:
        line(f"{pair.name}: {'; '.join(facts)}")
    if listed:
        for title, samples in (("won", won), ("lost", lost)):
            named = [f"{subset}/{number}" if subset else str(number) for subset, number in samples]
            line(f"{pair.name}: {title}: {', '.join(named) or 'none'}")
