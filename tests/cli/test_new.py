"""`harness new`: what it writes is renamed throughout, overwrites nothing, and works as it is."""

from __future__ import annotations

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
    assert len(files) == 5
    assert not [path for path in files if "my_plugin" in str(path) + path.read_text(encoding="utf-8")]
    project = tomllib.loads(Path("shouting/pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["harness"] == {"shouting": "shouting.plugin"}


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
    assert "no scaffold 'taks'; did you mean 'task'? (there are: plugin, rubric, task)" in refused.stderr
