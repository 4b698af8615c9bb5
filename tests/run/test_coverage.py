"""A report says what it is about: a smaller ask takes no larger result away, and a part is never called the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import evaluate
from harness.record.coverage import TaskCoverage
from harness.run.compare import compare_runs
from harness.run.result import RunResult, load_run
from harness.testing import run_harness

SUBSETS = {"law": 4, "art": 3, "war": 5}
TASK = """\
task: exam
dataset_path: json
dataset_kwargs: {data_files: {test: "rows_{{ subset.name }}.jsonl"}}
subsets: {law: {title: 法, group: soft}, art: {title: 艺, group: soft}, war: {title: 战, group: hard}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: ["yes", "no"]
doc_to_target: 0
metric_list: [{metric: acc}]
"""
GROUP = "group: all_exams\ntask: [exam]\naggregate_metric_list: [{metric: acc}]\n"


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rows in SUBSETS.items():
        Path(f"rows_{name}.jsonl").write_text("".join(json.dumps({"q": f"{name} {n}"}) + "\n" for n in range(rows)))
    Path("exam.yaml").write_text(TASK)
    Path("all_exams.yaml").write_text(GROUP)


def measured(expression: str = "exam.yaml", limit: float | None = None, **more: Any) -> RunResult:
    return evaluate("dummy", "mode=gold", expression, limit=limit, **more)


def on_disk(result: RunResult) -> Any:
    return json.loads((result.path / "report.json").read_text())["tasks"][0]


def test_a_smaller_ask_leaves_the_larger_report_and_has_its_own() -> None:
    whole = measured()
    page = (whole.path / "report.html").read_text()
    small = measured(limit=1)

    assert small.path == whole.path
    assert [small.report["tasks"][0]["counts"]["n"], on_disk(small)["counts"]["n"]] == [3, 12]
    assert on_disk(small)["covers"] == whole.report["tasks"][0]["covers"]
    assert (small.path / "report.html").read_text().count("exam") == page.count("exam")
    assert [record.id for record in small.samples()] == [0, 0, 0]
    assert small.larger is not None and small.larger["tasks"][0]["counts"]["n"] == 12


def test_a_larger_ask_takes_the_place_of_a_smaller_one() -> None:
    measured(limit=2)
    assert on_disk(measured(limit=1))["covers"]["limit"] == 2
    result = measured()
    covers = {"subsets": 3, "of_subsets": 3, "rows": 12, "of_rows": 12, "limit": None}
    assert on_disk(result)["covers"] == {**covers, "by_subset": {"law": [4, 4], "art": [3, 3], "war": [5, 5]}}
    assert result.larger is None


def test_two_asks_of_which_neither_holds_the_other_make_one_report() -> None:
    measured(limit=4)  # all of law and art, four of war
    result = measured(limit=0.9)  # all of each
    assert on_disk(result)["covers"]["rows"] == 12
    first, second = TaskCoverage({"a": 3, "b": 1}, {}, 2, 3), TaskCoverage({"a": 1, "b": 2}, {}, 2, 0.5)
    assert first.joined(second) == TaskCoverage({"a": 3, "b": 2}, {}, 2, None)


def test_the_terminal_shows_the_ask_and_names_the_larger_result() -> None:
    argv = ("--tasks", "exam.yaml", "--model", "dummy", "--model_args", "mode=gold")
    run_harness(*argv)
    done = run_harness(*argv, "--limit", "1")
    assert "0-shot, split test, limit 1 (3 of 12 rows)" in done.stdout
    assert "its report stays in report.json and report.html:" in done.stderr
    assert "  exam: acc 1.0000, n = 12 (0-shot, split test)" in done.stderr
    (path,) = Path("runs").iterdir()
    assert "0-shot, split test\n" in run_harness("report", path).stdout


def test_answers_beyond_the_report_are_not_compared() -> None:
    full, short = measured(output="full"), measured(limit=2, output="short")
    for name in ("exam.jsonl", "prompts.jsonl"):
        if (full.path / name).exists():
            (short.path / name).write_bytes((full.path / name).read_bytes())
    assert len(list(load_run(short.path).records())) == 12
    (found,) = compare_runs(full.path, short.path)
    assert found.n == 6


def test_a_part_is_called_a_part_in_the_table_and_shows_what_it_is_of() -> None:
    done = run_harness("--tasks", "exam.yaml/law,exam.yaml/war", "--model", "dummy")
    labels = [line.split("  ")[0].strip() or line.strip().split("  ")[0] for line in done.stdout.splitlines()]
    assert labels[1] == "exam (2 of 3 subsets)"
    assert "法" in done.stdout and "战" in done.stdout and "艺" not in done.stdout
    assert "soft" not in done.stdout  # of which a half was left out
    assert "(2 of 3 subsets)</span></h2>" in next(Path("runs").glob("*/report.html")).read_text()


def test_a_part_is_called_a_part_in_groups_summaries_and_comparisons() -> None:
    part, whole = measured("exam.yaml/law,exam.yaml/war"), measured(output="whole")
    assert "exam (2 of 3 subsets)" in part.summary()
    assert part.report["tasks"][0]["groups"][0]["covers"] == {"subsets": 1, "of_subsets": 2}
    (found,) = compare_runs(whole.path, part.path)
    assert found.name == "exam (2 of 3 subsets): acc"
    grouped = evaluate("dummy", "mode=gold", ["all_exams.yaml"], output="grouped")
    assert "exam (" not in grouped.summary()


def lm_eval_results(expression: str) -> Any:
    measured(expression, output=f"runs_{expression.count('/')}", output_path="out.json")
    (file,) = Path().glob("out_*.json")
    found = json.loads(file.read_text())
    file.unlink()
    return found


def test_lm_evals_file_has_no_result_of_the_whole_for_a_part() -> None:
    part = lm_eval_results("exam.yaml/law,exam.yaml/war")
    assert sorted(part["results"]) == ["exam_law", "exam_war"]
    assert part["results"]["exam_law"]["alias"] == "exam_law"
    assert part["group_subtasks"] == {}  # of groups alone, as in lm-eval
    assert "groups" not in part and "exam" not in part["versions"]
    assert part["n-samples"] == {
        "exam_law": {"original": 4, "effective": 4},
        "exam_war": {"original": 5, "effective": 5},
    }
    whole = lm_eval_results("exam.yaml")
    assert "exam" in whole["results"] and whole["group_subtasks"]["exam"] == ["exam_law", "exam_art", "exam_war"]
