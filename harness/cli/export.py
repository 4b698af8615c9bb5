"""`harness export`: a run as files that other programs and other people read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from harness.cli.completion import complete_runs
from harness.cli.console import counted, line, notice
from harness.errors import UsageError
from harness.files import check_folder

FORMS = ("parquet", "hub", "every_eval_ever")
RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete_runs)
@click.option("--parquet", type=click.Path(path_type=Path), metavar="FILE", help="Write all samples as one table.")
@click.option("--format", "form", type=click.Choice(FORMS), help="Write these files, below --to.")
@click.option(
    "--to", "target", type=click.Path(path_type=Path), metavar="DIR", help="The folder; of parquet, the file."
)
@click.option("--source_url", metavar="URL", help="hub: where the details can be seen, for a link.")
@click.option("--partial", is_flag=True, help="hub: also tasks of which not all rows were asked; the notes say so.")
@click.option("--organization", metavar="NAME", default="unknown", help="every_eval_ever: who measured.")
@click.option(
    "--relationship", type=click.Choice(RELATIONSHIPS), default="other",
    help="every_eval_ever: of who measured to the model. [default: other]",
)  # fmt: skip
def command(
    run: Path,
    parquet: Path | None,
    form: str | None,
    target: Path | None,
    source_url: str | None,
    partial: bool,
    organization: str,
    relationship: str,
) -> None:
    """Write the run in the folder RUN as a Parquet table of its samples, as evaluation results for the Hugging Face hub
    (`.eval_results/*.yaml`, and the samples as `details/*.parquet`), or as Every Eval Ever's JSON.

    \b
    harness export runs/NAME --parquet samples.parquet
    harness export runs/NAME --format hub --to upload
    harness export runs/NAME --format every_eval_ever --to upload --organization Lab --relationship third_party
    """
    from harness.record.manifest_file import FINISHED
    from harness.run.parquet import write_parquet
    from harness.run.publish import export_every_eval_ever, export_hub
    from harness.run.result import load_run

    if form == "parquet":
        parquet, form = parquet or target, None
    elif form is not None and target is None:
        raise UsageError(f"--format {form}: say where to, as in --to upload")
    if parquet is None and form is None:
        raise UsageError(f"say what to write: --parquet FILE, or --format {', '.join(FORMS[1:])} with --to DIR")
    if parquet is not None:
        check_folder("--parquet", parquet.parent, str(parquet))
    if target is not None and form is not None:
        check_folder("--to", target)
    folder = load_run(run)
    if parquet is not None:
        line(f"{parquet}: {counted(write_parquet(folder, parquet), 'sample')}")
        if folder.manifest.get("status") != FINISHED:
            asked = sum(task.get("samples", 0) for task in folder.manifest["tasks"].values())
            notice(f"partial: the run has not ended and asks {counted(asked, 'sample')}; its command goes on with it")
    told: Iterator[str] = iter(())
    if form == "hub" and target is not None:
        told = export_hub(folder, target, source_url, partial=partial)
    elif form == "every_eval_ever" and target is not None:
        told = export_every_eval_ever(folder, target, organization=organization, relationship=relationship)
    for text in told:
        line(text)
    for problem in folder.take_messages():
        notice(problem)
