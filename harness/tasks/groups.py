"""Group files: which tasks a group names, with which keys of its own, and what is computed over their scores.

A member is a name of any kind, a mapping with `task` and keys to override, or a group written in place. The keys of a
group override those of its members, and what names a group overrides the keys of the group (as in lm-eval).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from harness.errors import suggest
from harness.quick import dataclass
from harness.tasks.file_models import words
from harness.tasks.schema import REFUSED, GroupConfig, TaskConfig, validate_group
from harness.tasks.tolerated import tolerated
from harness.tasks.yaml_file import Document, FileLine, part_of
from harness.types import JSON, GroupMembers, GroupMetric, TaskGroup

Changes = Mapping[str, tuple[JSON, FileLine]]
Membership = tuple[tuple[TaskGroup, ...], tuple[str, ...] | None]
"""The groups by which a task was named, the outermost first, and the subsets that they name (None for all)."""


@dataclass(frozen=True, slots=True)
class Enclosing:
    """What encloses a name: its groups, the outermost first, and the keys that they override.

    folder: of the file of the innermost group; files next to it can be its members. package: of a library of another
    tool, whose groups name tasks of that library.
    """

    groups: tuple[TaskGroup, ...] = ()
    changes: Changes = field(default_factory=dict)
    folder: Path | None = None
    package: str = ""

    def holds(self, name: str) -> bool:
        return any(group.name == name for group in self.groups)


@dataclass(frozen=True, slots=True)
class Member:
    """One thing that a group names: an expression, or a group that is written in place (`document`)."""

    place: FileLine
    enclosing: Enclosing
    expression: str = ""
    document: Document | None = None


def members_of(document: Document, above: Enclosing, *, in_place: bool = False) -> Iterator[Member]:
    """What the group in `document` names, in its order. Raises `TaskError`.

    in_place: the group is written inside another one; its name then begins with that of the other, as in lm-eval.
    """
    document = tolerated(document)
    config = validate_group(document)
    own = {key: (value, document.place((key,))) for key, value in (config.model_extra or {}).items()}
    _refuse_unknown(own, document)
    group = _group(config, document, f"{above.groups[-1].name}::" if in_place else "")
    inside = Enclosing((*above.groups, group), {**own, **above.changes}, document.files[0].parent, above.package)
    listed = isinstance(config.task, list)
    for index, member in enumerate(config.task if isinstance(config.task, list) else [config.task]):
        yield from _member(member, part_of(document, ("task", index) if listed else ("task",)), inside)


def _member(member: str | Mapping[str, JSON], document: Document, inside: Enclosing) -> Iterator[Member]:
    place = document.place(())
    if isinstance(member, str):
        yield Member(place, inside, member)
        return
    if "group" in member and "task" in member:
        yield Member(place, inside, document=document)
        return
    named = member.get("task", member.get("group"))
    names = named if isinstance(named, list) else [named]
    if not all(isinstance(name, str) for name in names):
        raise document.error(("task",), "a member of a group should be a name, or a mapping with 'task: NAME'")
    own = {key: (value, document.place((key,))) for key, value in member.items() if key not in ("task", "group")}
    _refuse_unknown(own, document)
    for name in names:
        yield Member(place, replace(inside, changes={**inside.changes, **own}), name)


def _refuse_unknown(changes: Changes, document: Document) -> None:
    """Keys that are no group's are meant for its tasks: one that is no task's either is a mistake in this file."""
    for key in changes:
        if key in REFUSED:
            raise document.error((key,), f"key '{key}' {REFUSED[key]}")
        if key not in TaskConfig.model_fields:
            near = suggest(key, [*GroupConfig.model_fields, *TaskConfig.model_fields])
            raise document.error((key,), f"unknown key '{key}', neither a group's nor a task's{near}")


def _group(config: GroupConfig, document: Document, prefix: str) -> TaskGroup:
    given, key = config.aggregate_metric_list, "aggregate_metric_list"
    metrics = tuple(
        GroupMetric(
            item.metric,
            item.weight_by_size,
            None if item.filter_list is None else words(item.filter_list),
            str(document.place((key, index) if isinstance(given, list) else (key,))),
            uncalled="" if isinstance(item.aggregation, str) else str(item.aggregation),
        )
        for index, item in enumerate(given if isinstance(given, list) else [given] if given is not None else [])
    )
    version = (config.metadata or {}).get("version")
    return TaskGroup(
        name=f"{prefix}{config.group}",
        title=config.title or config.group_alias or config.group,
        version=None if version is None else str(version),
        metrics=metrics,
        warnings=document.warnings,
    )


def group_members(named: Iterable[tuple[str, Sequence[Membership]]]) -> list[GroupMembers]:
    """All groups of a run with their members, in the order in which they were named."""
    groups: dict[str, TaskGroup] = {}
    children: dict[str, dict[str, None]] = {}
    tasks: dict[str, dict[str, tuple[str, ...] | None]] = {}
    for task, memberships in named:
        for chain, subsets in memberships:
            for group, child in zip(chain, [*(inner.name for inner in chain[1:]), task], strict=True):
                groups.setdefault(group.name, group)
                children.setdefault(group.name, {})[child] = None
                known = tasks.setdefault(group.name, {})
                before = known.setdefault(task, subsets)  # None: all of them
                known[task] = None if before is None or subsets is None else tuple(dict.fromkeys([*before, *subsets]))
    return [GroupMembers(group, tuple(children[name]), tuple(tasks[name].items())) for name, group in groups.items()]
