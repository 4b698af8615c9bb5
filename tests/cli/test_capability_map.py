"""A run over several benchmarks says what a model can do best, and which benchmarks it may have been trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.testing import run_harness

TASK = """\
task: {name}
ability: {ability}
dataset_path: rows.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{ q }}}}"
doc_to_choice: [甲, 乙]
doc_to_target: "{{{{ a }}}}"
metric_list: [{{metric: acc}}]
metadata: {{date: "{date}"}}
"""
TASKS = ("--tasks", "one.yaml,two.yaml,three.yaml", "--model", "dummy", "--model_args", "mode=gold")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, ability, date in (("one", "math", "2023-05"), ("two", "reading", "2025-01"), ("three", "law", "")):
        Path(f"{name}.yaml").write_text(TASK.format(name=name, ability=ability, date=date), encoding="utf-8")
    rows = [{"q": f"问 {n}", "a": n % 2} for n in range(8)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(*more: str) -> str:
    done = run_harness(*TASKS, *more)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_map_is_shown_and_is_in_the_report() -> None:
    assert "above chance" in run()
    (file,) = Path("runs").glob("*/report.json")
    abilities = json.loads(file.read_text(encoding="utf-8"))["abilities"]
    assert {each["ability"]: each["corrected"]["value"] for each in abilities} == {"math": 1, "reading": 1, "law": 1}


def test_older_benchmarks_are_named() -> None:
    said = run("--before_cutoff", "2024-06")
    assert "published before the model's cut-off 2024-06, and so perhaps in its training data: one (2023-05)" in said
    assert "without a date: three" in said
    assert "two (2025-01)" not in said


def test_a_cutoff_that_is_no_date_is_refused() -> None:
    done = run_harness("--tasks", "one.yaml", "--before_cutoff", "June")
    assert done.exit_code == 4
    assert "--before_cutoff: 'June' is no date" in done.output
