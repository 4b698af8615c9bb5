"""What is shipped: entry points in step with plugins/, packages in step with folders, every direct need pinned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import plugin_names

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_plugin_file_has_an_entry_point() -> None:
    declared = set(PROJECT["project"]["entry-points"]["harness"].values())
    hook = re.compile(r"^@hookimpl", re.MULTILINE)
    files = [path for path in (ROOT / "plugins").rglob("*.py") if hook.search(path.read_text(encoding="utf-8"))]
    dotted = [".".join(path.relative_to(ROOT / "plugins").with_suffix("").parts) for path in files]
    present = {"harness_plugins." + name.removesuffix(".__init__") for name in dotted}
    assert declared == present, (
        "pyproject.toml [project.entry-points.harness] and plugins/ differ: add or remove "
        f"{sorted(declared ^ present)}, then `pip install -e .` again"
    )


def test_the_names_of_built_in_plugins_are_written_down() -> None:
    assert plugin_names.FILE.read_text(encoding="utf-8") == plugin_names.text(), (
        "plugins/names.json is not what the plugins register: run `python tests/plugin_names.py`"
    )


def test_every_python_folder_is_a_declared_package() -> None:
    packages = set(PROJECT["tool"]["setuptools"]["packages"])
    renamed = {"plugins": "harness_plugins", "tasks": "harness_tasks", "templates": "harness_templates"}
    present = set()
    for top in ("harness", *renamed):
        for init in (ROOT / top).rglob("__init__.py"):
            first, *rest = init.parent.relative_to(ROOT).parts
            if "new" not in rest:  # templates/new/ holds scaffolds, which are data
                present.add(".".join([renamed.get(first, first), *rest]))
    assert packages == present


def test_constraints_pin_every_direct_dependency() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    }
    project = PROJECT["project"]
    needs = project["dependencies"] + project["optional-dependencies"]["test"]
    names = {re.split(r"[<>=\[ ;]", need)[0].lower().replace("_", "-") for need in needs}
    assert names <= pinned, f"constraints.txt does not pin {sorted(names - pinned)}"


def test_the_project_speaks_of_itself_alone() -> None:
    forbidden = re.compile("py" + r"pi\.org|files\.pythonhosted|registry\." + "npmjs", re.IGNORECASE)
    for path in ROOT.rglob("*"):
        if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".j2"} and ".git" not in path.parts:
            assert not forbidden.search(path.read_text(encoding="utf-8")), f"{path} names a package index host"
