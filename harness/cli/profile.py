"""`harness profile`: where the time of a run went."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from harness.cli.completion import complete_runs
from harness.cli.console import line, show, table
from harness.words import Translate, locale_language, translator


def phase_words(t: Translate) -> dict[str, str]:
    """What each phase is, for a reader."""
    return {
        "tasks": t("task files and metrics read"),
        "rows": t("data sets opened"),
        "prompts": t("rows rendered as prompts"),
        "prepare": t("the model's configuration and tokenizer, prompts checked"),
        "known": t("what is on disk already, keys of requests"),
        "load": t("weights loaded, or a connection opened"),
        "tokens": t("prompts tokenised, where the model waits for it"),
        "plan": t("the tree of shared prefixes"),
        "model": t("forward passes and what lies between them"),
        "attention": t("attention in these passes (on a processor)"),
        "waiting": t("answers of a server awaited"),
        "scores": t("answers extracted and scored"),
        "records": t("records written"),
        "report": t("summed up, report written"),
        "other": t("between these"),
    }


@click.command("profile")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete_runs)
@click.option("--json", "as_json", is_flag=True, help="All numbers, as JSON.")
@click.option("--lang", metavar="en|zh", help="Language of the table. [default: that of the locale]")
def command(run: Path, as_json: bool, lang: str | None) -> None:
    """Where the time of RUN went, by the clock: each moment is of one phase, so that they add up. Every run keeps this.

    \b
    harness profile runs/NAME
    """
    from harness.record.profile import RunProfile

    t = translator(locale_language(lang))
    profile = RunProfile.of(run)
    if as_json:
        line(json.dumps(asdict(profile), ensure_ascii=False))
        return
    words, samples = phase_words(t), profile.samples
    columns = (t("phase"), t("seconds"), t("share"), t("ms a sample"), t("what it is"))
    rows = [
        (
            name,
            f"{seconds:,.2f}",
            f"{seconds / profile.seconds:.1%}",
            f"{1000 * seconds / samples:,.2f}" if samples else "-",
            words.get(name, ""),
        )
        for name, seconds in profile.phases.items()
    ]
    show(table(columns, rows, [columns[-1]]))
    line(
        t(
            "{seconds:,.2f} s by the clock, {processor:,.2f} s of processor, {memory:,.0f} MB, {samples:,} samples",
            memory=profile.peak_memory / 1e6,
            seconds=profile.seconds,
            processor=profile.processor,
            samples=samples,
        )
    )
    if profile.commands > 1:
        line(t("of {n} commands together", n=profile.commands))
    if profile.unknown == 1:
        line(t("1 other command kept no times"))
    elif profile.unknown:
        line(t("{n} other commands kept no times", n=profile.unknown))
