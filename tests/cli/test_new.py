"""`harness new`: what it writes is renamed throughout, overwrites nothing, and works as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.testing import run_harness


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_new_task_passes_its_own_check_and_runs() -> None:
    made = run_harness("new", "task", "rivers", "--to", "mine")
    assert (made.exit_code, made.stderr) == (0, "")
    assert made.stdout.splitlines() == [
        "wrote mine/rivers.jsonl",
        "wrote mine/rivers.yaml",
        "next: harness check mine/rivers.yaml",
        "next: harness --tasks rivers --include_path mine",
    ]
    assert run_harness("check", "mine/rivers.yaml").exit_code == 0
    ran = run_harness("--tasks", "rivers", "--include_path", "mine", "--model", "dummy", "--model_args", "mode=gold")
    assert ran.exit_code == 0
    assert "1.0000" in ran.stdout


def test_a_new_plugin_is_named_throughout() -> None:
    made = run_harness("new", "plugin", "shouting")
    assert made.exit_code == 0
    files = [path for path in Path("shouting").rglob("*") if path.is_file()]
    assert len(files) == 6
    assert not [path for path in files if "my_plugin" in str(path) + path.read_text(encoding="utf-8")]
    project = tomllib.loads(Path("shouting/pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["harness"] == {"shouting": "shouting.plugin"}


@pytest.mark.parametrize("package", ["scaffold", "example"])
def test_a_package_is_built_whole_and_without_a_warning(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "scaffold":
        run_harness("new", "plugin", "rivers")
        deep = Path("rivers/rivers/tasks/deep")
        deep.mkdir()
        (deep / "more.yaml").write_text("task: more\n", encoding="utf-8")
        (Path("rivers/rivers/tasks") / "__pycache__").mkdir()
    else:
        shutil.copytree(Path(__file__).parents[1] / "example_package", "rivers")
    build = "import setuptools; setuptools.setup()"
    command = [sys.executable, "-W", "error", "-c", build, "-q", "build_py", "--build-lib", str(tmp_path / "built")]
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # setuptools says so, where it is set
    done = subprocess.run(command, cwd="rivers", capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    files = [path for path in (tmp_path / "built").rglob("*.*") if path.suffix != ".pyc"]
    built = {str(path.relative_to(tmp_path / "built")) for path in files}
    wanted = {"tasks/deep/more.yaml", "tasks/rivers_task.yaml", "tasks/rivers_task.jsonl", "plugin.py", "__init__.py"}
    if package == "example":
        wanted = {"tasks/example_reading.yaml", "tasks/example_reading.jsonl", "templates/example_passage.jinja"}
        wanted |= {"tasks/recipes/example_echo.yaml", "plugin.py", "__init__.py"}
    assert built == {f"{'rivers' if package == 'scaffold' else 'harness_example'}/{name}" for name in wanted}


def test_nothing_is_overwritten() -> None:
    Path("rivers.yaml").write_text("mine", encoding="utf-8")
    refused = run_harness("new", "task", "rivers")
    assert refused.exit_code == 4
    assert "'rivers.yaml' is there already" in refused.stderr
    assert Path("rivers.yaml").read_text(encoding="utf-8") == "mine"
    assert not Path("rivers.jsonl").exists()


@pytest.mark.parametrize("name", ["Rivers", "my task", "../up", "1st", ""])
def test_a_name_that_is_no_name(name: str) -> None:
    refused = run_harness("new", "task", name)
    assert refused.exit_code == 4
    assert "must be lower-case letters" in refused.stderr


def test_an_unknown_kind_is_told_what_there_is() -> None:
    refused = run_harness("new", "taks", "rivers")
    assert refused.exit_code == 4
    assert (
        "no scaffold 'taks'; did you mean 'task'? "
        "(there are: environment, plugin, rubric, swift_loop, task, tau_bench, training_loop)" in refused.stderr
    )


def test_what_a_plugin_brings_is_started_by_the_scaffold_of_plugins() -> None:
    refused = run_harness("new", "metric", "mine")
    assert "no scaffold 'metric': a metric comes with `harness new plugin NAME` (there are: " in refused.stderr
