"""`harness run`: what a user sees of a whole run, of an interruption, and of the commands that read a run."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import Request, Response
from harness.registry import load_plugins
from harness.run.result import load_run
from harness.testing import run_harness, tiny_causal_lm

ROWS = 6
ARGV = ("--tasks", "sums.yaml", "--model", "dummy", "--model_args", "mode=gold")


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    rows = [{"question": f"{n}+{n}=", "answer": str(2 * n)} for n in range(ROWS)]
    Path("sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("sums.yaml").write_text(
        "task: sums\ntitle: 加法\ndataset_path: sums.jsonl\ntest_split: test\noutput_type: generate_until\n"
        'doc_to_text: "{{ question }}"\ndoc_to_target: "{{ answer }}"\ngeneration_kwargs: {until: ["\\n"]}\n'
        "metric_list: [{metric: exact_match}]\n",
        encoding="utf-8",
    )


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have the model do something once, when it has answered two requests."""

    def arrange(action: Callable[[], object]) -> None:
        model = load_plugins().model("dummy")
        respond = model.respond
        left = [action]

        def stops(self: Any, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
            for count, answer in enumerate(respond(self, requests)):
                if count == 2 and left:
                    left.pop()()
                yield answer

        monkeypatch.setattr(model, "respond", stops)

    return arrange


def run_folder() -> Path:
    (path,) = Path("runs").iterdir()
    return path


def test_a_run_prints_a_table_and_keeps_a_folder() -> None:
    result = run_harness(*ARGV)
    assert result.exit_code == 0
    assert re.search(r"^sums +exact_match +1\.0000 .* 6$", result.stdout, re.MULTILINE)
    assert result.stderr.splitlines()[-1] == f"Run folder: {run_folder()}"
    assert json.loads((run_folder() / "manifest.json").read_text())["command"] == shlex.join(["harness", *ARGV])
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", result.output)


def test_report_prints_the_same_table_again() -> None:
    first = run_harness(*ARGV)
    assert run_harness("report", str(run_folder())).stdout == first.stdout
    shown = json.loads(run_harness("report", str(run_folder()), "--json").stdout)
    assert shown["tasks"][0]["metrics"][0]["value"] == 1.0


def test_score_needs_neither_rows_nor_model(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_harness(*ARGV)
    Path("sums.jsonl").unlink()
    monkeypatch.setattr(load_plugins().model("dummy"), "respond", None)
    again = run_harness("score", str(run_folder()))
    assert (again.exit_code, again.stdout) == (0, first.stdout)


@pytest.mark.usefixtures("hangs_up")
@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_names_the_command_that_goes_on(
    how: str, stopping: Callable[[Callable[[], object]], None]
) -> None:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    stopping(ctrl_c if how == "ctrl-c" else lambda: os.kill(os.getpid(), getattr(signal, how)))
    stopped = run_harness(*ARGV)
    assert stopped.exit_code == 2
    assert shlex.join(["harness", *ARGV]) in stopped.stderr.splitlines()[-1]
    assert str(run_folder()) in stopped.stderr
    assert not stopped.stderr.startswith("error")

    finished = run_harness(*ARGV)
    assert finished.exit_code == 0
    assert "6 samples, 2 of them on disk already" in finished.stderr
    assert "1.0000" in finished.stdout


def test_a_report_is_by_the_command_that_came_to_its_end(stopping: Callable[[Callable[[], object]], None]) -> None:
    stopping(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run_harness(*ARGV).exit_code == 2
    assert run_harness(*ARGV, "--limit", "2").exit_code == 0  # both rows are on disk by now
    for name in ("manifest.json", "report.json"):
        assert json.loads((run_folder() / name).read_text())["command"].endswith("--limit 2")


def test_a_larger_limit_goes_on_in_the_same_folder() -> None:
    run_harness(*ARGV, "--limit", "2")
    more = run_harness(*ARGV)
    assert "6 samples, 2 of them on disk already" in more.stderr
    assert run_folder().is_dir()


def test_files_of_lm_eval_are_written_on_request() -> None:
    run_harness(*ARGV, "--output_path", "out", "--log_samples")
    assert [path.name for path in Path("out").rglob("results_*.json")]
    assert [path.name for path in Path("out").rglob("samples_sums_*.jsonl")]


def test_show_writes_the_prompt_and_nothing_else_to_stdout() -> None:
    shown = run_harness("show", "sums.yaml", "--doc", "3", "--model", "dummy")
    assert shown.stdout == "3+3="
    assert "sums row 3: 4 characters" in shown.stderr
    assert "stops at: '\\n'" in shown.stderr
    assert "target: '6'" in shown.stderr


def test_tasks_lists_what_is_here_too() -> None:
    listed = run_harness("tasks", "sums", "--include_path", ".")
    assert re.search(r"^sums .* 加法", listed.stdout, re.MULTILINE)
    (entry,) = json.loads(run_harness("tasks", "sums", "--include_path", ".", "--json").stdout)
    assert (entry["name"], entry["title"], entry["path"]) == ("sums", "加法", "sums.yaml")


def test_tasks_are_filtered() -> None:
    chinese = json.loads(run_harness("tasks", "--language", "zh", "--json").stdout)
    assert {"ceval", "cmmlu"} <= {entry["name"] for entry in chinese}
    assert all("zh" in entry["language"] for entry in chinese)
    unknown = run_harness("tasks", "--language", "zhh")
    assert unknown.exit_code == 4
    assert "--language: no task has 'zhh'; did you mean 'zh'?" in unknown.stderr
    nothing = run_harness("tasks", "cmlu")
    assert nothing.exit_code == 4
    assert "no task fits cmlu; did you mean 'cmmlu'?" in nothing.stderr


def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    assert run_harness("check", "sums.yaml").stdout == "1 task and 0 plugins checked: no problems\n"
    Path("more").mkdir()
    text = Path("sums.yaml").read_text(encoding="utf-8")
    Path("more/a.yaml").write_text(
        text + "example: {row: {question: 1+1=, answer: '2'}, prompt: 1+2=}\n", encoding="utf-8"
    )
    Path("more/b.yaml").write_text(
        text.replace("task: sums", "task: other").replace("title", "titel"), encoding="utf-8"
    )
    found = run_harness("check", "more")
    assert found.exit_code == 4
    problems = found.stdout.splitlines()
    assert len(problems) == 3
    assert any("a.yaml:10" in problem and "1+2=" in problem for problem in problems)
    assert any("b.yaml:2" in problem and "did you mean 'title'?" in problem for problem in problems)
    assert problems[-1] == "2 tasks and 0 plugins checked: 2 problems"
    refused = run_harness("check")
    assert (refused.exit_code, refused.stderr.count("\n")) == (4, 1)


def test_schema_is_a_json_schema() -> None:
    schema = json.loads(run_harness("schema").stdout)
    assert "doc_to_text" in json.dumps(schema)
    assert "$defs" in schema


@pytest.mark.slow
def test_data_pull_makes_a_mirror_that_a_run_needs_alone(tmp_path: Path) -> None:
    mirror = tmp_path / "old" / "someone" / "sums"
    mirror.mkdir(parents=True)
    Path("sums.jsonl").rename(mirror / "test.jsonl")
    text = Path("sums.yaml").read_text(encoding="utf-8")
    Path("sums.yaml").write_text(text.replace("sums.jsonl", "someone/sums"), encoding="utf-8")
    pulled = run_harness("data", "pull", "sums.yaml", "--to", "new", "--data", "old", "--offline")
    assert (pulled.exit_code, pulled.stdout) == (0, "1 file in new: use them with --data new\n")
    assert (tmp_path / "new/someone/sums/test.jsonl").is_file()
    assert run_harness(*ARGV, "--data", "new", "--offline").exit_code == 0
    missing = run_harness("data", "pull", "sums.yaml", "--to", "other", "--offline")
    assert missing.exit_code == 4
    assert "someone/sums" in missing.stderr


def test_a_dry_run_says_what_would_be_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_plugins().model("hf"), "load", None)
    model = tiny_causal_lm(tmp_path / "model")
    result = run_harness("--tasks", "sums.yaml", "--model", "hf", "--model_args", f"pretrained={model}", "--dry_run")
    assert result.exit_code == 0
    first, second, third, in_all, memory = result.stdout.splitlines()
    assert re.fullmatch(
        r"\S+ [kMG]B of weights in float32 and \S+ kB of keys and values a token; \S+ has .+ free", third
    )
    assert first == "sums: 6 samples, 6 requests"
    assert re.match(r"6 requests, \d+ tokens, \d+ of them distinct, \d+ to compute", second)
    assert re.fullmatch(
        r"in all about \d+ s( \(\d+ s of processor\))?: .+ s before the model, as just now, .+ to load it, "
        r".+ of the model, .+",
        in_all,
    )
    assert re.fullmatch(r"main memory: [\d,]+ MB at most, as with the stand-in just now", memory)
    assert not Path("runs").exists()
    assert run_harness(*ARGV, "--dry_run").stdout == "sums: 6 samples, 6 requests\n"


def test_nulls_that_prompts_show_are_told_of_before_a_run_and_by_show() -> None:
    rows = [{"question": "1+1=", "answer": "2", "hint": None if n % 3 else "two"} for n in range(6)]
    Path("sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = Path("sums.yaml").read_text(encoding="utf-8").replace("{{ question }}", "({{ hint }}) {{ question }}")
    Path("sums.yaml").write_text(text, encoding="utf-8")
    said = (
        "sums: prompts of 4 of 6 rows show None where 'hint' is null, as lm-eval does (first: row 1); {{ hint or '' }}"
    )
    assert said in run_harness(*ARGV).stderr
    assert said in run_harness(*ARGV, "--dry_run").stderr + run_harness(*ARGV, "--dry_run").stdout
    shown = run_harness("show", "sums.yaml", "--doc", "1", "--model", "dummy")
    assert shown.stdout.startswith("(None) 1+1=")
    assert "the prompt shows None where 'hint' is null; {{ hint or '' }} shows nothing" in shown.stderr
    assert "None" not in run_harness("show", "sums.yaml", "--doc", "0", "--model", "dummy").output


def test_a_question_of_several_contexts_is_logged_whole() -> None:
    """Winogrande's way: the choices are in the question, and one text is scored behind each of them."""
    rows = [{"of": ["Ann", "Bob"], "right": n % 2, "rest": "left early."} for n in range(3)]
    Path("who.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("who.yaml").write_text(
        "task: who\ndataset_path: who.jsonl\ntest_split: test\noutput_type: multiple_choice\ndescription: 'Who?\\n'\n"
        "doc_to_text: right\ndoc_to_choice: of\ndoc_to_target: rest\nmetric_list: [{metric: acc}]\n",
        encoding="utf-8",
    )
    argv = ("--tasks", "who.yaml", "--model", "dummy", "--output_path", "out", "--log_samples")
    assert run_harness(*argv).exit_code == 0
    for _ in range(2):
        record = next(load_run(run_folder()).records())
        assert [context.text for context in record.contexts] == ["Who?\\nAnn", "Who?\\nBob"]
        assert record.continuation == " left early."
        run_harness("score", str(run_folder()))
    (samples,) = Path("out").glob("*/samples_who_*.jsonl")
    first = json.loads(samples.read_text(encoding="utf-8").splitlines()[0])
    assert first["arguments"] == {
        "gen_args_0": {"arg_0": "Who?\\nAnn", "arg_1": " left early."},
        "gen_args_1": {"arg_0": "Who?\\nBob", "arg_1": " left early."},
    }
    page = (run_folder() / "report.html").read_text(encoding="utf-8")
    assert "prompt 2" in page
    assert "scored behind each" in page
    shown = run_harness("show", "who.yaml", "--model", "dummy")
    assert shown.stdout == "Who?\\nAnn"
    assert "prompt 2 ends: 'Bob'" in shown.stderr
