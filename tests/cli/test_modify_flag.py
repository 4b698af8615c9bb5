"""`--modify` as a user meets it: prompts, counts, tables, comparisons and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import harness
from harness.testing import run_harness

LETTERS = "demo_choice_en:letters"
FIXED = ("--model", "dummy", "--model_args", "mode=fixed,index=0")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)


def run_folder(part: str) -> str:
    (found,) = [file.parent for file in Path("runs").glob("*/*.jsonl") if part in file.name]
    return str(found)


def test_a_modified_score_never_passes_for_the_plain_one() -> None:
    result = run_harness("--tasks", LETTERS, *FIXED, "--modify", "circular")
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()[1].split()
    assert first[:3] == ["demo_choice_en:letters+circular", "circular_acc,", "micro"]
    assert first[3:] == ["0.0000", "-", "0.0000", "..", "0.0370", "100"]
    again = run_harness("report", run_folder("circular"))
    assert again.stdout == result.stdout


def test_show_prints_every_view_and_says_which_it_is() -> None:
    result = run_harness("show", LETTERS, "--modify", "circular", "--model", "dummy", "--num_fewshot", "0")
    first = [line for line in result.stdout.splitlines() if line.startswith("A. ")]
    assert first == ["A. elephant", "A. rabbit", "A. deer", "A. tiger"]
    assert "row 0, view 2 of 4; options 2, 3, 4, 1: " in result.stderr
    assert [line for line in result.stderr.splitlines() if line.startswith("target")] == [
        "target: 3",
        "target: 2",
        "target: 1",
        "target: 0",
    ]


def test_a_dry_run_counts_views_and_shares_their_examples() -> None:
    result = run_harness("--tasks", LETTERS, "--modify", "circular", "--limit", "2", "--dry_run")
    assert "demo_choice_en:letters+circular: 40 samples, 40 requests" in result.stdout
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("40 requests"))
    assert "(1.0" in line  # every distinct token once, or nearly so


def test_a_configuration_file_can_name_modifiers() -> None:
    Path("eval.yaml").write_text(
        f"tasks: {LETTERS}\nmodel: dummy\nmodify: [shuffle_options, no_question]\nlimit: 3\n", encoding="utf-8"
    )
    result = run_harness("--config", "eval.yaml")
    assert result.exit_code == 0, result.output
    assert "demo_choice_en:letters+shuffle_options+no_question" in result.stdout


def test_a_plain_run_can_be_compared_with_a_modified_one() -> None:
    run_harness("--tasks", LETTERS, *FIXED)
    run_harness("--tasks", LETTERS, *FIXED, "--modify", "circular")
    plain, turned = run_folder("letters.jsonl"), run_folder("circular")
    result = run_harness("compare", plain, turned)
    assert result.exit_code == 0, result.output
    assert "0 won, 20 lost, 80 ties" in result.stdout
    gate = run_harness("gate", "--baseline", plain, "--current", turned)
    assert gate.exit_code == 4
    assert "the runs share no task" in gate.stderr


def test_added_metrics_of_a_whole_set_are_those_of_the_first_view() -> None:
    run_harness("--tasks", LETTERS, *FIXED, "--modify", "circular", "--limit", "3")
    result = run_harness("score", run_folder("circular"), "--metrics", "ece")
    assert result.exit_code == 0, result.output
    assert "vanilla_ece" in result.stdout


def test_from_python_a_single_name_will_do() -> None:
    result = harness.evaluate("dummy", tasks=[LETTERS], modify="no_question", limit=2)
    assert [task["task"] for task in result.report["tasks"]] == ["demo_choice_en:letters+no_question"]
    (first, *_) = result.samples("demo_choice_en:letters+no_question")
    assert first.doc["question"] == ""
    assert first.view == harness.View(order=(0, 1, 2, 3), question="")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--modify", "circulr"], "unknown modifier 'circulr'; did you mean 'circular'?"),
        (["--modify", "circular,paraphrase"], "is not of the form NAME or NAME=VALUE (give the flag again"),
        (["--modify", "repeats="], "is not of the form NAME or NAME=VALUE"),
        (["--modify", "circular", "--modify", "paraphrase"], "circular and paraphrase each show a row several times"),
        (["--modify", "no_image"], "does not say which columns hold images: add 'doc_to_image:'"),
    ],
)
def test_a_mistake_is_one_line(argv: list[str], message: str) -> None:
    result = run_harness("--tasks", LETTERS, "--model", "dummy", *argv)
    assert result.exit_code == 4
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_a_task_whose_prompt_hides_its_options_names_its_variants() -> None:
    result = run_harness("--tasks", "demo_choice_en", "--model", "dummy", "--modify", "circular")
    assert result.exit_code == 4
    assert "(its variants: demo_choice_en:letters, demo_choice_en:gen)" in result.stderr


def test_modifiers_are_listed_and_explained() -> None:
    listed = json.loads(run_harness("plugins", "--json").stdout)
    brought = {name for plugin in listed for name in plugin["provides"].get("modifier", [])}
    assert brought >= {"circular", "shuffle_options", "paraphrase", "no_question", "no_image", "repeats"}
    assert "right only if" in run_harness("plugins", "circular").stdout
