"""`harness paraphrase`: the options of tasks in other words, that a model writes once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.console import line, notice
from harness.cli.live import ASKING, FORMS, asking_spec, say_left_out
from harness.cli.options import DATA_OPTIONS, checked_folders, joined, options, with_environment
from harness.cli.values import parse_limit, parse_names
from harness.errors import ExitCode, UsageError
from harness.files import check_folder
from harness.words import locale_language, translator


@click.command("paraphrase", short_help="Have a model say the options of tasks in other words.")
@click.argument("tasks", nargs=-1, required=True)
@click.option("--to", type=click.Path(path_type=Path), default=".", metavar="DIR", help="The folder of the files.")
@click.option("--limit", "-L", metavar="N", help="Rows of each subset: a count, or a fraction below 1.")
@FORMS
@options([option for option in ASKING if option is not ASKING[-1]], DATA_OPTIONS)
@click.pass_context
def command(
    context: click.Context, /, tasks: tuple[str, ...], to: Path, limit: str | None, forms: Path | None, **flags: Any
) -> int:
    """Write DIR/NAME.options.json for each of TASKS, which `--modify paraphrase_options=FILE` shows.

    The model is asked once; the same command goes on where it stopped. Words that are empty, double, with other numbers
    or with talk around them are refused, and counted.

    \b
    harness paraphrase cmmlu --to words --model openai --model_args model=WRITER,base_url=URL
    harness --tasks cmmlu --modify paraphrase_options=words/cmmlu.options.json --model hf --model_args pretrained=DIR
    """
    from harness.cli.progress import watch
    from harness.live.ask import Asker
    from harness.live.folder import LiveFolder
    from harness.live.paraphrase import paraphrase_options
    from harness.registry import load_plugins

    retries = flags.pop("retries")
    try:
        rows = parse_limit(limit) if limit is not None else None
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from None
    settings = with_environment(joined(flags))
    checked_folders(settings)
    check_folder("--to", to)
    spec = asking_spec({**settings, "limit": rows}, context.obj or "")
    t, failed = translator(locale_language(None)), 0
    asker = Asker(LiveFolder(to), spec, load_plugins(), watch(), retries)
    names = [name for words in tasks for name in parse_names(words)]
    for done in paraphrase_options(asker, names, forms):
        told = {"file": done.file, "n": f"{done.reworded:,}", "of": f"{done.rows:,}", "model": done.model}
        if done.model:
            line(t("{file}: the options of {n} of {of} rows in other words, by {model}", **told))
        else:  # nothing was left to be asked
            line(t("{file}: the options of {n} of {of} rows in other words", **told))
        say_left_out(done.kept, t)
        failed += done.failed
    if failed:
        notice(t("the same command asks again where the model failed"))
    return int(ExitCode.SAMPLES_FAILED if failed else ExitCode.OK)
