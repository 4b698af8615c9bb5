"""`harness tasks`: what can be measured, from the cached index; no task file is parsed twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import line, long_table, show, table
from harness.cli.options import INCLUDE_PATH, checked_folders
from harness.errors import UsageError, suggest

if TYPE_CHECKING:
    from harness.tasks.library import TaskEntry, TaskLibrary

FILTERS = ("language", "ability", "modality", "tag")
COLUMNS = ("task", "title", "ability", "language", "subsets", "variants")
MANY = 500


@click.command("tasks")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--language", multiple=True, metavar="NAME", help="Such as zh or en. Repeatable, as all filters.")
@click.option("--ability", multiple=True, metavar="NAME", help="Such as knowledge or mathematics.")
@click.option("--modality", multiple=True, metavar="NAME", help="Such as text or image.")
@click.option("--tag", multiple=True, metavar="NAME", help="A tag or a group.")
@INCLUDE_PATH
@click.option("--json", "as_json", is_flag=True, help="All that is known of each task, as JSON.")
def command(
    patterns: tuple[str, ...], include_path: tuple[str, ...], as_json: bool, **filters: tuple[str, ...]
) -> None:
    """List the tasks, or those whose name, group or tag fits a PATTERN.

    \b
    harness tasks
    harness tasks 'c*' --language zh --ability knowledge
    """
    checked_folders({"include_path": include_path})
    library = open_library(include_path)
    entries = library.entries()
    for name, wanted in filters.items():
        _refuse_unknown(name, wanted, entries)
    members = {ref.path for group in named_groups(patterns, library) for ref in library.select([group])}
    found = [
        entry
        for entry in entries
        if fits(entry, patterns, filters) or (entry.path in members and fits(entry, (), filters))
    ]
    if as_json:
        line(json.dumps([_plain(asdict(entry)) for entry in found], ensure_ascii=False, indent=2))
    elif found:
        rows = [_row(entry) for entry in found]
        if len(rows) > MANY:
            line(long_table(COLUMNS, rows))
        else:
            show(table(COLUMNS, rows, ["title", "ability", "language", "variants"]))
    else:
        names = [name for entry in entries for name in (entry.name, *entry.groups, *entry.tags)]
        names += [group.name for group in library.groups()]
        asked = ", ".join(patterns) or "these filters"
        near = suggest(patterns[0], names) if patterns else ""
        raise UsageError(f"no task fits {asked}{near} (`harness tasks` lists all {len(entries)})")


def open_library(include_path: Sequence[str]) -> TaskLibrary:
    """Every task of every plugin and of the folders that were named."""
    from harness.registry import load_plugins
    from harness.tasks.library import TaskLibrary

    registry = load_plugins()
    folders = [Path(folder) for folder in include_path]
    return TaskLibrary(registry.task_folders(), registry.template_folders(), folders)


def named_groups(patterns: Sequence[str], library: TaskLibrary) -> list[str]:
    """The groups of tasks that a pattern names; looked up only where there is one, for that parses their files."""
    return [group.name for group in library.groups() if group.name in patterns] if patterns else []


def fits(entry: TaskEntry, patterns: Sequence[str], filters: dict[str, tuple[str, ...]]) -> bool:
    """Whether a task answers to one of the patterns and to every filter."""
    names = (entry.name, f"{entry.package}/{entry.name}", *entry.groups, *entry.tags)
    if patterns and not any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
        return False
    return all(not wanted or set(wanted) & set(values(entry, name)) for name, wanted in filters.items())


def values(entry: TaskEntry, name: str) -> tuple[str, ...]:
    """What a task has under the name of a filter."""
    if name == "tag":
        return (*entry.tags, *entry.groups)
    value: Any = getattr(entry, name)
    return (value,) if isinstance(value, str) else tuple(value or ())


def _refuse_unknown(name: str, wanted: Sequence[str], entries: Sequence[TaskEntry]) -> None:
    known = sorted({value for entry in entries for value in values(entry, name) if value})
    for value in wanted:
        if value not in known:
            raise UsageError(f"--{name}: no task has '{value}'{suggest(value, known)} (there are: {', '.join(known)})")


def _row(entry: TaskEntry) -> tuple[str, ...]:
    ability, language = (", ".join(values(entry, name)) for name in ("ability", "language"))
    return (entry.name, entry.title, ability, language, str(len(entry.subsets) or ""), ", ".join(entry.variants))


def _plain(value: Any) -> Any:
    """JSON-able: paths as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
