"""`harness tasks`: what can be measured, from the cached index; no task file is parsed twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.console import least_width, line, long_table, show, table, width
from harness.cli.options import INCLUDE_PATH, checked_folders, with_environment
from harness.data.locations import BUILDERS
from harness.errors import UsageError, suggest
from harness.tasks.abilities import ability_name

if TYPE_CHECKING:
    from harness.tasks.library import TaskEntry, TaskLibrary

FILTERS = ("language", "ability", "modality", "tag")
COLUMNS = ("task", "rows", "shots", "metric", "offline", "title", "ability", "language", "subsets", "variants")
WIDE_FROM = 110
FOLDED = ("ability", "language", "variants")
FIRST_TO_GO = ("variants", "subsets", "offline", "shots", "language", "ability", "metric", "rows")
"""What a narrow terminal is spared, so that names are whole and titles can be read."""
TITLE = 20
"""So many columns are kept for titles."""
MANY = 500
SUITE = "reported_2026"
"""The group of tasks that model reports name."""


@click.command("tasks")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--language", multiple=True, metavar="NAME", help="Such as zh or en. Repeatable, as all filters.")
@click.option("--ability", multiple=True, metavar="NAME", help="Such as knowledge or math.")
@click.option("--modality", multiple=True, metavar="NAME", help="Such as text.")
@click.option("--tag", multiple=True, metavar="NAME", help="A tag or a group.")
@click.option("--package", metavar="NAME", help="Of this package alone; lm_eval: the tasks that come with lm-eval.")
@click.option("--reported", is_flag=True, help=f"Those that model reports of 2025 and 2026 name (the group {SUITE}).")
@click.option(
    "--data",
    type=click.Path(),
    multiple=True,
    metavar="DIR",
    help="Mirrors in which to look for the rows; also HARNESS_DATA.",
)
@INCLUDE_PATH
@click.option("--json", "as_json", is_flag=True, help="All that is known of each task, as JSON.")
def command(
    patterns: tuple[str, ...],
    include_path: tuple[str, ...],
    data: tuple[str, ...],
    package: str | None,
    reported: bool,
    as_json: bool,
    **filters: tuple[str, ...],
) -> None:
    """List the tasks, or those whose name, alias, group or tag fits a PATTERN.

    rows: how many are asked, as published; shots: examples before each; offline: whether the rows are on this machine.

    \b
    harness tasks
    harness tasks 'c*' --language zh --ability knowledge
    harness tasks --ability math --reported --data MIRROR
    """
    settings = with_environment({"include_path": include_path, **({"data": data} if data else {})})
    checked_folders(settings)
    library = open_library(include_path)
    entries = _of_package(library, package)
    filters["ability"] = tuple(ability_name(word) for word in filters["ability"])
    for name, wanted in filters.items():
        known = sorted({value for entry in entries for value in values(entry, name) if value})
        for value in wanted:
            if value not in known:
                has = f"there are: {', '.join(known)}"
                raise UsageError(f"--{name}: no task has '{value}'{suggest(value, known)} ({has})")
    members = {ref.path for group in named_groups(patterns, library) for ref in library.select([group])}
    if reported:
        patterns = (*patterns, SUITE)
        members |= {ref.path for ref in library.select([SUITE])}
    chosen = [
        entry
        for entry in entries
        if fits(entry, patterns, filters) or (entry.path in members and fits(entry, (), filters))
    ]
    mirrors = [Path(folder) for folder in settings.get("data", ())]
    if as_json:
        described = [{**_plain(asdict(entry)), "offline": is_offline(entry, mirrors)} for entry in chosen]
        line(json.dumps(described, ensure_ascii=False, indent=2))
    elif chosen:
        every = [_row(entry, mirrors) for entry in chosen]
        columns = _columns_for(width(), every)
        rows = [[cell for name, cell in zip(COLUMNS, row, strict=True) if name in columns] for row in every]
        if len(rows) > MANY:
            line(long_table(columns, rows))
        else:
            show(table(columns, rows, FOLDED, shortened=["title"]))
    else:
        names = [name for entry in entries for name in (entry.name, *entry.groups, *entry.tags)]
        names += [group.name for group in library.groups()]
        asked = ", ".join(patterns) or "these filters"
        near = suggest(patterns[0], names) if patterns else ""
        raise UsageError(f"no task fits {asked}{near} (`harness tasks` lists all {len(entries)})")


def _of_package(library: TaskLibrary, package: str | None) -> list[TaskEntry]:
    """All tasks, or those of one package. Raises `UsageError` for one that has none."""
    from harness.tasks.library import LM_EVAL

    if package is None:
        return library.entries()
    wanted = package.lower().replace("_", "-")
    pool = library.lm_eval_entries() if package == LM_EVAL else library.entries()
    found = [entry for entry in pool if entry.package.lower().replace("_", "-") == wanted]
    if not found:
        known = sorted({entry.package for entry in library.entries() if entry.package})
        missing = "lm-eval is not installed here" if package == LM_EVAL else f"packages: {', '.join(known)}"
        raise UsageError(f"--package {package}: has no tasks ({missing}){suggest(package, known)}")
    return found


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
    names = (entry.name, f"{entry.package}/{entry.name}", *entry.groups, *entry.tags, *entry.aliases)
    if patterns and not any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
        return False
    return all(not wanted or set(wanted) & set(values(entry, name)) for name, wanted in filters.items())


def values(entry: TaskEntry, name: str) -> tuple[str, ...]:
    """What a task has under the name of a filter."""
    if name == "tag":
        return (*entry.tags, *entry.groups)
    value: Any = getattr(entry, name)
    return (value,) if isinstance(value, str) else tuple(value or ())


def _row(entry: TaskEntry, mirrors: Sequence[Path]) -> tuple[str, ...]:
    ability, language = (", ".join(values(entry, name)) for name in ("ability", "language"))
    rows = f"{entry.rows:,}" if entry.rows is not None else ""
    offline = "yes" if is_offline(entry, mirrors) else "no"
    subsets, variants = str(len(entry.subsets) or ""), ", ".join(entry.variants)
    shots, metric = str(entry.num_fewshot), entry.metric
    return (entry.name, rows, shots, metric, offline, entry.title, ability, language, subsets, variants)


def _columns_for(columns: int, rows: Sequence[Sequence[str]]) -> list[str]:
    """The columns of the table that fit a terminal of so many columns, with room for titles."""
    chosen = list(COLUMNS if columns >= WIDE_FROM else COLUMNS[:6])
    least = {name: least_width(name, cells, folds=name in FOLDED) for name, *cells in zip(COLUMNS, *rows, strict=True)}
    least["title"] = TITLE
    for name in FIRST_TO_GO:
        if name in chosen and sum(least[other] + 2 for other in chosen) - 2 > columns:
            chosen.remove(name)
    return chosen


def is_offline(entry: TaskEntry, mirrors: Sequence[Path]) -> bool:
    """Whether the rows of a task are on this machine: beside its file, made at run time, or in a mirror."""
    if not entry.places or entry.places[0] in BUILDERS:
        return True
    return any(_holds(folder, place) for place in entry.places for folder in (entry.path.parent, *mirrors))


def _holds(folder: Path, place: str) -> bool:
    return any(folder.glob(place)) if "*" in place else (folder / place).exists()


def _plain(value: Any) -> Any:
    """JSON-able: paths as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
