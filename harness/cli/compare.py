"""`harness compare`: two runs, sample by sample."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.completion import complete_runs
from harness.cli.console import line, notice, show, table
from harness.errors import UsageError
from harness.words import Translate, locale_language, translator

if TYPE_CHECKING:
    from harness.judging.ratings import RatingAgreement
    from harness.scoring.statistics.estimates import Estimate
    from harness.scoring.statistics.paired import Comparison


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
@click.option("--lang", metavar="en|zh", help="Language of the table. [default: that of the locale]")
def command(runs: tuple[str, ...], ratings: Path | None, listed: bool, as_json: bool, lang: str | None) -> None:
    """Compare runs with the first of them, sample by sample.

    The difference is that of the same questions; p is of an exact McNemar or permutation test (a bootstrap for values
    of a whole set), corrected by Holm's method where there are several tasks. A task and its form under --modify are
    compared row by row.

    \b
    harness compare runs/before runs/after
    harness compare runs/A --ratings people.csv      what judges said of A, against what people said
    """
    t = translator(locale_language(lang))
    if ratings is not None:
        _compare_ratings(runs, ratings, t, as_json=as_json)
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
        line(t("first:  {run}", run=labels[runs[0]]))
        line(t("second: {run}", run=labels[other]))
        columns = (t("task"), t("first"), t("second"), t("difference"), "p", "n")
        show(table(columns, [_row(item) for item in comparisons], columns[:1]))
        for item in comparisons:
            _explain(item, t, listed=listed)
        in_first, in_second = unshared_tasks(runs[0], other)
        for where, names in ((t("only in the first run"), in_first), (t("only in the second run"), in_second)):
            if names:
                line(f"{where}: {', '.join(names)}")


def _compare_ratings(runs: Sequence[str], file: Path, t: Translate, *, as_json: bool) -> None:
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
                (t("exact agreement"), each.exact, each.ratings),
                (t("kappa, quadratic weights"), each.kappa, each.ratings),
                (t("Spearman's rho"), each.rho, each.n),
                *(((t("people among themselves, alpha"), each.between, each.n),) if each.between else ()),
            )
        ]
        columns = (t("measure"), t("value"), t("95% interval"), "n")
        show(table(columns, rows, columns[:1]))
        for text in _remarks(each, t):
            line(text)


def _remarks(each: RatingAgreement, t: Translate) -> Iterator[str]:
    if each.unscored:
        rated = t("1 rated sample") if each.unscored == 1 else t("{n} rated samples", n=each.unscored)
        yield t("{samples} without a score: left out", samples=rated)
    if each.out_of_scale and each.bounds:
        low, high = each.bounds
        ratings = t("1 rating") if each.out_of_scale == 1 else t("{n} ratings", n=each.out_of_scale)
        yield t(
            "{ratings} outside the judge's scale of {low:g} to {high:g}; numbers are compared as they are",
            ratings=ratings, low=low, high=high,
        )  # fmt: skip
    if each.kappa is None or each.rho is None:
        yield t("- : not defined, where one side says the same of every sample")


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


def _explain(pair: Comparison, t: Translate, *, listed: bool) -> None:
    """What the table has no room for."""
    # A sample is won where the second run is better, whichever direction that is.
    won, lost = (pair.wins, pair.losses) if pair.higher_is_better else (pair.losses, pair.wins)
    facts = []
    if pair.interval is not None:
        low, high = pair.interval
        facts.append(t("95% interval {low:+.4f} .. {high:+.4f}", low=low, high=high))
    if won or lost or pair.ties:
        ties = t("1 tie") if pair.ties == 1 else t("{n} ties", n=pair.ties)
        facts.append(t("{won} won, {lost} lost, {ties}", won=len(won), lost=len(lost), ties=ties))
    if pair.detectable:
        facts.append(t("a difference below {least:.4f} would hardly show", least=pair.detectable))
    for what, count in pair.notes.items():
        samples = t("1 sample") if count == 1 else t("{n} samples", n=count)
        facts.append(t("{samples} left out: {what}", samples=samples, what=t(what)))
    if facts:
        line(f"{pair.name}: {'; '.join(facts)}")
    if listed:
        for title, keys in ((t("won"), won), (t("lost"), lost)):
            named = [f"{subset}/{number}" if subset else str(number) for subset, number in keys]
            line(f"{pair.name}: {title}: {', '.join(named) or t('none')}")
