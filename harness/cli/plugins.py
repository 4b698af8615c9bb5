"""`harness plugins`: what is installed, what it brings, and what could not be loaded and why."""

from __future__ import annotations

import inspect
import json
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from harness.cli.console import line, show, table, width
from harness.errors import ExitCode, UsageError, suggest

if TYPE_CHECKING:
    from harness.registry import Plugin, Registry

NARROW = 90
"""Columns of a terminal below which a plugin takes several lines."""


@click.command("plugins")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(names: tuple[str, ...], as_json: bool) -> int:
    """List plugins with what they provide, or explain what is called NAME: a model, metric, filter, modifier, logger or
    executor, and its arguments.

    Exits 4 when a plugin could not be loaded.

    \b
    harness plugins
    harness plugins hf exact_match
    """
    from harness.registry import load_plugins

    registry = load_plugins()
    registry.load_all()
    if names:
        for name in names:
            explain(name, registry)
        return ExitCode.OK
    brought = {plugin.name: provided_by(registry, plugin) for plugin in registry.plugins}
    if as_json:
        described = [{**asdict(plugin), "provides": brought[plugin.name]} for plugin in registry.plugins]
        line(json.dumps(described, ensure_ascii=False, indent=2))
    else:
        rows = [_row(plugin, brought[plugin.name]) for plugin in registry.plugins]
        if width() < NARROW:  # the column for what they provide would break names
            for name, package, provides in rows:
                line(f"{name}  {package}")
                for text in textwrap.wrap(provides, width() - 4, break_long_words=False, break_on_hyphens=False):
                    line(f"    {text}")
        else:
            show(table(["plugin", "package", "provides"], rows, ["provides"]))
        for plugin in registry.broken:
            line(f"broken: {plugin.name} of {plugin.package} {plugin.version} ({plugin.module}): {plugin.error}")
    return ExitCode.USAGE if registry.broken else ExitCode.OK


def explain(name: str, registry: Registry) -> None:
    """Print what a class is for and how it is set up: its arguments with their defaults, and its docstring."""
    named = [item for item in registry.provided if name in (item.name, item.qualified_name)]
    if not named:
        known = sorted({item.name for item in registry.provided})
        kinds = "model, metric, filter, modifier, logger or executor"
        raise UsageError(f"no {kinds} is called '{name}'{suggest(name, known)}")
    for item in named:
        line(f"{item.kind} {item.qualified_name} ({item.plugin.module})")
        line()
        line(inspect.getdoc(item.value) or "")
        line()
        for parameter in inspect.signature(item.value).parameters.values():
            given = "needed" if parameter.default is parameter.empty else f"default {parameter.default!r}"
            line(f"    {parameter.name}: {given}" if parameter.kind is not parameter.VAR_KEYWORD else "    ...")


def provided_by(registry: Registry, plugin: Plugin) -> dict[str, list[str]]:
    """Kind -> names that one plugin brought; folders and sources are told as such."""
    by_kind: dict[str, list[str]] = {}
    for item in registry.provided:
        if item.plugin.name == plugin.name:
            by_kind.setdefault(item.kind, []).append(item.name)
    module = registry.manager.get_plugin(plugin.name)
    others = {
        "tasks": "harness_tasks", "templates": "harness_templates", "source": "harness_open_dataset",
        "observer": "harness_record_written",
    }  # fmt: skip
    for word, hook in others.items():
        if module is not None and hasattr(module, hook):
            by_kind[word] = []
    return by_kind


def _row(plugin: Plugin, brought: dict[str, list[str]]) -> tuple[str, str, str]:
    words = [f"{kind} {', '.join(names)}" if names else kind for kind, names in brought.items()]
    return (
        plugin.name,
        f"{plugin.package} {plugin.version}",
        "; ".join(words) if not plugin.error else "broken, see below",
    )
