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


@pytest.fixture
def two_runs(task: str) -> list[str]:
    said = [{"text": row["gold"] if row["a"] != 11 else "?"} for row in ROWS]
    Path("better.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said), encoding="utf-8")
    return [str(evaluate("replay", {"path": path}, [task]).path) for path in ("said.jsonl", "better.jsonl")]


def test_several_runs_stand_side_by_side_by_category(two_runs: list[str]) -> None:
    shown = run_harness("report", *two_runs, "--by", "skills").stdout.splitlines()
    cells = [line.split() for line in shown]
    assert ["skills", "said.jsonl", "better.jsonl", "n"] in cells
    adding = next(line for line in cells if line[0] == "adding")
    assert adding[1] == "50.0" and adding[5] == "100.0" and adding[-1] == "2"
    assert any(line.startswith("said.jsonl, best: one digit 100.0 %") for line in shown)
    assert any(line.startswith("said.jsonl, worst: adding 50.0 ± ") for line in shown)


def test_categories_are_written_for_papers_and_sheets(two_runs: list[str], tmp_path: Path) -> None:
    assert "| adding | 50.0 ± " in run_harness("report", *two_runs, "--by", "skills", "--format", "markdown").stdout
    result = run_harness("report", *two_runs, "--by", "size", "--to", str(tmp_path / "sizes.csv"))
    assert not result.exit_code
    lines = (tmp_path / "sizes.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "task,metric,breakdown,category,run,value,low,high,n"
    assert any(line.startswith("sums,exact_match,size,large,better.jsonl,0.5,") for line in lines)


def test_an_unknown_breakdown_is_told_with_those_that_are_there(two_runs: list[str]) -> None:
    result = run_harness("report", *two_runs, "--by", "skill")
    assert result.exit_code
    assert "no task has a breakdown 'skill'; did you mean 'skills'? (there are: size, skills)" in result.output


def test_of_many_categories_the_table_names_the_three_best_and_the_three_worst(tmp_path: Path) -> None:
    rows = [{"a": n, "gold": "1", "kind": f"kind {n:02}", "said": "1" if n < 5 else "2"} for n in range(10)]
    for name, kept in (("sums", rows), ("said", [{"text": row["said"]} for row in rows])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    file = tmp_path / "sums.yaml"
    file.write_text(TASK.split("breakdown")[0] + "breakdown: {kind: kind}\n", encoding="utf-8")
    result = evaluate("replay", {"path": str(tmp_path / "said.jsonl")}, [str(file)], output=str(tmp_path / "out"))
    shown = run_harness("report", str(result.path)).stdout
    assert shown.count("kind, best: ") == 3 and shown.count("kind, worst: ") == 3 and "kind, worst: kind 09" in shown


def test_a_row_without_the_column_is_in_no_category_and_a_column_that_no_row_has_is_told(task: str) -> None:
    rows = [*ROWS[:3], {key: value for key, value in ROWS[3].items() if key != "skills"}]
    Path("sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (found,) = evaluate("replay", {"path": "said.jsonl"}, [task]).report["tasks"]
    named = {part["name"] for part in found["categories"] if part["breakdown"] == "skills"}
    assert named == {"adding", "one digit"}
    for key, place in (("breakdown: {size: skils}", 7), ("cluster_key: skils", 7), ("doc_to_date: skils", 7)):
        Path("sums.yaml").write_text(TASK.split("breakdown")[0] + key + "\n", encoding="utf-8")
        told = run_harness("--tasks", "sums.yaml", "--model", "dummy")
        name = key.partition(":")[0]
        assert f"sums.yaml:{place}: {name}: no row has a column 'skils'; did you mean 'skills'" in told.output


def test_a_category_that_is_a_long_text_takes_one_line_of_the_table(task: str) -> None:
    rows = [{**row, "skills": "a\nlong text " * 99} for row in ROWS]
    Path("sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    shown = run_harness("--tasks", task, "--model", "replay", "--model_args", "path=said.jsonl").stdout
    assert "skills: a long text a long text" in shown and "…" in shown
    assert max(map(len, shown.splitlines())) <= 140
