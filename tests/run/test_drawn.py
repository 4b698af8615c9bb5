"""`--precision` and `--until_decided`: rows in random order, until the score of all rows is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exam_task import TASK, write_exam

from harness import UsageError, evaluate, evaluate_each
from harness.errors import ExitCode
from harness.run.rescore import score_run
from harness.run.result import RunResult
from harness.testing import run_harness

SIZES = {"law": 160, "art": 80}


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_exam(SIZES, every=10)


def measured(mode: str = "fixed", tasks: str = "exam.yaml", **more: Any) -> RunResult:
    return evaluate("dummy", f"mode={mode}", tasks, **more)


def task_of(result: RunResult) -> Any:
    return result.report["tasks"][0]


def test_a_task_stops_when_its_score_is_known_and_says_what_was_saved() -> None:
    result = measured(precision=0.1)
    task, text = task_of(result), result.summary()

    assert 0 < task["drawn"]["rows"] < task["drawn"]["of_rows"] == 240
    low, high = task["drawn"]["interval"]
    assert (high - low) / 2 <= 0.1
    assert low <= 0.9 <= high
    assert task["metrics"][0]["interval"] == [low, high]
    assert task["counts"]["n"] == task["covers"]["rows"] == task["drawn"]["rows"] == len(list(result.samples()))
    by_subset = task["covers"]["by_subset"]
    assert by_subset["law"][0] == pytest.approx(2 * by_subset["art"][0], abs=16)
    assert "of 240 rows" in text
    assert "% saved" in text
    assert "% saved" in (result.path / "report.html").read_text()


@pytest.mark.slow
def test_the_same_command_goes_on_to_more_precision_and_keeps_what_it_has() -> None:
    wide = measured(precision=0.1)
    asked = {record.key for record in wide.samples()}
    narrow = measured(precision=0.02)

    assert narrow.path == wide.path
    assert asked < {record.key for record in narrow.samples()}
    low, high = task_of(narrow)["drawn"]["interval"]
    assert high - low <= 0.04
    again = measured(precision=0.1)  # asks for less: the folder keeps the larger report
    assert {record.key for record in again.samples()} == asked
    assert json.loads((again.path / "report.json").read_text())["tasks"][0]["drawn"] == task_of(narrow)["drawn"]


def test_a_verdict_is_given_where_all_that_it_takes_was_asked_before() -> None:
    other = measured("gold", output="other")
    measured(precision=0.02)
    task = task_of(measured(until_decided=str(other.path)))
    assert task["drawn"]["against"]["verdict"] == "worse"


def test_a_verdict_is_of_the_command_that_asked_for_it() -> None:
    rivals = {mode: str(measured(mode, output=mode).path) for mode in ("gold", "random")}
    decided = measured(until_decided=rivals["gold"])

    def kept() -> Any:
        return json.loads((decided.path / "report.json").read_text())["tasks"][0]["drawn"]

    other = measured(until_decided=rivals["random"])
    assert other.path == decided.path
    assert task_of(other)["drawn"]["against"]["run"] == rivals["random"]
    few = measured(precision=0.4)  # asks for less: the folder keeps the larger report, with its verdict
    assert "against" not in task_of(few)["drawn"] and "better than" not in few.summary()
    assert few.larger is not None and "against" in kept()
    assert task_of(score_run(decided.path))["drawn"]["against"] == kept()["against"]
    many = measured(precision=0.02)
    assert "against" not in task_of(many)["drawn"] and "against" not in kept()
    assert "drawn" not in task_of(measured())


@pytest.mark.slow
def test_where_all_rows_are_asked_the_report_is_that_of_a_whole_run() -> None:
    drawn, whole = measured(precision=1e-6, output="drawn"), measured(output="whole")
    assert task_of(drawn)["metrics"] == task_of(whole)["metrics"]
    assert "all 240 rows had to be asked" in drawn.summary()


@pytest.mark.slow
def test_scoring_again_keeps_the_interval() -> None:
    result = measured(precision=0.1)
    again = score_run(result.path)
    assert task_of(again)["drawn"] == task_of(result)["drawn"]
    assert task_of(again)["metrics"] == task_of(result)["metrics"]


@pytest.mark.slow
def test_a_macro_mean_is_known_as_a_macro_mean() -> None:
    Path("exam.yaml").write_text(TASK + "average: macro\n")
    rows = [json.dumps({"q": f"art {n}", "a": 1}) + "\n" for n in range(SIZES["art"])]
    Path("rows_art.jsonl").write_text("".join(rows))
    whole, drawn = task_of(measured(output="whole")), task_of(measured(precision=0.12, output="drawn"))
    assert whole["metrics"][0]["value"] == pytest.approx(0.45)
    low, high = drawn["drawn"]["interval"]
    assert drawn["drawn"]["rows"] < 240
    assert low <= 0.45 <= high


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "verdict"), [("gold", "better"), ("random", "worse")])
def test_a_run_stops_when_it_is_decided_which_is_better(mode: str, verdict: str) -> None:
    first = measured()
    second = measured(mode, until_decided=str(first.path))
    drawn = task_of(second)["drawn"]

    assert drawn["against"]["verdict"] == verdict
    low, high = drawn["against"]["difference"]
    assert low > 0 if verdict == "better" else high < 0
    assert drawn["rows"] < 240
    assert f"exam: {verdict} than {first.path}" in " ".join(second.summary(200).split())


@pytest.mark.slow
def test_equal_runs_are_undecided_until_all_rows_are_asked() -> None:
    first = measured(name="first")
    drawn = task_of(measured(until_decided=str(first.path), output="again"))["drawn"]
    assert drawn["rows"] == 240
    assert drawn["against"]["verdict"] == "equal"


@pytest.mark.slow
def test_rows_without_a_score_keep_the_interval_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_plugins.models.dummy import DummyModel as Dummy

    respond = Dummy.respond

    def failing(self: Any, requests: Any) -> Any:
        from harness import Response

        for index, response in respond(self, requests):
            hit = requests[index].prompt.text.strip().endswith(("1", "3", "5"))
            yield index, Response(error="busy") if hit else response

    monkeypatch.setattr(Dummy, "respond", failing)
    result = measured(precision=0.1)
    assert task_of(result)["drawn"]["rows"] == 240  # 30 % of the scores might be anything
    assert result.exit_code == ExitCode.SAMPLES_FAILED


def test_what_has_no_such_interval_is_refused_before_anything_is_asked() -> None:
    Path("exam.yaml").write_text(TASK.replace("metric: acc", "metric: acc, aggregation: median"))
    with pytest.raises(UsageError, match="task 'exam' is scored by 'acc', which is no mean"):
        measured(precision=0.1)
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_run_that_cannot_be_compared_with_is_one_line() -> None:
    done = run_harness("--tasks", "exam.yaml", "--model", "dummy", "--until_decided", "runs/none")
    assert done.exit_code == ExitCode.USAGE
    assert "runs/none" in done.output
    assert "Traceback" not in done.output
    Path("other.yaml").write_text(TASK.replace("task: exam", "task: other"))
    other = measured(tasks="other.yaml")
    with pytest.raises(UsageError, match="the run has no task 'exam'"):
        measured("gold", until_decided=str(other.path))


@pytest.mark.slow
def test_a_run_is_not_compared_with_itself() -> None:
    first = measured("gold")
    before = (first.path / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match="is this very run; name another, or another --output"):
        measured("gold", until_decided=str(first.path))
    assert (first.path / "manifest.json").read_bytes() == before


@pytest.mark.slow
def test_that_the_other_run_was_asked_otherwise_is_told() -> None:
    first = measured()
    flags = ("--model", "dummy", "--model_args", "mode=gold", "--until_decided", str(first.path))
    alike = run_harness("--tasks", "exam.yaml", *flags, "--output", "alike")
    assert alike.exit_code == 0 and "asked and scored alike" not in alike.stderr
    other = run_harness("--tasks", "exam.yaml", "--set", "exam.description=Hm.", *flags, "--output", "other")
    assert f"exam: is not asked and scored alike: description is unset in {first.path}" in other.stderr


@pytest.mark.slow
def test_each_of_several_models_draws_from_all_rows() -> None:
    first, second = evaluate_each("dummy", ["mode=gold", "mode=random"], "exam.yaml", precision=0.1)
    assert task_of(first)["drawn"]["rows"] < task_of(second)["drawn"]["rows"] < 240
    assert [task_of(each)["drawn"]["of_rows"] for each in (first, second)] == [240, 240]


@pytest.mark.slow
def test_the_views_of_a_row_are_drawn_together() -> None:
    for name, rows in SIZES.items():
        lines = [{"q": f"{name} {n}", "A": "yes", "B": "no", "a": "AB"[n % 10 == 0]} for n in range(rows)]
        Path(f"rows_{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    text = TASK.replace('["yes", "no"]', "[A, B]").replace("{{q}}", "{{q}} A. {{A}} B. {{B}}")
    Path("exam.yaml").write_text(text + "options: {columns: [A, B], answer: a, question: q}\n")
    result = measured("gold", modify="circular", precision=0.1)
    drawn = task_of(result)["drawn"]
    assert 0 < drawn["rows"] < 240
    assert len(list(result.samples())) == 2 * drawn["rows"]
    assert drawn["interval"][1] == 1.0
