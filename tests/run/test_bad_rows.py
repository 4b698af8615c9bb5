"""Rows that cannot be asked or scored: refused by name, or dealt with as `--bad_rows` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import UsageError
from harness.errors import DataError, ExitCode
from harness.run.compare import compare_runs
from harness.run.rescore import score_run

ROWS = 6
FAULTS: dict[str, dict[str, Any]] = {
    "empty_option": {"options": ["3", "", "5"]},
    "null_option": {"options": ["3", None, "5"]},
    "no_options": {"options": []},
    "gold_out": {"right": 7},
    "gold_unknown": {"right": "nothing of that"},
    "no_question": {"q": ...},
    "null_question": {"q": None},
}
TASK = """\
task: NAME
dataset_path: NAME.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{ q }}"
doc_to_choice: "{{ options }}"
doc_to_target: right
metric_list: [{metric: acc}, {metric: exact_match}, {metric: brier_score}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task for each fault, whose row 3 has it."""
    folder = tmp_path_factory.mktemp("faults")
    for name, fault in FAULTS.items():
        rows = [{"q": f"{n}?", "options": [str(n), str(n + 1), str(n + 2)], "right": n % 3} for n in range(ROWS)]
        rows[3] = {key: value for key, value in {**rows[3], **fault}.items() if value is not ...}
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (folder / f"{name}.yaml").write_text(TASK.replace("NAME", name), encoding="utf-8")
    return folder


def run(folder: Path, how: str, *names: str, **options: Any) -> harness.RunResult:
    files = [str(folder / f"{name}.yaml") for name in names or FAULTS]
    settings = {"output": str(folder / f"runs_{how}"), **options}
    return harness.evaluate("dummy", "mode=fixed,index=0", files, bad_rows=how, **settings)


@pytest.fixture(scope="module")
def failing(folder: Path) -> harness.RunResult:
    return run(folder, "fail")


@pytest.fixture(scope="module")
def skipping(folder: Path) -> harness.RunResult:
    return run(folder, "skip")


def test_a_bad_row_is_refused_by_its_number(folder: Path) -> None:
    with pytest.raises(DataError, match=r"gold_out.yaml:7: .*the index 7 is outside the 3 choices.*row 3"):
        run(folder, "refuse", "gold_out")


def test_a_row_that_fails_is_counted_and_has_no_score(failing: harness.RunResult) -> None:
    for task in failing.report["tasks"]:
        assert (task["counts"]["n"], task["counts"]["failed"]) == (ROWS, 1)
        assert [metric["n"] for metric in task["metrics"]] == [ROWS - 1] * 3
    bad = [record for record in failing.samples("no_question") if record.error]
    assert [(record.id, record.scores["acc"]) for record in bad] == [(3, None)]
    assert "the row has no field 'q'" in str(bad[0].error)
    assert failing.exit_code == ExitCode.SAMPLES_FAILED


def test_rows_that_are_left_out_are_named_in_the_table(skipping: harness.RunResult) -> None:
    for task in skipping.report["tasks"]:
        assert (task["counts"]["n"], task["counts"]["failed"], task.get("missing")) == (ROWS - 1, 0, None)
    table = " ".join(skipping.summary(200).split())
    assert "gold_out: 1 of 6 rows cannot be used and is left out: 3 (row 3: " in table
    assert not skipping.exit_code


def test_lm_eval_scores_what_it_takes_and_stops_at_the_rest(folder: Path) -> None:
    takes = ("empty_option", "gold_out", "gold_unknown", "no_question", "null_question")
    result = run(folder, "lm_eval", *takes)
    scores = {name: [record.scores for record in result.samples(name)][3] for name in takes}
    # A gold that is no choice is never chosen; lm-eval has no Brier score of it.
    assert [scores[name]["acc"] for name in takes] == [1, 0, 0, 1, 1]
    assert [scores[name]["exact_match"] for name in takes] == [1, 0, 0, 1, 1]
    assert [scores[name]["brier_score"] is None for name in takes] == [False, True, True, False, False]
    assert next(record for record in result.samples("no_question") if record.id == 3).prompt.text == "None"
    again = score_run(result.path)
    assert [task["metrics"] for task in again.report["tasks"]] == [task["metrics"] for task in result.report["tasks"]]
    for name in ("null_option", "no_options"):
        with pytest.raises(DataError, match=r"row 3.*lm-eval stops at such a row"):
            run(folder, "lm_eval", name)


@pytest.mark.parametrize("how", ["failing", "skipping"])
def test_a_run_goes_on_and_is_scored_again_alike(how: str, request: pytest.FixtureRequest, folder: Path) -> None:
    before: harness.RunResult = request.getfixturevalue(how)
    for again in (run(folder, {"failing": "fail", "skipping": "skip"}[how]), score_run(before.path)):
        assert again.path == before.path
        assert [task["counts"] for task in again.report["tasks"]] == [task["counts"] for task in before.report["tasks"]]
        assert [task["covers"] for task in again.report["tasks"]] == [task["covers"] for task in before.report["tasks"]]


def test_runs_are_compared_on_the_rows_that_both_scored(
    failing: harness.RunResult, skipping: harness.RunResult
) -> None:
    comparisons = compare_runs(failing.path, skipping.path)
    assert [comparison.ties for comparison in comparisons] == [ROWS - 1] * len(FAULTS)


def test_a_task_without_any_good_row_is_refused(folder: Path) -> None:
    rows = '{"q": "1?", "options": [], "right": 0}\n' * 2
    (folder / "hopeless.jsonl").write_text(rows, encoding="utf-8")
    (folder / "hopeless.yaml").write_text(TASK.replace("NAME", "hopeless"), encoding="utf-8")
    with pytest.raises(DataError, match=r"there are no choices.*none of the 2 rows can be used"):
        run(folder, "skip", "hopeless")


def test_lm_eval_has_no_score_for_a_modified_row(folder: Path) -> None:
    with pytest.raises(UsageError, match="--bad_rows lm_eval: lm-eval has no --modify"):
        run(folder, "lm_eval", "gold_out", modify="circular")
