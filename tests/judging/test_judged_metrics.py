"""`metric: judge`: a task leaves a score to a judge, and one command answers, judges and reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import ScriptedServer, chat

import harness
from harness.testing import run_harness

TASK = """\
task: talk
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{ q }}"
doc_to_target: "{{ a }}"
metric_list:
  - metric: judge
    rubric: RUBRIC
    range: [0, 1]
  - metric: exact_match
"""
RUBRIC = """\
rubric: graded
prompt: "{{ question | fenced }} {{ answer | fenced }} {{ format }}"
reply:
  grade: {type: choice, choices: {right: 1, wrong: 0, unsure: 0}}
score: grade
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_task("graded.yaml")
    Path("graded.yaml").write_text(RUBRIC, encoding="utf-8")
    rows = [{"q": f"问题 {n}", "a": f"答 {n}"} for n in range(4)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def write_task(rubric: str, more: str = "") -> None:
    text = TASK.replace("RUBRIC", rubric).replace("    range", f"{more}    range")
    Path("t.yaml").write_text(text, encoding="utf-8")


def run(*more: str) -> Any:
    return run_harness("--tasks", "t.yaml", "--model", "dummy", "--model_args", "mode=gold", *more)


def metrics() -> dict[str, tuple[float | None, int]]:
    (file,) = Path("runs").glob("*/report.json")
    (task,) = json.loads(file.read_text(encoding="utf-8"))["tasks"]
    return {metric["metric"]: (metric["value"], metric["n"]) for metric in task["metrics"]}


def test_without_a_judge_the_run_ends_well_and_says_what_would_score_it() -> None:
    done = run()
    assert done.exit_code == 0
    assert metrics() == {"judge": (None, 0), "exact_match": (1.0, 4)}
    (folder,) = Path("runs").iterdir()
    assert f"talk: its answers wait for a judge: harness score {folder} --judge" in done.output


def test_one_command_answers_judges_and_reports() -> None:
    done = run("--judge", "dummy,mode=gold")
    assert done.exit_code == 0
    assert metrics() == {"judge": (1.0, 4), "exact_match": (1.0, 4)}
    assert "wait for a judge" not in done.output


def test_the_judge_may_come_later_and_its_scores_stay() -> None:
    run()
    assert run_harness("score", "runs", "--judge", "dummy,mode=gold").exit_code == 0
    assert metrics()["judge"] == (1.0, 4)
    for again in (("score", "runs"), ("--tasks", "t.yaml", "--model", "dummy", "--model_args", "mode=gold")):
        assert run_harness(*again).exit_code == 0
        assert metrics() == {"judge": (1.0, 4), "exact_match": (1.0, 4)}


def test_metrics_that_are_added_while_scoring_stay_beside_the_judged_ones() -> None:
    run()
    assert run_harness("score", "runs", "--metrics", "bleu", "--judge", "dummy,mode=gold").exit_code == 0
    assert metrics().keys() == {"judge", "exact_match", "bleu"}
    assert metrics()["judge"] == (1.0, 4)


def test_several_scores_of_a_rubric_and_the_mean_of_several_judges() -> None:
    write_task("graded.yaml", '    values: [grade, "grade=right"]\n')
    done = run("--judge", "dummy,mode=gold", "--judge", "dummy,mode=fixed,index=1")
    assert done.exit_code == 0, done.output
    found = metrics()
    assert found["judge_grade"] == (0.5, 4)
    assert found["judge_grade=right"] == (0.5, 4)


def test_a_judge_that_makes_no_sense_gives_null_and_exit_1() -> None:
    done = run("--judge", "dummy,text=nonsense")
    assert done.exit_code == 1
    assert metrics()["judge"] == (None, 0)


@pytest.mark.parametrize(
    ("rubric", "more", "said"),
    [
        ("no_such_rubric", "", "there is no rubric 'no_such_rubric'"),
        ("preference_en", "", "compares two runs"),
        ("graded.yaml", "    values: [grad]\n", "has no score 'grad' (it has: grade, grade=right"),
        ("gone.yaml", "", "there is no rubric file gone.yaml"),
    ],
)
def test_check_finds_a_rubric_that_cannot_score(rubric: str, more: str, said: str) -> None:
    write_task(rubric, more)
    done = run_harness("check", "t.yaml")
    assert done.exit_code == 4
    assert said in done.output


def test_a_judge_is_refused_where_no_task_leaves_a_score_to_it() -> None:
    text = TASK.replace("  - metric: judge\n    rubric: RUBRIC\n    range: [0, 1]\n", "")
    Path("t.yaml").write_text(text, encoding="utf-8")
    done = run("--judge", "dummy")
    assert done.exit_code == 4
    assert "--judge: none of the tasks has scores that a judge gives" in done.output


@pytest.mark.parametrize(
    ("rubric", "judge", "said"),
    [("graded.yaml", "dummy,mode=odd", "knows no mode 'odd'"), ("nothing", "dummy", "there is no rubric 'nothing'")],
)
def test_what_cannot_judge_is_refused_before_anything_is_asked(rubric: str, judge: str, said: str) -> None:
    write_task(rubric)
    Path("rows.jsonl").unlink()
    done = run("--judge", judge)
    assert done.exit_code == 4
    assert said in done.output
    assert not Path("runs").exists()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Answers, and judges: each reply takes 10 tokens."""
    scripted = ScriptedServer()
    scripted.answer = lambda asked: chat('{"grade": "right"}' if "grade" in str(asked.body["messages"]) else "?")
    yield scripted
    scripted.close()


def test_what_judges_take_is_in_the_cost_and_in_the_budget_of_the_run(server: ScriptedServer) -> None:
    who = f"base_url={server.url},api=chat,num_concurrent=1,model="
    flags = ("--model", "openai", "--model_args", f"{who}small", "--judge", f"openai,{who}judge")
    flags = ("--tasks", "t.yaml", *flags, "--apply_chat_template", "--prices", "in=1000000,out=0")
    refused = run_harness(*flags, "--budget", "5")
    assert refused.exit_code == 4 and "--judge_prices in=" in refused.stderr and not server.asked

    stopped = run_harness(*flags, "--budget_tokens", "60")
    assert stopped.exit_code == 2 and "the budget is spent: " in stopped.stderr and len(server.asked) == 6
    done = run_harness(*flags, "--budget_tokens", "60", "--judge_prices", "in=0,out=1000000")
    assert done.exit_code == 0, done.stderr
    assert len(server.asked) == 8 and metrics()["judge"] == (1.0, 4)
    assert "tokens: 28 of prompts, 12 of answers; cost 28.0000" in done.stdout
    assert "tokens of the judges: 28 of prompts, 12 of answers; cost 12.0000" in done.stdout


def test_a_recipes_judge_is_asked_from_python_as_by_the_command(server: ScriptedServer) -> None:
    who = f"base_url={server.url},api=chat,model="
    recipe = f"recipe: mine\ntitle: Mine\nsource: https://example.org\ndate: 2026-01\njudge: openai,{who}judge\n"
    Path("mine.yaml").write_text(f"{recipe}tasks:\n  talk: {{published: 100, metric: judge}}\n", encoding="utf-8")
    given = {"model": "openai", "model_args": f"{who}small", "tasks": "t.yaml", "recipe": "mine.yaml"}
    result = harness.evaluate(**given)
    (task,) = result.report["tasks"]
    assert [metric["value"] for metric in task["metrics"]] == [1.0, 0.0] and task["usage"]["judges"]["answers"] == 4
    (other,) = harness.evaluate_each(**{**given, "model_args": [f"{who}small"]}, judge="dummy,mode=fixed,index=1")
    assert other.report["tasks"][0]["metrics"][0]["value"] == 0
    with pytest.raises(harness.UsageError, match="judge: '=' does not begin with the name of a model"):
        harness.evaluate(**given, judge="=")
