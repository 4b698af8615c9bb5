"""The rooms of the house: who may import whom, and what must stay light."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "datasets", "sympy", "sacrebleu", "rouge_score", "sklearn", "peft")

BASE = {
    "types",
    "column",
    "encodings",
    "errors",
    "executor",
    "model",
    "metrics",
    "filters",
    "modifiers",
    "hooks",
    "registry",
    "files",
    "secret",
    "spool",
    "still_images",
    "stopwatch",
    "streaming",
    "interrupts",
    "later_patterns",
    "limited",
    "logger",
    "patterns",
    "plugin_values",
    "quick",
    "reasoning",
    "retry",
    "terminal",
    "thinking",
    "time_limit",
    "words",
}
"""What every room may use. `testing` is for authors of plugins, and may see everything, as `cli` does."""

BELOW = {
    "data": set(),
    "tasks": {"data"},
    "engine": {"data"},
    "scoring": set(),
    "record": set(),
    "task_code": {"tasks", "scoring"},
    "run": {"data", "tasks", "engine", "scoring", "record", "task_code"},
    "judging": {"data", "tasks", "scoring", "record", "run"},
    "live": {"data", "tasks", "record", "run", "judging"},
    "view": {"data", "tasks", "scoring", "record", "run", "judging"},
}
"""Room -> the rooms that it may import from, beside itself and the base."""

PUBLIC_ROOMS = {
    "harness",
    "harness.data",
    "harness.engine",
    "harness.scoring",
    "harness.scoring.official",
    "harness.tasks",
    "harness.record",
}


@dataclass
class Module:
    """What a module imports, the private names that it defines (or sets on `self`) and reads, its public classes."""

    imports: list[str] = field(default_factory=list)
    defined: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    classes: dict[str, int] = field(default_factory=dict)
    """Name -> line."""


@functools.cache
def read(path: Path) -> Module:
    module = Module()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            module.imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            module.imports.append(node.module)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            module.defined.add(node.name)
        elif isinstance(node, ast.Name):
            (module.defined if isinstance(node.ctx, ast.Store) else module.used).add(node.id)
        elif isinstance(node, ast.Attribute):
            (module.defined if isinstance(node.ctx, ast.Store) else module.used).add(node.attr)
    for names in (module.defined, module.used):
        names -= {name for name in names if not name.startswith("_") or name.startswith("__") or name == "_"}
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    module.classes = {node.name: node.lineno for node in classes if not node.name.startswith("_")}
    return module


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "harness").with_suffix("").parts
    return parts[0]


def core_files() -> list[Path]:
    return sorted((ROOT / "harness").rglob("*.py"))


def test_a_room_imports_only_from_rooms_above_it() -> None:
    for path in core_files():
        room = room_of(path)
        if room not in BASE and room not in BELOW:  # cli, testing and the package itself may see everything
            continue
        allowed = BASE | ({room} | BELOW[room] if room in BELOW else set())
        wanted = {name.split(".")[1] for name in read(path).imports if name.startswith("harness.")}
        assert wanted <= allowed, f"{path.relative_to(ROOT)} may not import {sorted(wanted - allowed)}"


def _at_import(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """(module, name) of what is imported while a module is: not in functions, and not for types alone."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from _at_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody", "handlers"):
                yield from _at_import(getattr(node, part, []))


def test_no_module_is_imported_by_what_it_imports() -> None:
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in core_files()}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    graph = {}
    for name, path in files.items():
        wanted = _at_import(ast.parse(path.read_text(encoding="utf-8")).body)
        graph[name] = {f"{module}.{of}" if f"{module}.{of}" in files else module for module, of in wanted}
    TopologicalSorter(graph).prepare()  # raises CycleError, with the modules


def test_the_core_never_imports_a_plugin() -> None:
    for path in core_files():
        assert not [name for name in read(path).imports if name.startswith("harness_")], path


def test_plugins_import_only_the_public_api() -> None:
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for name in read(path).imports:
            if name.split(".")[0] == "harness":
                assert name in PUBLIC_ROOMS, f"{path.relative_to(ROOT)} imports {name}, which is not public"


def plugin_of(path: Path) -> str:
    """`models/hf` for all modules of that folder, `models/dummy` for a plugin of one file."""
    parts = path.relative_to(ROOT / "plugins").with_suffix("").parts
    return "/".join(parts[:2])


def test_plugins_import_their_own_modules_relatively_and_no_other_plugin() -> None:
    """So a plugin's file or folder can be copied out as it is; ruff keeps relative imports within the folder."""
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        absolute = [name for name in read(path).imports if name.split(".")[0] == "harness_plugins"]
        assert not absolute, f"{path.relative_to(ROOT)} imports {absolute}: write `from .module import ...`"


def test_no_plugin_reaches_for_a_private_name_of_the_core_or_of_another_plugin() -> None:
    core = set[str]().union(*(read(path).defined for path in core_files()))
    defined: dict[str, set[str]] = {}
    used: dict[str, set[str]] = {}
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        plugin = plugin_of(path)
        defined[plugin] = defined.get(plugin, set()) | read(path).defined
        used[plugin] = used.get(plugin, set()) | read(path).used
    for plugin, own in defined.items():
        others = set[str]().union(*(names for other, names in defined.items() if other != plugin))
        borrowed = (used[plugin] - own) & (core | others)
        assert not borrowed, f"plugins/{plugin} uses {sorted(borrowed)}"


def test_importing_everything_light_imports_nothing_heavy() -> None:
    code = (
        "import sys, harness.view.app\n"
        "assert not {'numpy', 'harness.scoring', 'harness.data'} & set(sys.modules), 'the viewer is slow to start'\n"
        "import harness, harness.data, harness.engine, harness.scoring, harness.tasks, harness.record\n"
        "from harness.registry import load_plugins\n"
        "registry = load_plugins(); registry.provided\n"
        "assert not registry.broken, registry.broken\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def project_modules() -> list[Path]:
    """All modules of the core, the plugins and the example of a package."""
    roots = (ROOT / "harness", ROOT / "plugins", ROOT / "tests" / "example_package")
    return sorted(path for root in roots for path in root.rglob("*.py") if "build" not in path.parts)


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in project_modules():
        for name, line in read(path).classes.items():
            places.setdefault(name, []).append(f"{path.relative_to(ROOT)}:{line}")
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_no_three_modules_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path in project_modules():
        places.setdefault(path.stem, []).append(str(path.relative_to(ROOT)))
    del places["__init__"]
    assert not {name: found for name, found in places.items() if len(found) > 2}
