"""The scaffold of a training loop by ms-swift: its rows and tasks, and, where ms-swift is there, all its commands."""

from __future__ import annotations

import os
import runpy
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.run.compare import compare_runs
from harness.testing import run_harness


@pytest.fixture
def scaffold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert run_harness("new", "swift_loop", "our_loop").exit_code == 0
    return tmp_path


def test_its_tasks_read_rows_of_ms_swift(scaffold: Path) -> None:
    runpy.run_path("our_loop_rows.py")
    tasks = ["our_loop_sums.yaml", "our_loop_pairs.yaml"]
    run = harness.evaluate("dummy", {"mode": "gold"}, tasks, output="runs", apply_chat_template=True)
    assert [(task["metrics"][0]["value"], task["metrics"][0]["n"]) for task in run.report["tasks"]] == [(1.0, 200)] * 2


def run_of(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"*-{name}-????????")
    return found


def better(before: Path, after: Path, task: str) -> bool:
    """Whether the first metric of a task is better beyond chance."""
    (found,) = [each for each in compare_runs(before, after) if each.name.startswith(task)]
    assert found.difference is not None and found.p_value is not None
    return found.difference > 0 and found.p_value < 0.001


def sums(run: Path) -> list[Any]:
    records = [record for record in harness.load_run(run).records() if record.task == "our_loop_sums"]
    return [(record.id, record.responses[0].text) for record in records]


@pytest.mark.slow
def test_its_commands_train_prefer_and_export_by_ms_swift_and_scores_in_training_are_those_of_what_is_saved(
    scaffold: Path,
) -> None:
    try:
        version("ms-swift")
    except PackageNotFoundError:
        pytest.skip("ms-swift is not installed")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "our_loop.sh"], env=environment, text=True, capture_output=True)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert (done.returncode == 1) == ("gate failed" in done.stdout + done.stderr)
    base, tuned, preferred = (run_of(scaffold / "runs", name) for name in ("base", "sft", "dpo"))
    assert better(base, tuned, "our_loop_sums")
    assert better(tuned, preferred, "our_loop_pairs")
    (measured,) = (scaffold / "out" / "sft" / "harness").glob("*-step-60-*")
    assert sums(measured) == sums(tuned)[: len(sums(measured))]
    assert len(sums(measured)) == 50
