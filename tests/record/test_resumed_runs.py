"""What a run makes of what it finds on disk: changed rows, damaged records, and a model that has spoken before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import Record, SaveError, evaluate
from harness.cli.main import main
from harness.record.run import RunFolder
from harness.run.rescore import score_run
from harness.run.result import RunResult
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec

TASK = """\
task: sums
dataset_path: sums.jsonl
test_split: test
doc_to_text: "{{ q }} ="
doc_to_target: "{{ a }}"
filter_list:
  - name: number
    filter: [{function: regex, regex_pattern: "(\\\\d+)"}, {function: take_first}]
metric_list: [{metric: exact_match}]
"""
ROWS = [{"q": f"{n} + {n}", "a": str(2 * n)} for n in range(4)]


class Heard(Progress):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sums.yaml").write_text(TASK, encoding="utf-8")
    write_rows(tmp_path, ROWS)
    return tmp_path


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def ask(folder: Path, **fields: Any) -> tuple[RunResult, list[str]]:
    """The same command each time."""
    heard = Heard()
    args = fields.pop("model_args", {"mode": "fixed", "text": "It is 2."})
    spec = RunSpec(
        (str(folder / "sums.yaml"),), "dummy", args, output=str(folder / "runs"), command="harness", **fields
    )
    return run(spec, progress=heard), heard.lines


def scores(result: RunResult) -> dict[int, Any]:
    return {record.id: record.scores["exact_match"] for record in result.samples()}


def record_file(result: RunResult) -> Path:
    return result.path / "sums.jsonl"


def test_a_corrected_gold_gives_another_score_to_the_answer_that_is_there(folder: Path) -> None:
    first, _ = ask(folder)
    assert scores(first) == {0: 0.0, 1: 1.0, 2: 0.0, 3: 0.0}
    write_rows(folder, [*ROWS[:3], {"q": "3 + 3", "a": "2"}])
    before = RunFolder.read(first.path).manifest["data"]
    again, said = ask(folder)
    assert scores(again) == {0: 0.0, 1: 1.0, 2: 0.0, 3: 1.0}
    assert again.report["tasks"][0]["metrics"][0]["value"] == 0.5
    assert said == [
        "sums: of 1 sample the row or the scoring has changed since, and not the question; scored again from the "
        "answers on disk"
    ]
    assert RunFolder.read(again.path).manifest["data"] != before
    assert ask(folder)[1] == []


def test_a_corrected_question_is_asked_again(folder: Path) -> None:
    ask(folder)
    write_rows(folder, [{"q": "1 + 1", "a": "2"}, *ROWS[1:]])
    again, said = ask(folder)
    assert scores(again)[0] == 1.0
    assert said == ["sums: of 1 sample the question has changed since it was asked; asked again"]


def test_a_row_whose_columns_stand_in_another_order_has_not_changed(folder: Path) -> None:
    first, _ = ask(folder)
    was = record_file(first).read_bytes()
    write_rows(folder, [dict(reversed(row.items())) for row in ROWS])
    again, said = ask(folder)
    assert said == []
    assert record_file(again).read_bytes() == was


def test_scores_by_other_rules_do_not_stay_when_the_task_file_is_put_back(folder: Path) -> None:
    first, _ = ask(folder)
    file = folder / "sums.yaml"
    file.write_text(TASK.replace("(\\\\d+)", "(\\\\w+)"), encoding="utf-8")
    assert set(scores(score_run(first.path)).values()) == {0.0}
    file.write_text(TASK, encoding="utf-8")
    again, said = ask(folder)
    assert again.path == first.path
    assert scores(again)[1] == 1.0
    assert "of 4 samples the row or the scoring has changed" in said[0]


DAMAGE = {
    "choices": 5,
    "scores": {"exact_match": "wrong"},
    "contexts": 3,
    "responses": [{"text": 7}],
    "request_keys": [None],
    "answers": {"number": 1},
    "unparsed": "no",
    "doc": [],
    "prompt": {"suffix": 1},
    "target": {"a": 1},
    "seconds": ["fast"],
    "error": 1,
}


def damage(result: RunResult, number: int, **fields: Any) -> bytes:
    """Put another value in the place of a field of one record. Returns its line."""
    lines = record_file(result).read_bytes().splitlines(keepends=True)
    lines[number] = json.dumps({**json.loads(lines[number]), **fields}).encode() + b"\n"
    record_file(result).write_bytes(b"".join(lines))
    return lines[number]


@pytest.mark.parametrize("field", DAMAGE)
def test_a_damaged_record_is_named_asked_again_and_kept(folder: Path, field: str) -> None:
    first, _ = ask(folder)
    whole, report = record_file(first).read_bytes(), first.report["tasks"]
    line = damage(first, 1, **{field: DAMAGE[field]})
    again, said = ask(folder)
    assert again.exit_code == 0
    assert f"sums.jsonl:2: not a readable record ({field}" in said[0]
    assert [{**task, "usage": None} for task in again.report["tasks"]] == [{**task, "usage": None} for task in report]
    assert without_times(record_file(again).read_bytes()) == without_times(whole)
    assert (again.path / "unreadable" / "sums.jsonl").read_bytes() == line


def without_times(lines: bytes) -> list[dict[str, Any]]:
    return [{**json.loads(line), "seconds": None} for line in lines.splitlines()]


@pytest.mark.parametrize("field", ["choices", "scores", "responses"])
def test_scoring_again_names_what_it_cannot_read_and_keeps_it(folder: Path, field: str) -> None:
    first, _ = ask(folder)
    line = damage(first, 1, **{field: DAMAGE[field]})
    for _ in range(2):  # the second time nothing of it is in the file any more
        again = score_run(first.path)
        assert again.exit_code == 1
        assert again.report["tasks"][0]["missing"] == {"n": 1, "first": ["1"]}
        assert "sums: 1 of 4 samples cannot be read back (1) and are in no number" in " ".join(again.summary().split())
        assert (again.path / "unreadable" / "sums.jsonl").read_bytes() == line
    healed, _ = ask(folder)
    assert healed.exit_code == 0
    assert len(list(healed.samples())) == 4


def test_what_a_server_said_of_its_tokens_spoils_no_report(folder: Path) -> None:
    first, _ = ask(folder)
    odd = ["12", float("nan"), {}, [1], True, -5, 10**400]
    for number, value in enumerate(odd[:4]):
        fields = json.loads(record_file(first).read_bytes().splitlines()[number])
        damage(
            first, number, responses=[{**fields["responses"][0], "prompt_tokens": value, "truncated": odd[-1 - number]}]
        )
    again, said = ask(folder)
    assert said == []
    assert again.exit_code == 0
    assert again.report["tasks"][0]["usage"]["prompt_tokens"] == 0
    assert scores(again) == scores(first)


def test_a_row_with_keys_like_those_of_the_record_is_a_row_like_any_other(folder: Path) -> None:
    write_rows(folder, [{**row, "more": {"$float": "abc"}, "own": {"$escaped": 1}} for row in ROWS])
    first, _ = ask(folder)
    assert len(scores(first)) == 4
    again, said = ask(folder)
    assert said == []
    records: list[Record] = list(again.samples())
    assert [record.doc["more"] for record in records] == [{"$float": "abc"}] * 4
    assert score_run(first.path).exit_code == 0


def test_a_finished_run_that_is_asked_again_keeps_what_its_model_said(folder: Path, monkeypatch: Any) -> None:
    from harness_plugins.models.dummy import DummyModel

    monkeypatch.setattr(DummyModel, "describe", lambda self: {"dtype": "float9"})
    first, _ = ask(folder)
    before = RunFolder.read(first.path).manifest
    files = {file.name: file.read_bytes() for file in first.path.iterdir() if file.name != "manifest.json"}
    again, _ = ask(folder, batch_size=3)
    after = RunFolder.read(again.path).manifest
    assert after["model"]["dtype"] == "float9"
    assert {**after, "sessions": None} == {**before, "sessions": None}
    assert [session["samples"] for session in after["sessions"]] == [4, 0]
    assert {file.name: file.read_bytes() for file in again.path.iterdir() if file.name != "manifest.json"} == files


def test_a_session_that_asks_more_says_where_the_earlier_answers_came_from(folder: Path, monkeypatch: Any) -> None:
    from harness.record import environment

    first, _ = ask(folder, limit=2)
    real = environment.versions()
    monkeypatch.setattr(environment, "versions", lambda: {**real, "torch": "99"})
    again, _ = ask(folder, limit=4)
    manifest = RunFolder.read(again.path).manifest
    assert again.path == first.path
    assert manifest["versions"]["torch"] == "99"
    assert manifest["sessions"][0]["versions"] == real
    assert "versions" not in manifest["sessions"][1]


def test_records_that_go_while_a_run_is_at_work_are_missed(folder: Path) -> None:
    class Thief(Heard):
        def sample_done(self, record: Record, headline: str) -> None:
            if record.id == 2:
                (path,) = (folder / "runs").iterdir()
                (path / "sums.jsonl").unlink()

    spec = RunSpec((str(folder / "sums.yaml"),), "dummy", {"mode": "gold"}, output=str(folder / "runs"))
    with pytest.raises(SaveError, match=r"sums\.jsonl: was changed or deleted by somebody else") as caught:
        run(spec, progress=Thief())
    assert caught.value.exit_code == 2
    assert run(spec).exit_code == 0


def test_a_call_from_python_resumes_like_a_command(folder: Path) -> None:
    options: dict[str, Any] = {"tasks": [str(folder / "sums.yaml")], "output": str(folder / "runs")}
    first = evaluate("dummy", {"mode": "gold"}, **options)
    assert evaluate("dummy", {"mode": "gold"}, **options).path == first.path


def test_a_run_that_goes_on_is_called_by_the_name_that_it_was_given_last(folder: Path) -> None:
    first, said = ask(folder, limit=2, name="甲")
    assert not said
    again, said = ask(folder, limit=2, name="乙")
    assert again.path == first.path and "甲" in again.path.name
    (line,) = said
    assert "called '甲'" in line and "'乙' from now on" in line and str(first.path) in line
    for limit in (2, 4):  # nothing is left to ask; something is
        silent, said = ask(folder, limit=limit)
        assert not said
        report = RunFolder.read(silent.path).report
        assert report is not None and report["spec"]["name"] == "乙"
        assert RunFolder.read(silent.path).manifest["spec"]["name"] == "乙"


def test_half_a_character_fails_its_row_alone(folder: Path) -> None:
    write_rows(folder, [*ROWS[:2], {"q": "2 \ud83d + 2", "a": "4"}, ROWS[3]])
    spec = RunSpec((str(folder / "sums.yaml"),), "demo", output=str(folder / "runs"))
    result = run(spec)
    errors = {record.id: record.error for record in result.samples()}
    assert errors[2] == "its text holds half of a character (U+D83D), which no model can read: mend the row"
    assert {number for number, error in errors.items() if error is None} == {0, 1, 3}
    assert result.exit_code == 1


@pytest.mark.parametrize("command", [["--dry_run"], ["show"]])
def test_half_a_character_gives_no_traceback_where_nothing_is_asked(folder: Path, command: list[str]) -> None:
    write_rows(folder, [{"q": "2 \ud83d + 2", "a": "4"}, ROWS[3]])
    task = str(folder / "sums.yaml")
    argv = ["show", task, "--model", "demo"] if command == ["show"] else ["--tasks", task, "--model", "demo", *command]
    done = CliRunner().invoke(main, argv)
    assert isinstance(done.exception, SystemExit | None)
    assert done.exit_code == (4 if command == ["show"] else 0)


DEEP: Any = 1
for _ in range(330):
    DEEP = {"in": DEEP}


def test_a_row_that_is_nested_deeply_is_a_row_like_any_other(folder: Path) -> None:
    write_rows(folder, [{**ROWS[0], "deep": DEEP, "own": {"$float": "abc"}}, *ROWS[1:]])
    result, _ = ask(folder)
    assert len(list(result.samples())) == 4
    assert ask(folder)[1] == []
    assert score_run(result.path).exit_code == 0


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=2), st.dictionaries(st.text(max_size=1), st.none()))),
    st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.none()))),
)
FIELDS = ("choices", "scores", "responses", "request_keys", "answers", "unparsed", "doc", "prompt", "target", "seconds")


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from([*FIELDS, "cluster", "error", "rules", "judge", "scored_by"]), value=VALUES)
def test_any_value_in_any_field_of_a_record_costs_that_sample_at_most(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    """It is asked or scored again, or it is what it was; nothing else changes, and nothing ends in an exception."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "sums.yaml").write_text(TASK, encoding="utf-8")
    write_rows(folder, ROWS)
    first, _ = ask(folder)
    whole = without_times(record_file(first).read_bytes())
    damage(first, 1, **{field: value})
    ask(folder)  # a value that is possible there may be taken for the sample's own
    again, _ = ask(folder)
    left = without_times(record_file(again).read_bytes())
    assert [line for line in left if line["id"] != 1] == [line for line in whole if line["id"] != 1]
    assert {0, 1, 2, 3} <= {line["id"] for line in left}
    assert again.report["tasks"][0]["counts"]["n"] == 4
    assert "missing" not in again.report["tasks"][0]
