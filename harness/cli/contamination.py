"""`harness contamination`: a benchmark's rows in a corpus, and what a model betrays of having seen them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.completion import complete_runs
from harness.cli.console import line, notice
from harness.cli.options import DATA_OPTIONS, MODEL_OPTIONS, Parsed, checked_folders, joined, options, with_environment
from harness.cli.values import parse_date, parse_limit, parse_names
from harness.errors import UsageError
from harness.files import check_folder, replace_json
from harness.words import Translate, locale_language, translator

if TYPE_CHECKING:
    from harness.run.spec import Progress, RunSpec


@click.command("contamination", short_help="Whether a model may have seen a benchmark.")
@click.argument("tasks", nargs=-1)
@click.option(
    "--run", "run", type=click.Path(path_type=Path), metavar="RUN", shell_complete=complete_runs,
    help="A run: its tasks and its model, and its report says what was found. With --corpus, the rows are looked for "
    "there and the model is not asked.",
)  # fmt: skip
@click.option(
    "--corpus", type=click.Path(path_type=Path), metavar="DIR",
    help="A folder (or file) of text, JSON lines or Parquet, .gz too, and pictures: which rows stand in it.",
)  # fmt: skip
@click.option(
    "--unseen", multiple=True, metavar="TASK",
    help="A task of the same kind whose rows the model cannot have seen, to compare with. Repeatable.",
)  # fmt: skip
@click.option(
    "--before_cutoff", "cutoff", type=Parsed("date", parse_date), metavar="DATE",
    help="When the model's training data ends (2025-06): rows that are dated later are unseen ones.",
)  # fmt: skip
@click.option("--lang", metavar="en|zh", help="The language of what is said. [default: that of the locale]")
@click.option("--to", type=click.Path(path_type=Path), metavar="FILE", help="Also write what was found there, as JSON.")
@click.option("--limit", "-L", metavar="N", help="Rows of each subset: a count, or a fraction below 1.")
@options(MODEL_OPTIONS, DATA_OPTIONS)
def command(
    tasks: tuple[str, ...],
    run: Path | None,
    corpus: Path | None,
    to: Path | None,
    limit: str | None,
    unseen: tuple[str, ...],
    cutoff: str | None,
    lang: str | None,
    **flags: Any,
) -> int:
    """Look for the rows of TASKS in a corpus, and ask a model whether it knows what nobody can guess of them.

    \b
    harness contamination ceval --corpus DIR
    harness contamination ceval --model hf --model_args pretrained=DIR
    harness contamination ceval --model hf --model_args pretrained=DIR --unseen new_questions.yaml
    harness contamination --run runs/A --unseen new_questions.yaml
    """
    settings = with_environment(joined(flags))
    checked_folders(settings)
    if to is not None:
        check_folder("--to", to.parent, str(to))
    asks_model = corpus is None if run is not None else "model" in settings
    if corpus is None and not asks_model:
        raise UsageError("contamination: say where to look: --corpus DIR, or a model to ask, --model NAME")
    from harness.cli.progress import watch
    from harness.run.contamination import tell_report

    try:
        rows = parse_limit(limit) if limit is not None else None
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None
    names, others = (tuple(name for words in many for name in parse_names(words)) for many in (tasks, unseen))
    spec, progress = _spec(names, run, settings, rows, cutoff), watch()
    t = translator(locale_language(lang))
    found: dict[str, Any] = {"corpus": [], "left_out": {}, "probes": []}
    try:
        if corpus is not None:
            found.update(_in_corpus(spec, corpus, run, progress, t))
        if asks_model:
            found["probes"] = _probed(spec, others, run, progress, t)
        if run is not None:
            tell_report(run, progress)
    finally:
        progress.finished()
    if to is not None:
        replace_json(to, found)
    return 0


def _probed(
    spec: RunSpec, others: tuple[str, ...], run: Path | None, progress: Progress, t: Translate
) -> list[dict[str, Any]]:
    """Say what each probe finds, and keep it in the folder of a run; the same for the file."""
    from harness.run.contamination import keep_probe, probes

    found = []
    for probe in probes(spec, others, progress=progress):
        line(probe.said(t))
        if run is not None:
            keep_probe(run, probe)
        found.append({**asdict(probe), "sentence": probe.said(t)})
    if all(probe["unseen"] is None for probe in found):
        notice(t("second halves and Min-K% are compared with unseen rows: --unseen TASK, or --before_cutoff DATE"))
    return found


def _spec(
    names: tuple[str, ...], run: Path | None, settings: Mapping[str, Any], rows: int | float | None, cutoff: str | None
) -> RunSpec:
    """What is looked at: tasks and model as named, or those of a run. Raises `UsageError`."""
    from harness.registry import load_plugins
    from harness.run.contamination import spec_of_run
    from harness.run.spec import RunSpec

    if run is None:
        if not names:
            raise UsageError("contamination: name TASKS, or a run, --run RUN")
        return RunSpec(tasks=names, limit=rows, cutoff=cutoff, **settings)
    spec = spec_of_run(run, load_plugins())
    if names or settings.get("model", spec.model) != spec.model:
        raise UsageError(f"--run {run}: its tasks and its model ({spec.model}) are looked at; name no others")
    args = {**spec.model_args, **settings.get("model_args", {})}
    changes = {**settings, "model_args": args, "limit": spec.limit if rows is None else rows}
    return replace(spec, **changes, cutoff=cutoff or spec.cutoff)


def _in_corpus(spec: RunSpec, corpus: Path, run: Path | None, progress: Progress, t: Translate) -> dict[str, Any]:
    """Say what of the tasks stands in a corpus, and keep it in the folder of a run; the same for the file."""
    from harness.data.corpus import Trouble
    from harness.run.contamination import in_corpus, keep_overlap

    trouble, found = Trouble(), []
    for overlap in in_corpus(spec, corpus, trouble, progress=progress):
        line(overlap.said(t))
        if run is not None:
            keep_overlap(run, overlap, corpus)
        matches, alike = (
            [{"subset": subset, "row": number, **asdict(match)} for (subset, number), match in many.items()]
            for many in (overlap.matches, overlap.alike)
        )
        found.append({**asdict(overlap), "matches": matches, "alike": alike, "sentence": overlap.said(t)})
    for reason, count in trouble.counts.items():
        first = trouble.first[reason]
        if count == 1:
            notice(t("left out: {reason}, once: {place}", reason=t(reason), place=first))
            continue
        notice(t("left out: {reason}, {n} times (first: {place})", reason=t(reason), n=f"{count:,}", place=first))
    return {"corpus": found, "left_out": trouble.counts}
