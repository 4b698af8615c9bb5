"""`harness compare` and `harness gate`, on runs of a task whose answers the test chooses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import main
from harness.runner import evaluate

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
    assert f"RUN is missing; the newest here is runs/{run.name}" in harness("report").output
