"""What a shell offers after TAB: tasks, models, metrics, rubrics and runs, beside click's own commands and flags.

eval "$(_HARNESS_COMPLETE=bash_source harness)"      # bash; zsh_source and fish_source for the others
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def complete_tasks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of tasks and groups, their variants and subsets once a task is whole; after a comma, the next one."""
    from harness.registry import load_plugins
    from harness.tasks.library import TaskLibrary

    before, comma, last = incomplete.rpartition(",")
    registry = load_plugins()
    library = TaskLibrary(registry.task_folders(), registry.template_folders())
    entries = [*library.entries(), *library.groups()]
    names = [entry.name for entry in entries]
    for entry in entries:
        if last.startswith(entry.name):
            names += [f"{entry.name}:{variant}" for variant in entry.variants]
            names += [f"{entry.name}/{subset}" for subset in entry.subsets]
    return [CompletionItem(before + comma + name) for name in _fitting(names, last)]


def complete_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from harness.registry import load_plugins

    return [CompletionItem(name) for name in _fitting(load_plugins().names("model"), incomplete)]


def complete_loggers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from harness.registry import load_plugins

    return [CompletionItem(name) for name in _fitting(load_plugins().names("logger"), incomplete)]


def complete_metrics(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from harness.registry import load_plugins

    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in _fitting(load_plugins().names("metric"), last)]


def complete_runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Folders of runs: those below `runs`, or below the folder that is being written."""
    from harness.record.manifest import runs_below

    folder = Path(incomplete).parent if "/" in incomplete else Path("runs")
    runs = [str(path) for path in runs_below(folder)] if folder.is_dir() else []
    return [CompletionItem(path) for path in _fitting(runs, incomplete)]


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
