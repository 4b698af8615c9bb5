"""What `--modify` makes of a run: its modifiers, and the groups of modified tasks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.errors import UsageError
from harness.modifiers import Modifier
from harness.registry import Registry
from harness.scoring.construct import construct
from harness.tasks.modify import labels_of, refuse_together
from harness.types import GroupMembers


def make_modifiers(asked: Sequence[str], registry: Registry) -> tuple[Modifier, ...]:
    """The modifiers of `--modify NAME` and `--modify NAME=VALUE`, in their order. Raises `UsageError`."""
    modifiers = []
    for text in asked:
        name, equals, given = text.partition("=")
        value = int(given) if given.isascii() and given.isdigit() else given
        options = {}
        if equals:
            parameter = next(iter(inspect.signature(registry.modifier(name)).parameters), None)
            if parameter is None:
                raise UsageError(f"--modify {text}: modifier '{registry.modifier(name).name}' takes no value")
            options = {parameter: value}
        modifier = construct("modifier", name, registry.modifier, options, "--modify")
        modifier.value = value if equals else None
        modifiers.append(modifier)
    refuse_together(modifiers)
    return tuple(modifiers)


def modified_groups(
    groups: Sequence[GroupMembers], modifiers: Sequence[Modifier], names: Mapping[str, str]
) -> list[GroupMembers]:
    """The groups with their modifiers in their names, as their tasks have them.

    names: metric -> what a row's several views come to. A group asks for that by the name of the task's score.
    """
    suffix = labels_of(modifiers)
    return [_modified_group(members, suffix, names) if suffix else members for members in groups]


def _modified_group(members: GroupMembers, suffix: str, names: Mapping[str, str]) -> GroupMembers:
    """A group with its modifiers in its name, as its tasks have them in theirs."""
    group, tasks = members.group, {name for name, _ in members.tasks}
    metrics = tuple(replace(entry, metric=names.get(entry.metric, entry.metric)) for entry in group.metrics)
    title = group.title and group.title + suffix
    children = tuple(child if child in tasks else child + suffix for child in members.children)
    return replace(
        members, group=replace(group, name=group.name + suffix, title=title, metrics=metrics), children=children
    )
