"""`harness lm-eval-check`: which of a folder's task files of lm-eval run here, and what the others lack."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from harness.cli.console import counted, line
from harness.cli.options import TRUST, checked_folders, options
from harness.errors import HarnessError

STATES = ("runs", "needs consent", "needs packages", "cannot")


@click.command("lm-eval-check")
@click.argument("folder", type=click.Path())
@options(TRUST)
def command(folder: str, trust_task_code: tuple[str, ...], trust_task_code_in_process: tuple[str, ...]) -> None:
    """Go through a FOLDER of lm-eval's task files and say of each: it runs, needs consent, needs packages, or cannot.

    Without consent nothing of their Python is imported. Rows are not opened.

    \b
    harness lm-eval-check my_tasks
    harness lm-eval-check my_tasks --trust_task_code my_tasks
    """
    checked_folders({"include_path": (folder,)})
    from harness.registry import load_plugins
    from harness.run.jobs import attempts, load_job, open_library
    from harness.run.spec import RunSpec
    from harness.tasks.library import TaskRef

    spec = RunSpec(
        tasks=(),
        include_path=(folder,),
        trust_task_code=trust_task_code,
        trust_task_code_in_process=trust_task_code_in_process,
    )
    registry = load_plugins()
    library = open_library(spec, registry)
    counts: Counter[str] = Counter()
    root = Path(folder).resolve()
    for entry in [*library.entries(), *library.broken]:
        if not entry.path.resolve().is_relative_to(root):
            continue
        reason, remark = entry.error, ""
        if not reason:
            try:
                job = load_job(library, TaskRef(entry.name, entry.package, entry.path), spec, registry)
                remark = "; ".join(attempts([job]))
            except HarnessError as error:
                reason = str(error)
        state = state_of(reason)
        counts[state] += 1
        line(f"{state:14}  {entry.name}" + (f": {reason or remark}" if reason or remark else ""))
    line(f"{counted(sum(counts.values()), 'task')}: " + ", ".join(f"{counts[state]} {state}" for state in STATES))


def state_of(reason: str) -> str:
    """What is to be said of a task, from why it does not load."""
    if not reason:
        return "runs"
    if "runs by consent alone" in reason:
        return "needs consent"
    return "needs packages" if "pip install" in reason or "ModuleNotFoundError" in reason else "cannot"
