"""`harness new`: copies a scaffold that works as it is, under a name of one's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import click

from harness.cli.console import line
from harness.cli.options import checked_folders
from harness.errors import UsageError, suggest

SCAFFOLDS = "new"
"""The folder below a template folder that holds scaffolds, one folder a kind."""


@click.command("new")
@click.argument("kind", metavar="task|plugin|rubric|environment|tau_bench|training_loop|swift_loop")
@click.argument("name")
@click.option("--to", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="Where. [default: here]")
@click.option(
    "--from",
    "source",
    metavar="FILE|ID[:CONFIG]",
    help="Of a task: look at these rows, and propose its columns, options and answers from them.",
)
@click.option("--data", type=click.Path(), multiple=True, metavar="DIR", help="Mirrors in which --from looks first.")
def command(kind: str, name: str, to: Path, source: str | None, data: tuple[str, ...]) -> None:
    """Start a task, a plugin, a rubric for judges, an environment with a simulated user or a training loop.

    What is written works as it is; `tau_bench` into a clone of tau-bench, whose retail domain it asks; `training_loop`
    and `swift_loop` (by ms-swift's commands) on the demo model.

    \b
    harness new task my_task
    harness new task my_exam --from questions.csv
    harness new plugin my_plugin --to ..
    harness new tau_bench tau_bench_retail --to tau-bench
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UsageError(f"NAME: '{name}' must be lower-case letters, digits and _, and begin with a letter")
    if source is not None:
        if kind != "task":
            raise UsageError(f"--from: a {kind} is not made from rows")
        print_new_task(name, source, to, data)
        return
    written = copy_scaffold(find_scaffold(kind), f"my_{kind}", name, to)
    for path in written:
        line(f"wrote {path}")
    for step in next_steps(kind, name, to):
        line(f"next: {step}")


def print_new_task(name: str, source: str, to: Path, data: tuple[str, ...]) -> None:
    """Write a task file from rows, and say what was found and what is left."""
    from harness.registry import load_plugins
    from harness.run.new_task import write_task

    checked_folders({"data": data})
    made = write_task(name, source, to, load_plugins(), data)
    line(f"wrote {made.file}")
    line(made.description)
    for doubt in made.doubts:
        line(f"look at: {doubt}")
    line(f"next: harness show {made.file} --model dummy")
    line(f"next: harness check {made.file} --data {data[0] if data else to}")


def find_scaffold(kind: str) -> Path:
    """The folder that is copied. Scaffolds come from plugins' template folders, our own included."""
    from harness.registry import Kind, load_plugins

    scaffolds: dict[str, Path] = {}
    for _, folder in load_plugins().template_folders():
        if (folder / SCAFFOLDS).is_dir():
            for child in sorted((folder / SCAFFOLDS).iterdir()):
                scaffolds.setdefault(child.name, child)
    if kind not in scaffolds:
        there_are = ", ".join(sorted(scaffolds))
        is_provided = kind in get_args(Kind)
        near = f": a {kind} comes with `harness new plugin NAME`" if is_provided else suggest(kind, scaffolds)
        raise UsageError(f"there is no scaffold '{kind}'{near} (there are: {there_are})")
    return scaffolds[kind]


def copy_scaffold(scaffold: Path, placeholder: str, name: str, to: Path) -> list[Path]:
    """Copy the files, with `placeholder` replaced by `name` in names and contents. Overwrites nothing."""
    sources = [path for path in sorted(scaffold.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    targets = [to / str(path.relative_to(scaffold)).replace(placeholder, name) for path in sources]
    for target in targets:
        if target.exists():
            raise UsageError(f"'{target}' is there already: choose another name, or another folder with --to")
    for source, target in zip(sources, targets, strict=True):
        text = source.read_text(encoding="utf-8")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace(placeholder, name), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--to: cannot write '{target}': {error.strerror}") from None
    return targets


def next_steps(kind: str, name: str, to: Path) -> list[str]:
    """What to type after the scaffold is there."""
    if kind == "plugin":
        return [f"pip install -e {to / name}", f"harness check {name}"]
    if kind == "rubric":
        return [f"harness judge RUN --rubric {to / name}.yaml --model dummy"]
    if kind == "task":
        return [f"harness check {to / name}.yaml", f"harness --tasks {name} --include_path {to}"]
    if kind == "training_loop":
        return [f"python {to / name}.py"]
    if kind == "swift_loop":
        return [f"bash {to / name}.sh"]
    if kind == "environment":
        return [f"harness show {to / name}.yaml --trust_task_code {to} --model dummy"]
    if kind == "tau_bench":
        return [f"harness show {to / name}.yaml --trust_task_code {to} --model dummy  ({to} is a clone of tau-bench)"]
    return []
