"""`harness contamination`: a benchmark's rows in a corpus, and what a model betrays of having seen them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from harness.cli.console import line, notice
from harness.cli.options import DATA_OPTIONS, MODEL_OPTIONS, checked_folders, joined, options, with_environment
from harness.cli.values import parse_limit, parse_names
from harness.errors import UsageError


@click.command("contamination", short_help="Whether a model may have seen a benchmark.")
@click.argument("tasks", nargs=-1, required=True)
@click.option(
    "--corpus", type=click.Path(path_type=Path), metavar="DIR",
    help="A folder (or file) of text, JSON lines or Parquet, .gz too: which rows stand in it.",
)  # fmt: skip
@click.option("--to", type=click.Path(path_type=Path), metavar="FILE", help="Also write what was found there, as JSON.")
@click.option("--limit", "-L", metavar="N", help="Rows of each subset: a count, or a fraction below 1.")
@options(MODEL_OPTIONS, DATA_OPTIONS)
def command(tasks: tuple[str, ...], corpus: Path | None, to: Path | None, limit: str | None, **flags: Any) -> int:
    """Look for the rows of TASKS in a corpus, and ask a model whether it likes their order.

    \b
    harness contamination ceval --corpus DIR
    harness contamination ceval --model hf --model_args pretrained=DIR
    """
    settings = with_environment(joined(flags))
    checked_folders(settings)
    if corpus is None and "model" not in settings:
        raise UsageError("contamination: say where to look: --corpus DIR, or a model to ask, --model NAME")
    from harness.cli.progress import watch
    from harness.data.corpus import Trouble
    from harness.files import replace_json
    from harness.run.contamination import in_corpus, probes
    from harness.run.spec import RunSpec

    try:
        rows = parse_limit(limit) if limit is not None else None
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None
    names = tuple(name for words in tasks for name in parse_names(words))
    spec, progress = RunSpec(tasks=names, limit=rows, **settings), watch()
    found: dict[str, Any] = {"corpus": [], "left_out": {}, "probes": []}
    try:
        if corpus is not None:
            trouble = Trouble()
            for overlap in in_corpus(spec, corpus, trouble, progress=progress):
                line(overlap.sentence)
                matches = [
                    {"subset": subset, "row": number, **asdict(match)}
                    for (subset, number), match in overlap.matches.items()
                ]
                found["corpus"].append({**asdict(overlap), "matches": matches})
            for reason, count in trouble.counts.items():
                notice(f"left out: {reason}, {count:,} times (first: {trouble.first[reason]})")
            found["left_out"] = trouble.counts
        if "model" in settings:
            for probe in probes(spec, progress=progress):
                line(probe.sentence)
                found["probes"].append({**asdict(probe), "sentence": probe.sentence})
    finally:
        progress.finished()
    if to is not None:
        replace_json(to, found)
    return 0
