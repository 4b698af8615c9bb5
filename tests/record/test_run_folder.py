"""The run folder: what is on disk, what is found again, and what is refused."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from record_samples import IDENTITY, MANIFEST, REPORT, SHOTS, make_record, on_disk, open_run

from harness import Message, Prompt, Record, Response, UsageError
from harness.errors import SaveError
from harness.record import manifest
from harness.record.codec import without_seconds
from harness.record.run import OnDisk, RunFolder


def contents(folder: Path) -> dict[str, list[bytes]]:
    """Records and prompts on disk, `seconds` aside."""
    return {file.name: [*map(without_seconds, file.read_bytes().splitlines())] for file in folder.glob("*.jsonl")}


def keys(records: list[Record]) -> list[tuple[str, int]]:
    return [(record.subset, record.id) for record in records]


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    records = [make_record(n, subset) for subset in ("civil", "criminal") for n in range(3)]
    with open_run(tmp_path) as run:
        for record in records:
            run.write(record)
        run.finish("finished", REPORT)
    read = RunFolder.read(run.path)
    assert list(read.records("law")) == records
    assert list(read.records()) == records
    assert list(read.records("other")) == []
    assert len(read) == 6
    assert read.messages == []
    assert read.report == REPORT
    assert read.manifest["status"] == "finished"


def test_the_folder_is_named_by_date_model_and_configuration(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "/models/Qwen3 0.6B", IDENTITY, MANIFEST) as run:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d-Qwen3-0\.6B-[0-9a-f]{8}", run.path.name)


def test_a_record_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
        assert [record.id for record in RunFolder.read(run.path).records()] == [1]


def test_records_that_are_gathered_are_all_on_disk_afterwards_whatever_ends_the_work(tmp_path: Path) -> None:
    records = [make_record(n) for n in range(300)]
    with open_run(tmp_path) as run:
        with run.gathering():
            for record in records:
                run.write(record)
            assert len(RunFolder.read(run.path)) < 300
        assert list(RunFolder.read(run.path).records()) == records
        with pytest.raises(KeyboardInterrupt), run.gathering():
            run.write(make_record(300))
            raise KeyboardInterrupt
        assert len(RunFolder.read(run.path)) == 301


def test_nothing_is_gathered_behind_what_somebody_else_has_written(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(0))
        file = run.path / "law.jsonl"
        with pytest.raises(SaveError, match=r"was changed or deleted by somebody else"), run.gathering():
            run.write(make_record(1))
            run.write(make_record(2))
            with file.open("ab") as other:
                other.write(b"{}\n")
        assert file.read_bytes().endswith(b"{}\n")


def test_the_same_configuration_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
    with open_run(tmp_path) as again:
        assert again.path == run.path
        assert again.known == {"law-civil-1": make_record(1).responses[0]}
        assert on_disk(again, make_record(1), "law-civil-1") is OnDisk.DONE
        assert on_disk(again, make_record(2), "law-civil-2") is OnDisk.ABSENT
        assert on_disk(again, make_record(1), "another key") is OnDisk.ASKED_OTHERWISE
        assert on_disk(again, make_record(1, task="unknown"), "law-civil-1") is OnDisk.ABSENT


def test_another_configuration_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    with open_run(tmp_path) as run, RunFolder.open(tmp_path / "runs", "tiny", {**IDENTITY, "seed": 2}, {}) as other:
        assert other.path != run.path
        assert other.path.parent == run.path.parent


def test_an_answer_with_an_error_is_not_known_and_its_sample_not_done(tmp_path: Path) -> None:
    failed = make_record(1, responses=(Response(error="HTTP 500"),), error="HTTP 500")
    with open_run(tmp_path) as run:
        run.write(failed)
    with open_run(tmp_path) as again:
        assert dict(again.known) == {}
        assert on_disk(again, make_record(1), "law-civil-1") is OnDisk.ABSENT
        assert list(again.records()) == [failed]


def test_a_metric_that_raised_leaves_the_answer_known_and_the_sample_to_do(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1, error="metric acc: ValueError"))
    with open_run(tmp_path) as again:
        assert list(again.known) == ["law-civil-1"]
        assert on_disk(again, make_record(1), "law-civil-1") is OnDisk.ABSENT


def test_the_last_line_of_a_sample_wins(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1, error="HTTP 500"))
        run.write(make_record(2))
        run.write(make_record(1))
        assert [(record.id, record.error) for record in run.records()] == [(2, None), (1, None)]
    assert [record.id for record in RunFolder.read(run.path).records()] == [2, 1]


def test_writing_what_is_there_adds_no_line(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
    with open_run(tmp_path) as again:
        again.write(make_record(1, responses=(replace(make_record(1).responses[0], seconds=99.0),)))
    assert len((run.path / "law.jsonl").read_bytes().splitlines()) == 1


def test_a_resumed_run_leaves_the_files_of_an_undisturbed_one(tmp_path: Path) -> None:
    records = [
        make_record(n, subset, prompt=Prompt(prefix=f"{SHOTS}{subset}", suffix=f"{n}"))
        for subset in ("civil", "criminal")
        for n in range(4)
    ]
    with open_run(tmp_path / "a") as undisturbed:
        for record in records:
            undisturbed.write(record)
        undisturbed.finish("finished", REPORT)
    with open_run(tmp_path / "b") as first:
        for record in reversed(records[3:]):
            first.write(replace(record, error="lost connection"))
            first.write(record)
        first.finish("interrupted")
    with open_run(tmp_path / "b") as second:
        for record in records:
            slower = (replace(record.responses[0], seconds=7.0),)
            second.write(replace(record, responses=slower))
        second.finish("finished", REPORT)
        assert list(map(keys, [list(second.records())])) == [keys(records)]
    assert contents(second.path) == contents(undisturbed.path)


def test_a_file_in_order_is_not_written_again(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for number in range(3):
            run.write(make_record(number))
        run.finish("finished", REPORT)
    before = (run.path / "law.jsonl").stat().st_ino
    with open_run(tmp_path) as again:
        again.finish("finished", REPORT)
    assert (run.path / "law.jsonl").stat().st_ino == before


def test_samples_stand_in_the_order_of_subsets_and_ids(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for subset, number in (("criminal", 2), ("unlisted", 0), ("civil", 10), ("criminal", 1), ("civil", 9)):
            run.write(make_record(number, subset))
        run.finish("finished", REPORT)
        expected = [("civil", 9), ("civil", 10), ("criminal", 1), ("criminal", 2), ("unlisted", 0)]
        assert keys(list(run.records())) == expected
        run.write(make_record(11, "civil"))
        assert keys(list(run.records())) == [*expected, ("civil", 11)]


def test_a_shared_prompt_is_stored_once_and_read_as_one_object(tmp_path: Path) -> None:
    turns = (Message("system", "你好"), Message("user", "1+1="), Message("assistant", "2"))
    chats = [Prompt(messages=(*turns, Message("user", f"{n}")), shared_messages=3) for n in range(3)]
    with open_run(tmp_path) as run:
        for number, chat in enumerate(chats):
            run.write(make_record(number, prompt=chat))
            run.write(make_record(number, "criminal"))
    lines = (run.path / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert SHOTS not in (run.path / "law.jsonl").read_text(encoding="utf-8")
    read = {(record.subset, record.id): record.prompt for record in RunFolder.read(run.path).records()}
    assert [read["civil", number] for number in range(3)] == chats
    assert read["criminal", 0].prefix is read["criminal", 1].prefix
    assert read["criminal", 0].prefix == SHOTS


def test_a_prompt_that_no_record_uses_any_more_goes_when_the_run_ends(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1, prompt=Prompt(prefix="old", suffix="x")))
        run.write(make_record(1, prompt=Prompt(prefix="new", suffix="x")))
        run.finish("finished", REPORT)
        assert [record.prompt.prefix for record in run.records()] == ["new"]
        run.write(make_record(2, prompt=Prompt(prefix="old", suffix="x")))
        assert [record.prompt.prefix for record in run.records()] == ["new", "old"]
    assert [record.prompt.prefix for record in RunFolder.read(run.path).records()] == ["new", "old"]


def test_scoring_again_replaces_all_records_of_a_task(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for number in range(3):
            run.write(make_record(number))
            run.write(make_record(number, task="maths"))
        run.finish("finished", REPORT)
    with RunFolder.reopen(run.path) as again:
        again.rewrite("law", (replace(record, scores={"acc": 9.0}) for record in again.records("law")))
        again.finish("finished", {"tasks": []})
    read = RunFolder.read(run.path)
    assert [record.scores["acc"] for record in read.records("law")] == [9.0] * 3
    assert [record.scores["acc"] for record in read.records("maths")] == [0.0, 1.0, 0.0]
    assert read.report == {"kind": "run", "tasks": []}


def test_scoring_again_that_fails_changes_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
        run.write(make_record(2))

        def broken() -> list[Record]:
            raise ValueError("metric")

        with pytest.raises(ValueError, match="metric"):
            run.rewrite("law", (broken() if record.id == 2 else record for record in run.records("law")))
        assert [record.id for record in run.records()] == [1, 2]
    assert sorted(file.name for file in run.path.iterdir()) == [".lock", "law.jsonl", "manifest.json", "prompts.jsonl"]


def test_tasks_whose_names_are_no_file_names_stay_apart(tmp_path: Path) -> None:
    names = ["cmmlu:lm_eval", "cmmlu@lm_eval", "a/b", "a:b", "A:B", "con", "prompts", "法学", "x" * 300, "..", "tail."]
    with open_run(tmp_path) as run:
        for name in names:
            run.write(make_record(task=name))
        files = [manifest.record_file(name) for name in names]
        assert files[0] == "cmmlu@lm_eval.jsonl"
        for name in names:
            assert [record.task for record in run.records(name)] == [name]
    assert sorted(record.task for record in RunFolder.read(run.path).records()) == sorted(names)
    for file in files:
        assert not re.search(r'[<>:"/\\|?*]|[. ]$', file)
        assert len(file.encode()) < 140
        assert file.split(".")[0].lower() not in ("con", "prompts", "")


def test_scoring_again_keeps_a_task_that_shares_the_file(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for name in ("ARC", "arc"):
            for number in range(2):
                run.write(make_record(number, task=name))
        run.rewrite("ARC", [make_record(0, task="ARC", scores={"acc": 5.0})])
        run.finish("finished", REPORT)
        found = [(record.task, record.id, record.scores["acc"]) for record in run.records()]
    assert sorted(found) == [("ARC", 0, 5.0), ("arc", 0, 0.0), ("arc", 1, 1.0)]


def test_the_manifest_tells_every_session(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.note(model={"device": "cpu"}, versions={"torch": "2"})
        run.note(model={"dtype": "float32"})
    with RunFolder.open(run.path, "tiny", IDENTITY, {**MANIFEST, "command": "harness again"}) as again:
        again.finish("finished", REPORT)
    found = RunFolder.read(run.path).manifest
    assert [(s["command"], s.get("status")) for s in found["sessions"]] == [
        ("harness --tasks law", None),
        ("harness again", "finished"),
    ]
    assert found["identity"] == IDENTITY
    assert found["started"] == found["sessions"][0]["started"]
    with open_run(tmp_path) as noted:
        noted.note(model={"device": "cpu"})
        noted.note(model={"dtype": "float32"})
        assert noted.manifest["model"] == {"device": "cpu", "dtype": "float32"}


@pytest.mark.parametrize("jump", [-400, 3000])
def test_a_clock_that_is_set_during_a_run_changes_no_time_that_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    moments = iter([100.0, 107.5, 108.0])
    clock = SimpleNamespace(monotonic=lambda: next(moments))
    monkeypatch.setattr("harness.record.manifest_file.time", clock)
    with open_run(tmp_path) as run:
        run.write(make_record(1))
        later = (datetime.datetime.now().astimezone() + datetime.timedelta(days=jump)).isoformat()
        monkeypatch.setattr("harness.record.manifest.now", lambda: later)
        run.finish("finished", REPORT)
    found = RunFolder.read(run.path).manifest
    assert found["sessions"][0]["finished"] == later
    assert manifest.seconds_of(found) == 7.5


def test_a_run_that_was_renamed_is_named_before_another_one_begins(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
    renamed = run.path.rename(run.path.parent / "baseline")
    other = renamed / "manifest.json"
    (renamed.parent / "notes").mkdir()
    (renamed.parent / "odd").mkdir()
    (renamed.parent / "odd" / "manifest.json").write_text("[]")
    with open_run(tmp_path) as again:
        assert again.take_messages() == [
            f"{renamed}: is a run of this configuration, too; --output {renamed} goes on with it"
        ]
        again.write(make_record(1))
    with open_run(tmp_path) as third:  # it is told once
        assert third.take_messages() == []
    assert other.is_file()


def test_of_a_session_that_ended_before_it_began_no_time_is_known() -> None:
    session = {"started": "2026-08-02T10:00:00+00:00", "finished": "2026-08-01T10:00:00+00:00"}
    assert manifest.seconds_of({"sessions": [session]}) is None


def test_the_manifest_says_where_the_run_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with open_run(tmp_path) as run:
        found = run.manifest
    assert {"harness-eval", "torch", "transformers", "rich"} <= set(found["versions"])
    assert found["environment"]["settings"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert found["environment"]["python"].startswith("3.")


def test_scoring_again_keeps_the_times_of_the_run(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.finish("finished", REPORT)
        sessions = run.manifest["sessions"]
    with RunFolder.reopen(run.path) as again:
        again.finish("finished", REPORT)
        assert again.manifest["sessions"] == sessions
        assert again.manifest["rescored"] >= sessions[-1]["finished"]


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_run_that_did_not_end_well_says_so_and_leaves_its_files(tmp_path: Path, status: str) -> None:
    with open_run(tmp_path) as run:
        for number in (2, 1):
            run.write(make_record(number))
        run.finish(status)
        assert run.manifest["status"] == status
        assert [record.id for record in run.records()] == [2, 1]
    assert not (run.path / "report.json").exists()


def test_a_run_folder_named_as_output_is_used_itself(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
    with RunFolder.open(run.path, "tiny", IDENTITY, MANIFEST) as again:
        assert again.path == run.path
        assert len(again) == 1


def test_a_run_folder_of_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        pass
    other = {"model": {"name": "tiny", "revision": "b2"}, "tasks": {"law": "d1", "maths": "d2"}, "seed": 1234}
    with pytest.raises(UsageError) as refused:
        RunFolder.open(run.path, "tiny", other, MANIFEST)
    assert 'model.revision is "a1" there and "b2" here' in str(refused.value)
    assert 'tasks.maths is unset there and "d2" here' in str(refused.value)
    assert "seed" not in str(refused.value)
    assert "--output" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_many_differences_are_counted_not_listed(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        pass
    with pytest.raises(UsageError, match="; and 7 more; choose another --output"):
        RunFolder.open(run.path, "tiny", {f"key{n}": "x" * 500 for n in range(8)}, MANIFEST)


@pytest.mark.parametrize(("below", "cause"), [("file", "a file, not a folder"), ("file/deep/er", "Not a directory")])
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, below: str, cause: str) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UsageError, match=cause) as refused:
        RunFolder.open(tmp_path / below, "tiny", IDENTITY, MANIFEST)
    assert "--output" in str(refused.value)


def test_a_folder_that_is_no_run_names_runs_near_it(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        pass
    assert RunFolder.read(run.path.parent).path == run.path  # the only one there
    other = {**IDENTITY, "seed": 1}
    with RunFolder.open(tmp_path / "runs", "tiny", other, MANIFEST) as newer:
        pass
    with pytest.raises(UsageError, match=f"it holds 2 of them, the newest is .*{newer.path.name}"):
        RunFolder.read(run.path.parent)
    shutil.rmtree(newer.path)
    with pytest.raises(UsageError, match=f"did you mean '{run.path.name}'"):
        RunFolder.read(run.path.with_name(run.path.name[:-1] + "x"))
    with pytest.raises(UsageError, match=f"holds {run.path.name}"):
        RunFolder.read(run.path.with_name("baseline"))
    with pytest.raises(UsageError, match="no run folder"):
        RunFolder.read(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no run folder"):
        RunFolder.reopen(run.path / "law.jsonl")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "not JSON .*take it out of the folder, and the command of the run goes on"),
        ("[]", "not the manifest of a run"),
        ('{"identity": {}, "format": 99}', "a later version"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path: Path, text: str, cause: str) -> None:
    with open_run(tmp_path) as run:
        pass
    (run.path / "manifest.json").write_text(text, encoding="utf-8")
    for attempt in (lambda: RunFolder.read(run.path), lambda: open_run(tmp_path), lambda: RunFolder.reopen(run.path)):
        with pytest.raises(UsageError, match=cause):
            attempt()


def test_a_folder_without_its_manifest_is_taken_up_again(tmp_path: Path) -> None:
    """What a kill between making the folder and writing the manifest leaves."""
    with open_run(tmp_path) as run:
        (run.path / "manifest.json").unlink()
    with RunFolder.open(run.path, "tiny", IDENTITY, MANIFEST) as again:
        assert again.path == run.path
        (run.path / "manifest.json").unlink()
    with open_run(tmp_path) as again:
        assert again.path == run.path
    assert json.loads((run.path / "manifest.json").read_text(encoding="utf-8"))["identity"] == IDENTITY


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        assert run.report is None
        run.finish("finished", REPORT)
    (run.path / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"report\.json: cannot be read .*harness score"):
        _ = RunFolder.read(run.path).report


def test_a_report_with_infinite_values_stays_json(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.finish("finished", {**REPORT, "loss": float("inf")})
        assert run.report == {**REPORT, "loss": "Infinity"}
