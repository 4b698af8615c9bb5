"""`harness judge` as a user types it, with the models that come with the harness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judged_runs import make_run

from harness.testing import run_harness, tiny_causal_lm

REPLIES = {"中国": "北京", "化学式": "H2O", "2 + 2": "4", "red": "Venus"}


@pytest.fixture
def run(tmp_path: Path) -> str:
    return make_run(tmp_path, REPLIES)


def test_a_table_and_what_it_took(run: str) -> None:
    argv = ["judge", run, "--rubric", "quality_en", "--model", "dummy", "--model_args", "mode=gold"]
    done = run_harness(*argv, "--prices", "1,2")
    assert done.exit_code == 0
    first, columns, row, asked, work = done.stdout.splitlines()
    assert asked == "0-shot"
    assert first.startswith("says, judged by dummy (quality_en@")
    assert columns.split() == ["task", "metric", "value", "stderr", "95%", "interval", "n"]
    assert row.split() == ["talk", "score", "10.0000", "0.0000", "10.0000", "..", "10.0000", "4"]
    assert work.startswith("talk: 4 of 4 samples scored; 4 replies; ? prompt and 120 completion tokens, cost 0.0002")
    assert "Judgements: " in done.stderr
    again = run_harness(*argv)
    assert again.exit_code == 0
    assert "4 of them on disk already" in again.stderr


def test_the_report_of_a_run_ends_with_what_judges_said(run: str) -> None:
    run_harness("judge", run, "--rubric", "correctness_en", "--model", "dummy", "--model_args", "mode=gold")
    shown = run_harness("report", run)
    assert "exact_match" in shown.stdout
    assert "judged by dummy (correctness_en@" in shown.stdout
    (folder,) = (Path(run) / "judgements").iterdir()
    assert run_harness("report", str(folder)).stdout.startswith("says, judged by dummy")
    assert json.loads(run_harness("report", str(folder), "--json").stdout)["rubric"]["name"] == "correctness_en"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "correct" in page and "北京" in page


def test_a_judgement_with_a_damaged_report_is_named_and_mended_by_its_own_command(run: str) -> None:
    argv = ["judge", run, "--rubric", "correctness_en", "--model", "dummy", "--model_args", "mode=gold"]
    run_harness(*argv)
    (folder,) = (Path(run) / "judgements").iterdir()
    whole = (folder / "report.json").read_bytes()
    (folder / "report.json").write_bytes(whole[:1000])

    shown = run_harness("report", run)
    assert shown.exit_code == 0 and "exact_match" in shown.stdout
    assert "report.json: cannot be read" in shown.stderr and "the command that judged writes it anew" in shown.stderr
    again = run_harness(*argv)
    assert again.exit_code == 0 and "4 of them on disk already" in again.stderr
    assert (folder / "report.json").read_bytes() == whole


def test_several_judges_on_one_line_each(run: str) -> None:
    argv = ["judge", run, "--rubric", "quality_zh", "--judge", "dummy", "--judge", "dummy,seed=2"]
    done = run_harness(*argv)
    assert done.exit_code == 0
    assert done.stdout.count("judged by dummy") == 2
    assert "all 2 judges, on the samples that each of them scored:" in done.stdout
    assert "talk: Krippendorff's alpha " in done.stdout
    found = json.loads(run_harness(*argv, "--json", "--prices", "1,1", "--prices", "3,3").stdout)
    assert [judge["prices_per_million"] for judge in found["judges"]] == [[1.0, 1.0], [3.0, 3.0]]
    assert found["panel"]["agreement"][0]["n"] == 4


def test_a_dry_run_shows_the_first_question_and_asks_nothing(run: str) -> None:
    done = run_harness("judge", run, "--rubric", "quality_en", "--model", "dummy", "--dry_run")
    assert done.exit_code == 0
    assert "中国的首都是哪里？" in done.stdout
    assert done.stdout.splitlines()[-1] == "dummy: 4 samples, 4 questions"
    assert not (Path(run) / "judgements").exists()


def test_the_list_names_every_rubric() -> None:
    listed = run_harness("judge", "--list").stdout
    assert "preference_zh   two runs  两个回答哪个更好" in listed
    assert "quality_en      one run " in listed


def test_a_new_rubric_judges(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = run_harness("new", "rubric", "tone")
    assert made.stdout.splitlines() == [
        "wrote tone.yaml",
        "next: harness judge RUN --rubric tone.yaml --model dummy",
    ]
    done = run_harness("judge", run, "--rubric", "tone.yaml", "--model", "dummy")
    assert done.exit_code == 0
    assert "judged by dummy (tone@" in done.stdout


def test_narrow_terminals(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = run_harness("judge", run, "--rubric", "quality_en", "--model", "dummy")
    table = done.stdout.splitlines()[1:3]
    assert all(len(text) <= 60 for text in table)


def test_pairs_are_two_runs(run: str, tmp_path: Path) -> None:
    other = make_run(tmp_path, {**REPLIES, "red": "Mars"}, "other")
    done = run_harness("judge", run, other, "--rubric", "preference_en", "--model", "dummy")
    assert done.exit_code == 0
    assert done.stdout.startswith("says against says, judged by dummy")
    assert "talk: 4 of 4 samples scored; 3 not asked: the two answers are the same; 2 replies" in done.stdout


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "name the run that is judged"),
        (["RUN"], "--rubric: name what is judged"),
        (["RUN", "--rubric", "quality_en"], "--model: name the model that judges"),
        (["RUN", "--rubric", "quality_en", "--model", "dumy"], "unknown model 'dumy'; did you mean 'dummy'?"),
        (["RUN", "--rubric", "quality_en", "--judge", "dummy", "--model", "dummy"], "--judge: stands in place of"),
        (["RUN", "--rubric", "quality_en", "--judge", "mode=gold"], "does not begin with the name of a model"),
        (["RUN", "--rubric", "quality_en", "--judge", "dummy,mood=gold"], "takes no argument 'mood'"),
        (["RUN", "--rubric", "quality_en", "--judge", ""], "does not begin with the name of a model"),
        (["RUN", "--rubric", "quality_en", "--model", "dummy", "--prices", "1"], "is not two prices"),
        (["RUN", "--rubric", "quality_en", "--model", "dummy", "--prices", "1,-2"], "is not two prices"),
        (["RUN", "--rubric", "quality_en", "--model", "dummy", "--prices", "nan,2"], "is not two prices"),
        (["RUN", "--rubric", "quality_en", *["--judge", "dummy", "--prices", "1,2"] * 3, "--judge", "hf"], "--prices:"),
        (["RUN", "--rubric", "quality_en", "--model", "dummy", "--limit", "0"], "--limit"),
        (["RUN", "--rubric", "quality_en", "--model", "dummy", "--retries", "-1"], "--retries"),
        (["RUN", "--rubric", "quality_en", "--model", "dummy", "--pairwise"], "unknown flag --pairwise"),
    ],
)
def test_a_mistake_is_one_line(run: str, argv: list[str], message: str) -> None:
    done = run_harness("judge", *[run if word == "RUN" else word for word in argv])
    assert done.exit_code == 4
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert message in line
    assert done.stdout == ""
    assert not (Path(run) / "judgements").exists()


@pytest.mark.slow
def test_the_demo_model_is_no_judge_but_can_be_asked(run: str) -> None:
    """A real model in this process: a million parameters that know nothing of JSON."""
    argv = ["judge", run, "--rubric", "correctness_en", "--model", "demo", "--apply_chat_template", "false"]
    done = run_harness(*argv, "--gen_kwargs", "max_gen_toks=4", "--retries", "1", "--limit", "2")
    assert done.exit_code == 1
    assert "talk: 0 of 2 samples scored; 4 replies, 2 of them asked again; 2 never readable: " in done.stdout


@pytest.mark.slow
def test_a_model_of_transformers_judges_by_its_chat_template(run: str, tmp_path: Path) -> None:
    model = tiny_causal_lm(tmp_path / "tiny", max_length=4096)
    argv = [
        "judge",
        run,
        "--rubric",
        "quality_zh",
        "--model",
        "hf",
        "--model_args",
        f"pretrained={model},dtype=float32",
    ]
    done = run_harness(*argv, "--gen_kwargs", "max_gen_toks=6", "--retries", "1", "--limit", "2", "--json")
    assert done.exit_code == 1, done.stderr
    (judged,) = json.loads(done.stdout)["judges"]
    work = judged["work"]["talk"]
    assert (work["judged"], work["scored"], work["replies"], work["asked_again"]) == (2, 0, 4, 2)
    assert judged["tasks"][0]["metrics"][0]["value"] is None
    lines = (Path(judged["path"]) / "talk.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["prompt"]["messages"][0]["role"] == "user"
