"""`--metrics`: more numbers about any task, when it runs or from its old answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.run.result import load_run
from harness.testing import run_harness

TASK = """\
task: capitals
dataset_path: rows.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: [Rome, Oslo, Lima]
doc_to_target: "{{answer}}"
"""
SUMS = """\
task: sums
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: exact_match}]
"""
DUMMY = ("--model", "dummy", "--model_args", "mode=random")


@pytest.fixture(autouse=True)
def _tasks_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps({"question": f"q{number}", "answer": number % 3}) + "\n" for number in range(30))
    Path("rows.jsonl").write_text(rows, encoding="utf-8")
    Path("capitals.yaml").write_text(TASK, encoding="utf-8")
    Path("sums.yaml").write_text(SUMS, encoding="utf-8")


def metrics_of(path: Path, task: str = "capitals") -> dict[str, Any]:
    report = load_run(path).report
    (found,) = (entry for entry in report["tasks"] if entry["task"] == task)
    return {metric["metric"]: metric for metric in found["metrics"]}


def run(*argv: str) -> Path:
    done = run_harness(*argv, *DUMMY)
    assert done.exit_code == 0, done.stderr
    return max(Path("runs").iterdir(), key=lambda path: path.stat().st_mtime)


def test_metrics_are_added_where_they_can_score_a_task() -> None:
    path = run("--tasks", "capitals.yaml,sums.yaml", "--metrics", "ece,margin", "--metrics", "chrf,acc")

    assert list(metrics_of(path)) == ["acc", "acc_norm", "ece", "margin"]
    assert list(metrics_of(path, "sums")) == ["exact_match", "chrf"]


def test_old_answers_get_new_metrics_without_a_model() -> None:
    path = run("--tasks", "capitals.yaml")
    asked = run("--tasks", "capitals.yaml", "--metrics", "ece,lucky_guess")

    done = run_harness("score", str(path), "--metrics", "ece,lucky_guess")

    assert done.exit_code == 0, done.stderr
    assert metrics_of(path) == metrics_of(asked)
    right = sum(record.scores["acc"] for record in load_run(path).records())
    assert metrics_of(path)["lucky_guess"]["n"] == right


def test_runs_are_compared_by_a_value_of_the_whole_set() -> None:
    entry = "capitals.metric_list=[{metric: ece, bins: 5}]"
    first = run("--tasks", "capitals.yaml", "--set", entry)
    second = run("--tasks", "capitals.yaml", "--set", entry, "--set", "capitals.description=Think.")

    done = run_harness("compare", str(first), str(second))

    assert done.exit_code == 0, done.stderr
    values = [f"{metrics_of(path)['ece']['value']:.4f}" for path in (first, second)]
    assert all(value in done.stdout for value in values)


def test_options_stand_in_brackets_and_in_files_as_entries() -> None:
    path = run("--tasks", "capitals.yaml", "--metrics", "ece(bins=1),margin(per_character=true)")
    Path("eval.yaml").write_text("metrics: [margin, {metric: ece, bins: 1}]\n", encoding="utf-8")
    other = run("--tasks", "capitals.yaml", "--config", "eval.yaml")

    assert metrics_of(path)["ece"] == metrics_of(other)["ece"]
    assert metrics_of(path)["margin"] != metrics_of(other)["margin"]
    scored = run_harness("score", str(other), "--metrics", "lucky_guess(per_character=true)")
    assert scored.exit_code == 0, scored.stderr
    assert list(metrics_of(other)) == ["acc", "acc_norm", "margin", "ece", "lucky_guess"]


def test_several_replies_to_a_question_give_pass_at_k_by_the_tasks_own_metric() -> None:
    path = run("--tasks", "sums.yaml", "--set", "sums.repeats=4", "--metrics", "pass_at_k(k=[1,4]),pass_hat_k(k=4)")

    assert list(metrics_of(path, "sums")) == ["exact_match", "pass_at_1", "pass_at_4", "pass_hat_k"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("ece(bin=3)", "metric 'ece' takes no option 'bin'; did you mean 'bins'?"),
        ("ece(bins)", "'bins' is not of the form key=value"),
        ("ece(bins=3", "--metrics: ) is missing at the end"),
        ("ece(bins=3)x", "'ece(bins=3)x' is not of the form NAME or NAME(option=value)"),
        ("acc(x=1)", "task 'capitals' has 'acc' already"),
        ("ecce", "unknown metric 'ecce'; did you mean 'ece'?"),
        ("chrf", "'chrf' can score none of these tasks (it scores: generate_until)"),
    ],
)
def test_a_metric_that_is_not_known_or_fits_nothing_is_refused(names: str, said: str) -> None:
    done = run_harness("--tasks", "capitals.yaml", "--metrics", names, *DUMMY)

    assert done.exit_code == 4
    assert said in done.stderr
    assert not Path("runs").exists()


def test_what_old_answers_do_not_hold_is_refused() -> None:
    done = run_harness("score", str(run("--tasks", "capitals.yaml")), "--metrics", "acc_mutual_info")

    assert done.exit_code == 4
    assert "needs answers that a run holds only when it was asked for there" in done.stderr
