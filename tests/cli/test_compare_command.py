"""`harness compare` and `harness gate`, on runs of a task whose answers the test chooses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from harness.api import evaluate
from harness.cli.main import main

TASK = """\
task: letters
dataset_path: rows.jsonl
test_split: test
doc_to_text: "{{question}}"
doc_to_target: A
metric_list: [{metric: exact_match}]
"""
Run = Callable[[str, int], Path]


@pytest.fixture
def make_run(tmp_path: Path) -> Run:
    """Make a run of 60 samples, of which the first `right` are right."""
    (tmp_path / "letters.yaml").write_text(TASK, encoding="utf-8")
    rows = "".join(json.dumps({"question": f"q{number}"}) + "\n" for number in range(60))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")

    def make(name: str, right: int) -> Path:
        answers = [{"id": number, "text": "A" if number < right else "B"} for number in range(60)]
        recorded = tmp_path / f"{name}.jsonl"
        recorded.write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")
        task = str(tmp_path / "letters.yaml")
        return evaluate("replay", {"path": str(recorded)}, [task], output=str(tmp_path / f"runs_{name}")).path

    return make


def harness(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_compare_shows_the_paired_difference_and_who_won(make_run: Run) -> None:
    result = harness("compare", make_run("before", 30), make_run("after", 40))
    assert result.exit_code == 0, result.output
    row = next(line for line in result.output.splitlines() if line.startswith("letters: exact_match "))
    assert "0.5000" in row and "0.6667" in row and "+0.1667" in row
    assert "10 won, 0 lost, 50 ties" in result.output


def test_compare_lists_the_samples(make_run: Run) -> None:
    result = harness("compare", make_run("before", 30), make_run("after", 32), "--list")
    assert "won: 30, 31" in result.output
    assert "lost: none" in result.output


def test_compare_as_json(make_run: Run) -> None:
    (found,) = json.loads(harness("compare", make_run("a", 30), make_run("b", 40), "--json").output)
    assert (found["n"], found["test"], found["ties"]) == (60, "mcnemar", 50)
    assert found["p_value"] == pytest.approx(2 / 2**10)


def test_a_report_whose_task_has_no_score_is_refused(make_run: Run) -> None:
    whole, bare = make_run("whole", 30), make_run("bare", 30)
    report = json.loads((bare / "report.json").read_text(encoding="utf-8"))
    report["tasks"][0]["metrics"] = []
    (bare / "report.json").write_text(json.dumps(report), encoding="utf-8")
    for command in (("compare", bare, whole), ("gate", "--baseline", bare, "--current", whole)):
        result = harness(*command)
        assert result.exit_code == 4
        assert "report.json: damaged (task 'letters' has no score); `harness score" in result.output


def test_a_sample_whose_last_line_is_damaged_is_compared_by_the_one_before(make_run: Run) -> None:
    first, second = make_run("first", 40), make_run("second", 20)
    whole = harness("compare", first, second, "--json").stdout
    file = second / "letters.jsonl"
    damaged = {**json.loads(file.read_text(encoding="utf-8").splitlines()[5]), "scores": "none"}
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(damaged) + "\n")
    result = harness("compare", first, second, "--json")
    assert result.stdout == whole
    assert f"{file}:61: not a readable record" in result.stderr


@pytest.mark.parametrize("arguments", [["only-one"], ["absent", "absent-too"]])
def test_what_cannot_be_compared_is_one_line(arguments: Sequence[str]) -> None:
    result = harness("compare", *arguments)
    assert result.exit_code == 4
    assert result.output.startswith("error: ") and result.output.count("\n") == 1


def test_the_gate_stops_a_regression_and_writes_its_files(make_run: Run, tmp_path: Path) -> None:
    before, after = make_run("before", 50), make_run("after", 30)
    result = harness(
        *("gate", "--baseline", before, "--current", after, "--max_drop", "0.01"),
        *("--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "gate.md"),
    )
    assert result.exit_code == 1
    assert "failed: letters: exact_match" in result.output
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().attrib["failures"] == "1"
    assert "Gate failed" in (tmp_path / "gate.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("right", "max_drop"), [(40, "0"), (29, "0.05"), (28, "0")])
def test_the_gate_lets_through_what_is_not_worse_beyond_chance(make_run: Run, right: int, max_drop: str) -> None:
    arguments = ("--baseline", make_run("a", 30), "--current", make_run("b", right), "--max_drop", max_drop)
    result = harness("gate", *arguments)
    assert result.exit_code == 0, result.output
    assert "gate passed" in result.output


def test_a_task_that_the_current_run_lacks_has_failed_and_is_told(make_run: Run, tmp_path: Path) -> None:
    answers = tmp_path / "both"
    both = evaluate(
        "replay", {"path": str(answers)}, made_twice(tmp_path, answers, 30), output=str(tmp_path / "two")
    ).path
    one = make_run("one", 30)
    result = harness("gate", "--baseline", both, "--current", one, "--junit", tmp_path / "gate.xml")
    assert result.exit_code == 1
    assert "failed: other: exact_match: the current run has no such task" in result.output
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().attrib["failures"] == "1"
    assert harness("gate", "--baseline", one, "--current", both).exit_code == 0
    assert "only in the first run: other" in harness("compare", both, one).output
    assert "only in the second run: other" in harness("compare", one, both).output


def made_twice(tmp_path: Path, answers: Path, right: int) -> list[str]:
    """The files of the task and of one that is called `other`, and the answers to both."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"question": f"q{n}"}) + "\n" for n in range(60)))
    answers.mkdir()
    for name in ("letters", "other"):
        (tmp_path / f"{name}.yaml").write_text(TASK.replace("letters", name), encoding="utf-8")
        lines = [json.dumps({"id": n, "text": "A" if n < right else "B"}) + "\n" for n in range(60)]
        (answers / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return [str(tmp_path / f"{name}.yaml") for name in ("letters", "other")]


def test_the_gate_says_which_samples_have_no_score(make_run: Run, tmp_path: Path) -> None:
    before, recorded = make_run("before", 30), tmp_path / "half.jsonl"
    recorded.write_text("".join(json.dumps({"id": n, "text": "A" if n < 30 else "B"}) + "\n" for n in range(40)))
    half = evaluate(
        "replay", {"path": str(recorded)}, [str(tmp_path / "letters.yaml")], output=str(tmp_path / "h")
    ).path
    result = harness("gate", "--baseline", before, "--current", half, "--junit", tmp_path / "gate.xml")
    assert "20 samples left out: unscored" in result.output


def test_a_small_p_value_is_not_shown_as_none_at_all(make_run: Run) -> None:
    assert "<0.0001" in harness("compare", make_run("a", 60), make_run("b", 0)).output


@pytest.mark.parametrize("flag", ["--max_drop", "--alpha"])
def test_what_is_no_number_is_refused(flag: str) -> None:
    result = harness("gate", "--baseline", "a", "--current", "b", flag, "nan")
    assert (result.exit_code, result.output.count("\n")) == (4, 1)
    assert f"{flag}: nan" in result.output


def test_a_webhook_that_never_ends_its_reply_holds_up_nothing(make_run: Run) -> None:
    release = threading.Event()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            release.wait(60)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    runs = ("--baseline", make_run("a", 30), "--current", make_run("b", 31))
    result = harness("gate", *runs, "--webhook", f"http://127.0.0.1:{server.server_address[1]}")
    assert not release.is_set() and result.exit_code == 0
    assert "--webhook: " not in result.output  # it has been told
    release.set()
    server.shutdown()
    server.server_close()


def test_the_gate_tells_a_webhook_and_lives_without_it(make_run: Run) -> None:
    told: list[dict[str, object]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    runs = ("--baseline", make_run("a", 30), "--current", make_run("b", 31))
    assert harness("gate", *runs, "--webhook", f"http://127.0.0.1:{server.server_address[1]}").exit_code == 0
    server.shutdown()
    server.server_close()
    assert told[0]["passed"] is True
    silent = harness("gate", *runs, "--webhook", "http://127.0.0.1:9")
    assert silent.exit_code == 0
    assert "--webhook: " in silent.output


def test_a_run_is_named_by_the_folder_around_it_too_and_files_of_a_gate_make_theirs(
    make_run: Run, tmp_path: Path
) -> None:
    before, after = make_run("before", 30), make_run("after", 30)
    assert "+0.0000" in harness("compare", before.parent, after.parent).output
    assert harness("report", before.parent).exit_code == 0
    assert harness("score", before.parent).exit_code == 0
    junit = tmp_path / "ci" / "deep" / "gate.xml"
    assert harness("gate", "--baseline", before.parent, "--current", after, "--junit", junit).exit_code == 0
    assert junit.is_file()


def test_a_report_without_a_run_names_the_newest(
    make_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("a", 30)
    (tmp_path / "runs").mkdir()
    run.rename(tmp_path / "runs" / run.name)
    monkeypatch.chdir(tmp_path)
    assert f"RUNS is missing; the newest here is runs/{run.name}" in harness("report").output


@pytest.mark.parametrize("command", [["compare"], ["gate"]])
def test_what_of_a_folder_cannot_be_read_is_told(make_run: Run, command: list[str]) -> None:
    before, after = make_run("before", 30), make_run("after", 40)
    lines = (after / "letters.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    lines[7] = lines[7].replace('"scores": {', '"scores": {"x": ["y"], ')
    (after / "letters.jsonl").write_text("".join(lines), encoding="utf-8")
    named = ["--baseline", before, "--current", after] if command == ["gate"] else [before, after]

    result = harness(*command, *named)

    assert f"{after}/letters.jsonl:8: not a readable record" in result.stderr


@pytest.mark.parametrize("lines", [0, 20])
def test_a_baseline_that_has_lost_records_lets_nothing_through(make_run: Run, tmp_path: Path, lines: int) -> None:
    """A copy that was broken off between two lines: nothing in what is left says so, but its report does."""
    before, after = make_run("before", 30), make_run("after", 40)
    records = (before / "letters.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (before / "letters.jsonl").write_text("".join(records[:lines]), encoding="utf-8")
    told = f"{before}/letters.jsonl: the report is of 60 samples, of which {60 - lines} are not there"

    for current in (after, before):
        result = harness("gate", "--baseline", before, "--current", current)
        assert result.exit_code == 1, result.output
        assert told in result.stderr
        assert not lines or f"{60 - lines} samples of the baseline are missing or unscored" in result.stdout
    rules = tmp_path / "policy.yaml"
    rules.write_text("rules: [{tier: critical, tasks: '*', max_drop: 0}]\n", encoding="utf-8")
    assert harness("gate", "--baseline", before, "--current", after, "--policy", rules).exit_code == 1
    for command in (
        ["compare", before, after],
        ["report", before],
        ["export", before, "--parquet", tmp_path / "samples.parquet"],
        ["judge", before, "--rubric", "correctness_en", "--model", "dummy"],
    ):
        assert told in harness(*command).stderr, command


def test_a_baseline_that_has_lost_a_view_of_a_row_lets_nothing_through(tmp_path: Path) -> None:
    shown: dict[str, Any] = {"tasks": ["demo_choice_en:letters"], "limit": 10, "modify": ["circular"]}
    modes = ("random", "gold")
    runs = [evaluate("dummy", {"mode": mode}, output=str(tmp_path / mode), **shown) for mode in modes]
    baseline, current = (str(run.path) for run in runs)
    assert harness("gate", "--baseline", baseline, "--current", current).exit_code == 0
    (file,) = Path(baseline).glob("demo_choice_en*.jsonl")
    records = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([*records[:5], *records[6:]]), encoding="utf-8")

    result = harness("gate", "--baseline", baseline, "--current", current)

    assert result.exit_code == 1 and "1 sample of the baseline is missing or unscored" in result.stdout, result.output


def test_what_was_asked_or_scored_otherwise_is_told(make_run: Run, tmp_path: Path) -> None:
    before = make_run("before", 30)
    assert "alike" not in harness("gate", "--baseline", before, "--current", make_run("after", 40)).stderr
    task = tmp_path / "letters.yaml"
    task.write_text(TASK.replace("metric: exact_match", "metric: exact_match, ignore_case: true"), encoding="utf-8")
    gen = {"max_gen_toks": 3}
    run = evaluate("dummy", {}, [str(task)], output=str(tmp_path / "other"), gen_kwargs=gen).path
    rules = tmp_path / "policy.yaml"
    rules.write_text("rules: [{tier: critical, tasks: '*', max_drop: 0}]\n", encoding="utf-8")
    for command in (
        ["compare", before, run],
        ["gate", "--baseline", before, "--current", run],
        ["gate", "--baseline", before, "--current", run, "--policy", rules],
    ):
        told = harness(*command).stderr
        assert f"the runs were not asked alike: gen_kwargs.max_gen_toks is unset in {before} and 3 in {run}" in told
        assert 'letters: is not asked and scored alike: metric_list is [{"metric": "exact_match"}]' in told


def test_a_manifest_that_is_of_another_run_is_one_line(make_run: Run, tmp_path: Path) -> None:
    run = make_run("before", 30)
    fields = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    fields["tasks"] = {"other": fields["tasks"]["letters"]}
    (run / "manifest.json").write_text(json.dumps(fields), encoding="utf-8")
    for command in (["compare", run, run], ["gain", run, run], ["gate", "--baseline", run, "--current", run]):
        result = harness(*command)
        assert result.exit_code == 4
        assert result.stderr.startswith(f"error: {run / 'manifest.json'}: damaged (it knows no task 'letters'")


def test_a_value_of_a_set_that_cannot_be_made_is_one_line(tmp_path: Path, make_run: Run) -> None:
    """A metric may be changed after its runs: what it then says is no number."""
    paths = [make_run(name, right) for name, right in (("before", 30), ("after", 40))]
    for path in paths:
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
        report["tasks"][0]["metrics"][0]["aggregation"] = "self"
        (path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("harness.metrics.Metric.from_means", lambda self, means: "much")
        result = harness("compare", *paths)

    assert result.exit_code == 4 and "Traceback" not in result.output
    assert "letters: exact_match cannot be compared: TypeError: what from_means gave is a number" in result.output


def test_a_comparison_is_said_in_chinese_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for mode in ("gold", "random"):
        harness("--tasks", "demo_choice_zh", "--model", "dummy", "--model_args", f"mode={mode}", "--limit", "2")
    told = harness("compare", *map(str, sorted(Path("runs").iterdir())), "--list", "--lang", "zh").stdout
    assert "第一次：" in told and "差值" in told and "95% 区间" in told
    assert not re.search(r"\b(first|second|won|lost|ties|would)\b", told)
