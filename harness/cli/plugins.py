"""`harness plugins`: what is installed, what it brings, and what could not be loaded and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from harness.cli.console import line, show, table
from harness.errors import ExitCode

if TYPE_CHECKING:
    from harness.registry import Plugin, Registry


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> int:
    """List plugins with what they provide. Exits 4 when one could not be loaded."""
    from harness.registry import load_plugins

    registry = load_plugins()
    brought = {plugin.name: provided_by(registry, plugin) for plugin in registry.plugins}
    if as_json:
        found = [{**asdict(plugin), "provides": brought[plugin.name]} for plugin in registry.plugins]
        line(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        show(
            table(["plugin", "package", "provides"], [_row(p, brought[p.name]) for p in registry.plugins], ["provides"])
        )
        for plugin in registry.broken:
            line(f"broken: {plugin.name} of {plugin.package} {plugin.version} ({plugin.module}): {plugin.error}")
    return ExitCode.USAGE if registry.broken else ExitCode.OK


def provided_by(registry: Registry, plugin: Plugin) -> dict[str, list[str]]:
    """Kind -> names that one plugin brought; folders and sources are told as such."""
    found: dict[str, list[str]] = {}
    for item in registry.provided:
        if item.plugin.name == plugin.name:
            found.setdefault(item.kind, []).append(item.name)
    module = registry.manager.get_plugin(plugin.name)
    others = {
        "tasks": "harness_tasks", "templates": "harness_templates", "source": "harness_open_dataset",
        "observer": "harness_record_written",
    }  # fmt: skip
    for word, hook in others.items():
        if module is not None and hasattr(module, hook):
            found[word] = []
    return found


def _row(plugin: Plugin, brought: dict[str, list[str]]) -> tuple[str, str, str]:
    words = [f"{kind} {', '.join(names)}" if names else kind for kind, names in brought.items()]
    return (
        plugin.name,
        f"{plugin.package} {plugin.version}",
        "; ".join(words) if not plugin.error else "broken, see below",
    )
