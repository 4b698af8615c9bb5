"""Installs our wheel and the example package into a clean environment and uses both by name, as a stranger would.

    python tests/wheel_check.py

The sdist is built first and the wheel from it, so both are tested. What the project depends on is taken from the
environment that runs this script (linked, not downloaded again); this project itself is left out of the links, so
that only the wheel's own files and entry points count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "example_package"
OURS = ("harness", "__editable__")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="wheel_check_") as name:
        folder = Path(name)
        ours = build(ROOT, folder / "dist", "--sdist", "--wheel")
        example = build(EXAMPLE, folder / "dist", "--wheel")
        python = make_environment(folder / "venv", [ours, example])
        use(python, folder)
    print("wheel check: passed")


def build(project: Path, output: Path, *kinds: str) -> Path:
    """Build a project from a copy of its own, so that no build folder is left in the tree. Returns the wheel."""
    copy = output.parent / f"source-{project.name}"
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "."], project)
    for file in filter(None, listed.split("\0")):
        if (project / file).is_file():
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).write_bytes((project / file).read_bytes())
    before = set(output.glob("*.whl"))
    flags = [] if len(kinds) > 1 else list(kinds)  # without a flag, `build` makes the wheel from the sdist
    run([sys.executable, "-m", "build", *isolation(), *flags, "--outdir", str(output), str(copy)], project)
    (wheel,) = set(output.glob("*.whl")) - before
    return wheel


def isolation() -> list[str]:
    """Build with the setuptools at hand where it is new enough; otherwise `build` fetches one."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return ["--no-isolation"] if int(version("setuptools").split(".")[0]) >= 77 else []
    except PackageNotFoundError:
        return []


def make_environment(folder: Path, wheels: list[Path]) -> Path:
    """A fresh virtual environment with the wheels installed and links to what they depend on. Returns its Python."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    links = folder / "dependencies"
    links.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(OURS) and path.suffix != ".pth":
            (links / path.name).symlink_to(path)
    (site / "dependencies.pth").write_text(f"{links}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--no-index", "--no-deps", *map(str, wheels)], folder)
    run([*pip, "check"], folder)
    return python


def use(python: Path, folder: Path) -> None:
    """What a stranger would type, from a folder that has nothing to do with the project."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()

    def harness(*argv: str) -> str:
        return run([str(python.parent / "harness"), *argv], elsewhere)

    where = run([str(python), "-c", "import harness; print(harness.__file__)"], elsewhere)
    expect(str(folder) in where, f"harness is imported from {where}, not from the wheel")
    plugins = json.loads(harness("plugins", "--json"))
    broken = [plugin for plugin in plugins if plugin["error"]]
    expect(not broken, f"plugins are broken: {broken}")
    example = next((plugin for plugin in plugins if plugin["name"] == "example"), {"package": "nothing"})
    expect(example["package"] == "harness-example", "the example package is not found by its entry point")
    expect("example_reading" in harness("tasks", "--json"), "the example's task is not listed")
    harness("check", "harness-example", "example_reading")
    harness("check", "--all")
    use_example(harness, elsewhere)
    harness("new", "task", "fresh")
    harness("check", "fresh.yaml")
    use_scaffold(harness, python, elsewhere)
    harness("--tasks", "demo", "--limit", "2")


def use_example(harness: object, elsewhere: Path) -> None:
    """The example's task, metric, model, template and recipe work together, and the numbers are right."""
    assert callable(harness)
    asked = ("--tasks", "example_reading", "--model", "echo", "--model_args", "line=0")
    harness(*asked, "--output", "echoes")
    (report,) = (elsewhere / "echoes").glob("*/report.json")
    (task,) = json.loads(report.read_text(encoding="utf-8"))["tasks"]
    scores = {metric["metric"]: metric["value"] for metric in task["metrics"]}
    expect(task["counts"]["n"] == 4 and task["counts"]["failed"] == 0, f"counts: {task['counts']}")
    expect(0.3 < scores["similarity"] < 1 and scores["exact_match"] == 0, f"scores: {scores}")
    said = harness(*asked, "--recipe", "example_echo", "--output", "by_recipe")
    expect("agrees" in said, f"the example's recipe is not compared: {said}")


def use_scaffold(harness: object, python: Path, elsewhere: Path) -> None:
    """A package that `harness new plugin` wrote builds without a warning, and its task runs from the wheel."""
    assert callable(harness)
    harness("new", "plugin", "stranger")
    output = elsewhere / "dist"
    command = [sys.executable, "-m", "build", *isolation(), "--outdir", str(output), "stranger"]
    said = run(command, elsewhere, errors=True)
    warned = [line for line in said.splitlines() if "warning" in line.lower() and "byte-compiling" not in line]
    expect(not warned and "would be ignored" not in said, f"the scaffold's build warns: {warned}")
    (wheel,) = output.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], elsewhere)
    harness("check", "stranger")
    harness("--tasks", "stranger_task", "--model", "stranger_model", "--output", "stranger_runs")


def run(command: list[str], folder: Path, *, errors: bool = False) -> str:
    """Run a command, and stop with its output if it fails. Returns stdout, and with `errors` stderr after it."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"wheel check: `{' '.join(command)}` ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + (done.stderr if errors else "")


def expect(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"wheel check: {message}")


if __name__ == "__main__":
    main()
