"""`harness compare`: two runs, sample by sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.completion import complete_runs
from harness.cli.console import counted, line, notice, show, table
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.judging.ratings import RatingAgreement
    from harness.scoring.statistics.estimates import Estimate
    from harness.scoring.statistics.paired import Comparison

COLUMNS = ("task", "first", "second", "difference", "p", "n")


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...", shell_complete=complete_runs)
@click.option(
    "--ratings",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="In place of a second run, ratings of people: a table with columns task, id, rating (and subset, rater).",
)
@click.option("--list", "listed", is_flag=True, help="Name the samples that were won and lost.")
@click.option("--json", "as_json", is_flag=True, help="All numbers, as JSON.")
def command(runs: tuple[str, ...], ratings: Path | None, listed: bool, as_json: bool) -> None:
    """Compare runs with the first of them, sample by sample.

    The difference is that of the same questions; p is of an exact McNemar or permutation test (a bootstrap for values
    of a whole set), corrected by Holm's method where there are several tasks. A task and its form under --modify are
    compared row by row.

    \b
    harness compare runs/before runs/after
    harness compare runs/A --ratings people.csv      what judges said of A, against what people said
    """
    if ratings is not None:
        _compare_ratings(runs, ratings, as_json=as_json)
        return
    if len(runs) < 2:
        raise UsageError("name two runs or more: the first is what the others are compared with")
    from harness.run.compare import compare_runs, run_labels, unshared_tasks

    labels = dict(zip(runs, run_labels(runs), strict=True))
    for other in runs[1:]:
        comparisons = compare_runs(runs[0], other, across=True, message=notice)
        if as_json:
            line(json.dumps([asdict(item) for item in comparisons], ensure_ascii=False, default=list))
            continue
        line(f"first:  {labels[runs[0]]}")
        line(f"second: {labels[other]}")
        show(table(COLUMNS, [_row(item) for item in comparisons], ["task"]))
        for item in comparisons:
            _explain(item, listed=listed)
        for which, names in zip(("first", "second"), unshared_tasks(runs[0], other), strict=True):
            if names:
                line(f"only in the {which} run: {', '.join(names)}")


def _compare_ratings(runs: Sequence[str], file: Path, *, as_json: bool) -> None:
    from harness.judging.ratings import compare_ratings

    if len(runs) != 1:
        raise UsageError("--ratings: name one run or judgement, which the ratings are about")
    agreements = compare_ratings(Path(runs[0]), file, notice)
    if as_json:
        line(json.dumps([asdict(each) for each in agreements], ensure_ascii=False))
        return
    for each in agreements:
        line(f"{each.task}, {each.metric}: {each.judge}")
        rows = [
            (name, *_estimate(given), str(n))
            for name, given, n in (
                ("exact agreement", each.exact, each.ratings),
                ("kappa, quadratic weights", each.kappa, each.ratings),
                ("Spearman's rho", each.rho, each.n),
                *((("people among themselves, alpha", each.between, each.n),) if each.between else ()),
            )
        ]
        show(table(("measure", "value", "95% interval", "n"), rows, ["measure"]))
        for text in _remarks(each):
            line(text)


def _remarks(each: RatingAgreement) -> Iterator[str]:
    if each.unscored:
        yield f"{counted(each.unscored, 'rated sample')} without a score: left out"
    if each.out_of_scale and each.bounds:
        scale = f"{each.bounds[0]:g} to {each.bounds[1]:g}"
        number = counted(each.out_of_scale, "rating")
        yield f"{number} outside the judge's scale of {scale}; numbers are compared as they are"
    if each.kappa is None or each.rho is None:
        yield "- : not defined, where one side says the same of every sample"


def _estimate(given: Estimate | None) -> tuple[str, str]:
    if given is None:
        return "-", "-"
    return f"{given.value:.4f}", f"{given.interval[0]:.4f} .. {given.interval[1]:.4f}" if given.interval else "-"


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
