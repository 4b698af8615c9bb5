"""A task that says what its rows are told apart by has a value for each in its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import evaluate
from harness.testing import run_harness

TASK = """\
task: sums
dataset_path: sums.jsonl
test_split: test
doc_to_text: "{{a}} + 1 ="
doc_to_target: "{{gold}}"
metric_list: [{metric: exact_match}]
breakdown: {size: "{{'large' if a > 9 else 'small'}}", skills: skills}
"""
ROWS = [
    {"a": 1, "gold": "2", "said": "2", "skills": ["adding", "one digit"]},
    {"a": 2, "gold": "3", "said": "4", "skills": ["adding"]},
    {"a": 10, "gold": "11", "said": "11", "skills": []},
    {"a": 11, "gold": "12", "said": "12", "skills": None},
]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    Path("said.jsonl").write_text("".join(json.dumps({"text": row["said"]}) + "\n" for row in ROWS), encoding="utf-8")
    Path("sums.yaml").write_text(TASK, encoding="utf-8")
    return "sums.yaml"


def test_each_category_has_its_value_and_a_list_counts_under_each(task: str) -> None:
    (found,) = evaluate("replay", {"path": "said.jsonl"}, [task]).report["tasks"]
    values = {
        (part["breakdown"], part["name"]): (part["metrics"][0]["value"], part["counts"]["n"])
        for part in found["categories"]
    }
    assert values == {
        ("size", "large"): (1.0, 2),
        ("size", "small"): (0.5, 2),
        ("skills", "adding"): (0.5, 2),
        ("skills", "one digit"): (1.0, 1),
    }
    assert found["metrics"][0]["value"] == 0.75


def test_the_table_names_them_below_the_task(task: str) -> None:
    shown = run_harness("--tasks", task, "--model", "replay", "--model_args", "path=said.jsonl").stdout
    assert "size: large" in shown and "skills: one digit" in shown


def test_a_mistake_in_it_is_told_with_its_line(task: str) -> None:
    Path(task).write_text(TASK.replace("skills: skills", "skills: '{{skils}}'"), encoding="utf-8")
    result = run_harness("--tasks", task, "--model", "replay", "--model_args", "path=said.jsonl")
    assert result.exit_code and "sums.yaml:7" in result.output and "no field 'skils'" in result.output
