"""Writes plugins/names.json: the names under which built-in plugins are found, so that each is imported when needed.

python tests/plugin_names.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from harness import hooks
from harness.registry import BUILT_IN, NAMES_FILE, Kind, load_plugins

FILE = Path(__file__).parents[1] / "plugins" / NAMES_FILE
BY_NAME = {f"harness_{kind}s" for kind in get_args(Kind)}
"""The hooks that return what is asked for by name. Who has another one is called unasked, and does not wait."""
UNASKED = {name for name in vars(hooks) if name.startswith("harness_")} - BY_NAME


def registered() -> dict[str, dict[str, list[str]]]:
    """Plugin -> kind -> the names and aliases that it registers, of all built-in plugins that may wait for a name."""
    registry = load_plugins()
    found: dict[str, dict[str, list[str]]] = {}
    for item in registry.provided:
        module = registry.manager.get_plugin(item.plugin.name)
        if item.plugin.package == BUILT_IN and not any(hasattr(module, hook) for hook in UNASKED):
            names = found.setdefault(item.plugin.name, {}).setdefault(item.kind, [])
            names += [item.name, *vars(item.value).get("aliases", {})]
    return {plugin: {kind: sorted(kinds[kind]) for kind in sorted(kinds)} for plugin, kinds in sorted(found.items())}


def text() -> str:
    """The file, a plugin a line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(kinds)}" for name, kinds in registered().items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
