"""What survives: kill -9, a torn line, garbage, a full disk, a second process."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_samples import IDENTITY, MANIFEST, REPORT, make_record, on_disk, open_run

from harness import Prompt, SaveError, UsageError, files
from harness.record.run import OnDisk, RunFolder
from harness.record.usage import watch

HERE = str(Path(__file__).parent)
WRITER = """\
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from harness import Prompt
from record_samples import make_record, on_disk, open_run
run = open_run(Path({folder!r}))
for number in range({start}, 100000):
    prompt = Prompt(prefix=f"shots {{number // 3}} " * 50, suffix="问" * (number % 700))
    run.write(make_record(number, prompt=prompt))
    if number == {start} + 3:
        print("writing", flush=True)
"""


def spawn(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()


def test_after_kill_9_at_any_moment_every_written_sample_is_whole(tmp_path: Path) -> None:
    done = 0
    for delay in (0.0, 0.003, 0.02, 0.05):
        process = spawn(WRITER.format(here=HERE, folder=str(tmp_path), start=done))
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        time.sleep(delay)
        end(process)
        with open_run(tmp_path) as run:
            records = list(run.records())
            assert [record.id for record in records] == list(range(len(records)))
            assert len(records) >= done + 4
            assert all(record.prompt.prefix == f"shots {record.id // 3} " * 50 for record in records)
            assert len(run.known) == len(records)
            done = len(records)


def test_a_torn_last_line_costs_that_sample_alone_wherever_it_was_cut(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for number in range(3):
            run.write(make_record(number))
    log = run.path / "law.jsonl"
    whole = log.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for cut in range(last, len(whole) + 1):
        log.write_bytes(whole[:cut])
        complete = cut >= len(whole) - 1
        with RunFolder.reopen(run.path) as again:
            assert [record.id for record in again.records()] == [0, 1, *([2] if complete else [])]
            said = [message for message in again.messages if "half written" in message]
            assert len(said) == (0 if complete or cut == last else 1)
        assert log.read_bytes() == (whole if complete else whole[:last])


def test_a_reader_leaves_a_torn_line_alone_and_sees_the_line_before(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1, scores={"acc": 1.0}))
        first = (run.path / "law.jsonl").stat().st_size
        run.write(make_record(1, scores={"acc": 2.0}))
    log = run.path / "law.jsonl"
    whole = log.read_bytes()
    for cut in range(first + 1, len(whole) - 1):
        log.write_bytes(whole[:cut])
        read = RunFolder.read(run.path)
        assert [record.scores["acc"] for record in read.records()] == [1.0], whole[first:cut]
        assert len(read.messages) == 1
        assert log.read_bytes() == whole[:cut]


def test_a_torn_prompt_is_repaired_too(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
    prompts = run.path / "prompts.jsonl"
    with prompts.open("ab") as handle:
        handle.write(b'{"hash": "0123456789abcdef", "te')
    with open_run(tmp_path) as again:
        again.write(make_record(2, prompt=Prompt(prefix="other", suffix="x")))
        assert [record.prompt.prefix[:5] for record in again.records()] == ["以下是中国", "other"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"not json at all",
        b"\x00" * 4096,
        b"\xff\xfe\xfa",
        b"[]",
        b"{}",
        b'{"task": "law", "subset": "civil", "id": 9, "responses": 3}',
        b'{"task": "law", "subset": "", "id": 9, "responses": [], "request_keys": [1], "prompt": {}, "error": null}',
        b"[" * 100_000,
    ],
)
def test_garbage_in_the_middle_is_named_and_costs_nothing_else(tmp_path: Path, garbage: bytes) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
        run.write(make_record(2))
    log = run.path / "law.jsonl"
    first, second = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + garbage + b"\n" + second)
    read = RunFolder.read(run.path)
    assert [record.id for record in read.records()] == [1, 2]
    with open_run(tmp_path) as again:
        assert [record.id for record in again.records()] == [1, 2]
        for messages in (read.messages, again.messages):
            assert len(messages) == 1
            assert messages[0].startswith(f"{log}:2: not a readable record (")
            assert "\n" not in messages[0]
        again.finish("finished")
    assert log.read_bytes() == first + second


def test_a_damaged_line_inside_gives_way_to_a_new_answer(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
    log = run.path / "law.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"responses"', b'"rexponses"'))
    read = RunFolder.read(run.path)
    assert list(read.records()) == []
    assert len(read.messages) == 1
    with open_run(tmp_path) as again:
        assert on_disk(again, make_record(1), "law-civil-1") is OnDisk.ABSENT
        again.write(make_record(1))
        assert list(again.records()) == [make_record(1)]


def test_a_record_whose_prompt_is_lost_is_named_and_runs_again(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
    (run.path / "prompts.jsonl").unlink()
    read = RunFolder.read(run.path)
    assert list(read.records()) == []
    assert "is not in prompts.jsonl" in read.messages[0]
    with open_run(tmp_path) as again:
        assert dict(again.known) == {}
        again.write(make_record(1))
        assert list(again.records()) == [make_record(1)]


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**20),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=2), st.dictionaries(st.text(max_size=1), st.none()))),
    st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.none()))),
)
FIELDS = ["target", "choices", "prompt", "contexts", "responses", "scores", "answers", "cluster", "unparsed", "error"]
FIELDS += ["request_keys", "rules", "scored_by", "judge", "doc", "seconds"]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(field=st.sampled_from(FIELDS), value=VALUES)
def test_any_value_in_any_field_of_a_record_costs_that_sample_at_most(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    """Its line is read, or named and kept; nothing else changes, and nothing ends in an exception."""
    folder = tmp_path_factory.mktemp("damaged")
    with open_run(folder) as run:
        for number in (1, 2, 3):
            run.write(make_record(number))
    log = run.path / "law.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[1] = json.dumps({**json.loads(lines[1]), field: value}).encode() + b"\n"
    log.write_bytes(b"".join(lines))
    with open_run(folder) as again:
        read = [record.id for record in again.records()]
        named = [message for message in again.messages if "law.jsonl:2: not a readable record (" in message]
        assert read == ([1, 3] if named else [1, 2, 3])
        list(watch(again.records(), {}))
        again.finish("finished", REPORT)
        assert [record for record in again.records() if record.id != 2] == [make_record(1), make_record(3)]
    assert not named or (run.path / "unreadable" / "law.jsonl").read_bytes() == lines[1]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    """An editor or a copy between systems may have changed the line ends of the file, never those of the texts."""
    with open_run(tmp_path) as run:
        run.write(make_record(1))
        run.write(make_record(2))
    for file in run.path.glob("*.jsonl"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    (run.path / "manifest.json").write_bytes(b"\xef\xbb\xbf" + (run.path / "manifest.json").read_bytes())
    assert list(RunFolder.read(run.path).records()) == [make_record(1), make_record(2)]
    with open_run(tmp_path) as again:
        assert list(again.records()) == [make_record(1), make_record(2)]


def test_empty_lines_between_records_are_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
        run.write(make_record(2))
    whole = {file: file.read_bytes() for file in run.path.glob("*.jsonl")}
    for file, data in whole.items():
        file.write_bytes(b"\n" + data.replace(b"\n", b"\n \r\n\n"))
    read = RunFolder.read(run.path)
    assert list(read.records()) == [make_record(1), make_record(2)]
    with open_run(tmp_path) as again:
        assert list(again.records()) == [make_record(1), make_record(2)]
        again.finish("finished")
    assert read.take_messages() == again.take_messages() == []
    assert (run.path / "law.jsonl").read_bytes() == whole[run.path / "law.jsonl"]


def test_of_many_lines_that_cannot_be_read_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for number in range(100):
            run.write(make_record(number))
    (run.path / "prompts.jsonl").unlink()
    read = RunFolder.read(run.path)
    assert [*read.records(), *read.records()] == []
    *named, counted = read.take_messages()
    assert len(named) == 5 and all("its shared prompt" in message for message in named)
    assert counted == f"{run.path / 'law.jsonl'}: 95 more lines are no readable records and are left out"
    assert read.take_messages() == []


class FullDisk:
    """Stands for `os.write` on a disk with `room` bytes left."""

    def __init__(self, room: int, number: int = errno.ENOSPC) -> None:
        self.room, self.number, self.write = room, number, os.write

    def __call__(self, handle: int, data: memoryview) -> int:
        if self.room <= 0:
            raise OSError(self.number, os.strerror(self.number))
        written = self.write(handle, data[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 300])
def test_a_full_disk_is_one_line_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "write", FullDisk(room))
            with pytest.raises(SaveError) as failed:
                run.write(make_record(2))
        assert "law.jsonl: cannot be written: No space left on device; free some space" in str(failed.value)
        assert failed.value.exit_code == 2
        assert list(run.records()) == [make_record(1)]
        run.write(make_record(2))
        assert list(run.records()) == [make_record(1), make_record(2)]
    with open_run(tmp_path) as again:
        assert again.messages == []
        assert len(again.known) == 2


def test_a_disk_without_room_for_another_file_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "write", FullDisk(0))
    monkeypatch.setattr(files.os, "statvfs", lambda _: SimpleNamespace(f_files=100, f_favail=0, f_bavail=1 << 20))
    with open_run(tmp_path) as run, pytest.raises(SaveError, match=r"delete files that nobody needs.*`df -i`"):
        run.write(make_record(1))


def test_a_disk_that_is_full_at_the_prompt_leaves_no_record_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_run(tmp_path) as run:
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "write", FullDisk(5, errno.EIO))
            with pytest.raises(
                SaveError, match=r"prompts\.jsonl: cannot be written: Input/output error; check the disk"
            ):
                run.write(make_record(1))
        assert list(run.records()) == []
        run.write(make_record(1))
    assert list(RunFolder.read(run.path).records()) == [make_record(1)]


def test_a_disk_that_is_full_at_the_end_leaves_the_run_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_run(tmp_path) as run:
        for number in (2, 1):
            run.write(make_record(number))
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", no_space)
            with pytest.raises(SaveError, match="No space left on device"):
                run.finish("finished", {"tasks": []})
    assert not list(run.path.glob(".*.tmp"))
    with open_run(tmp_path) as again:
        assert len(again.known) == 2
        assert again.manifest["status"] == "running"
        again.finish("finished", {"tasks": []})
        assert [record.id for record in again.records()] == [1, 2]


def test_an_end_for_another_reason_is_not_hidden_by_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_run(tmp_path) as run:
        run.write(make_record(1))
        monkeypatch.setattr(files.os, "fsync", no_space)
        run.finish("failed")
    monkeypatch.undo()
    assert RunFolder.read(run.path).manifest["status"] == "running"


def test_a_file_size_limit_of_the_system_loses_nothing(tmp_path: Path) -> None:
    code = f"""\
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from harness import SaveError
try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {resource.RLIM_INFINITY}))
    exec({WRITER.format(here=HERE, folder=str(tmp_path), start=0)!r})
except SaveError as error:
    print(error)
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "jsonl: cannot be written: File too large; raise the file size limit" in finished.stdout
    with open_run(tmp_path) as run:
        assert run.messages == []
        records = list(run.records())
        assert [record.id for record in records] == list(range(len(records)))
        assert len(records) > 4


def test_what_a_kill_left_half_replaced_is_cleared(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.write(make_record(1))
    (run.path / ".law.jsonl.tmp").write_bytes(b"half of a copy")
    with open_run(tmp_path) as again:
        assert list(again.records()) == [make_record(1)]
    assert not list(run.path.glob("*.tmp"))


HOLDER = """\
import sys, time
sys.path.insert(0, {here!r})
from pathlib import Path
from record_samples import open_run
run = open_run(Path({folder!r}))
print("open", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    process = spawn(HOLDER.format(here=HERE, folder=str(tmp_path)))
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(UsageError, match=f"is in use by process {process.pid} on ") as refused:
            open_run(tmp_path)
        assert "\n" not in str(refused.value)
        (folder,) = (tmp_path / "runs").iterdir()
        with pytest.raises(UsageError, match="is in use"):
            RunFolder.reopen(folder)
        assert list(RunFolder.read(folder).records()) == []
    finally:
        end(process)
    with open_run(tmp_path) as run:
        assert run.path == folder


NO_LOCKS = """\
import errno, fcntl
def refuse(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = fcntl.lockf = refuse
"""


def test_where_there_are_no_locks_a_second_process_is_kept_out_too(tmp_path: Path) -> None:
    holder = NO_LOCKS + HOLDER.format(here=HERE, folder=str(tmp_path))
    first = spawn(holder)
    assert first.stdout is not None
    assert first.stdout.readline() == "open\n"
    second = spawn(holder)
    _, said = second.communicate(timeout=60)
    assert f"is in use by process {first.pid} on " in said.splitlines()[-1]
    end(first)  # by SIGKILL, which takes nothing away
    third = spawn(holder.replace("time.sleep(60)", 'print(*run.messages, "lost" * run._lock.is_lost)'))
    assert "knows no locks; the file .lease stands for one" in third.communicate(timeout=60)[0]


def test_one_process_cannot_open_a_run_twice(tmp_path: Path) -> None:
    with open_run(tmp_path), pytest.raises(UsageError, match=f"process {os.getpid()}"):
        open_run(tmp_path)
    open_run(tmp_path).close()


def test_a_refused_configuration_leaves_no_lock(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        pass
    with pytest.raises(UsageError, match="another configuration"):
        RunFolder.open(run.path, "tiny", {"seed": 2}, MANIFEST)
    with RunFolder.open(run.path, "tiny", IDENTITY, MANIFEST) as again:
        assert again.path == run.path


def test_two_processes_that_start_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    code = HOLDER.format(here=HERE, folder=str(tmp_path)).replace("time.sleep(60)", "time.sleep(0.5)")
    processes = [spawn(code) for _ in range(2)]
    outcomes = sorted(process.communicate(timeout=60)[0] for process in processes)
    assert outcomes == ["", "open\n"]
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.slow
def test_reading_holds_one_record_at_a_time(tmp_path: Path) -> None:
    """20,000 samples of 2 kB: an index may grow with their number, their texts may not."""
    with open_run(tmp_path) as run:
        run.write(make_record(0, doc={"text": "x" * 2000}))
    log = run.path / "law.jsonl"
    fields = json.loads(log.read_bytes())
    with log.open("w", encoding="utf-8") as handle:
        for number in range(20_000):
            handle.write(json.dumps({**fields, "id": number}, ensure_ascii=False) + "\n")
    tracemalloc.start()
    try:
        count = sum(1 for record in RunFolder.read(run.path).records() if record.doc)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 16e6
