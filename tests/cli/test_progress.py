"""Progress: bounded plain lines in a pipe, live lines on a terminal of any width."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.cells import cell_len

from harness.cli.progress import Board, LiveBoard, PlainBoard, clock_text, pace_text, watch
from harness.types import Prompt, Record
from harness.words import phrase, translator


def record(task: str, score: float | tuple[float, ...] | None = 1.0) -> Record:
    return Record(task, "", 0, {}, Prompt(), None, (), (), (), {"acc": score})


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(total: int, seconds: float, known: int = 0) -> list[str]:
    """The lines of a run of `total` samples that takes `seconds`."""
    clock, stream = Clock(), io.StringIO()
    board = PlainBoard(stream, clock)
    board.started([("ceval", total, known)], "hf")
    for index in range(total - known):
        clock.now += seconds / (total - known)
        board.sample_done(record("ceval", float(index % 2 == 0)), "acc")
    board.finished()
    return stream.getvalue().splitlines()


def test_a_quick_task_has_one_line() -> None:
    assert plain(1000, 2.0) == ["hf: 1 task, 1000 samples", "ceval  1000/1000  acc 0.500  500/s"]


def test_a_slow_task_has_a_line_each_tenth() -> None:
    lines = plain(200, 100.0)
    assert len(lines) == 11
    assert lines[5] == "ceval  100/200  acc 0.500  2.0/s  0:50 left"


def test_a_very_slow_task_breaks_its_silence() -> None:
    lines = plain(20, 1200.0)
    assert len(lines) == 21
    assert lines[-1] == "ceval  20/20  acc 0.500  1.0/min"


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (0.0, ""),
        (12.3, "12/s"),
        (9.94, "9.9/s"),
        (0.1, "0.1/s"),
        (0.049, "2.9/min"),
        (0.002, "0.1/min"),
        (0.001, "3.6/h"),
    ],
)
def test_a_pace_is_never_nothing(speed: float, text: str) -> None:
    assert pace_text(speed) == text


def test_a_stage_is_named_in_a_pipe_when_it_takes_long() -> None:
    clock, stream = Clock(), io.StringIO()
    board = PlainBoard(stream, clock, stage_patience=0.01)
    board.stage("reading tasks")
    deadline = time.monotonic() + 5
    while not stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert stream.getvalue() == "reading tasks ...\n"
    clock.now += 10  # nothing was said for long: the next stage is named as it starts
    board.stage("loading model hf")
    assert stream.getvalue() == "reading tasks ...\nloading model hf ...\n"
    board.finished()


def test_a_long_stage_is_named_again_with_its_time() -> None:
    clock, stream = Clock(), io.StringIO()
    board = PlainBoard(stream, clock, stage_patience=0.01, stage_again=0.01)
    board.stage("fetching dataset 'a'")
    clock.now += 65
    deadline = time.monotonic() + 5
    while stream.getvalue().count("\n") < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    board.finished()
    assert stream.getvalue().splitlines()[:2] == ["fetching dataset 'a' ...", "fetching dataset 'a' ... (1:05)"]


def test_stages_and_lines_are_in_the_language_of_the_locale() -> None:
    stream = io.StringIO()
    board = PlainBoard(stream, Clock(), t=translator("zh"), stage_patience=0)
    board.stage(phrase("loading model {model}: its weights, or a connection", model="hf"))
    board.started([("a", 1, 0)], phrase("{n} shards", n=4))
    board.message("as a plugin says it")
    board.finished()
    assert stream.getvalue().splitlines() == [
        "加载模型 hf：权重，或建立连接 ...",
        "4 个分片：共 1 个任务，1 个样本",
        "as a plugin says it",
    ]


def test_quick_stages_say_nothing_in_a_pipe() -> None:
    stream = io.StringIO()
    board = PlainBoard(stream, Clock(), stage_patience=0.05)
    for name in ("reading tasks", "preparing metrics", "loading model"):
        board.stage(name)
    board.started([("a", 1, 0)], "demo")
    board.finished()
    time.sleep(0.1)
    assert stream.getvalue() == "demo: 1 task, 1 sample\n"


def test_a_stage_is_named_at_once_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    board = LiveBoard(stream)
    board.stage("reading tasks")
    assert "reading tasks" in stream.getvalue()
    board.finished()


def test_samples_on_disk_are_not_counted_as_speed() -> None:
    lines = plain(200, 10.0, known=150)
    assert lines[0] == "hf: 1 task, 200 samples, 150 of them on disk already"
    assert lines[-1] == "ceval  200/200  acc 0.500  5.0/s"


def test_a_pipe_sees_no_control_characters() -> None:
    text = "\n".join(plain(500, 60.0))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_a_sample_that_was_not_scored_is_no_zero() -> None:
    stream = io.StringIO()
    board = PlainBoard(stream)
    board.started([("a", 3, 0), ("b", 1, 0)], "demo")
    for score in (1.0, None, 0.0):
        board.sample_done(record("a", score), "acc")
    board.sample_done(record("b", (1.0, 2.0)), "acc")
    first, second = stream.getvalue().splitlines()[1:]
    assert "acc 0.500" in first
    assert "acc" not in second


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_live_lines_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    clock, stream = Clock(), Terminal()
    board = LiveBoard(stream, clock)
    names = ["高等学校思想政治理论课程综合测验", "cmmlu:lm_eval"]
    board.started([(name, 11582, 0) for name in names], "hf")
    for _ in range(400):
        clock.now += 0.5
        board.sample_done(record(names[0]), "exact_match@flexible-extract")
    board.message("shared prefixes are on [all]")
    board.finished()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    lines = [line for part in text.split("\n") for line in part.split("\r")]
    assert max(cell_len(line) for line in lines) <= columns
    assert "shared prefixes are on [all]" in text
    assert any("400/11582" in line and "1:33:11 left" in line for line in lines)
    assert any("all tasks" in line and "400/23164" in line for line in lines)


def test_finished_tasks_stay_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    board = LiveBoard(stream)
    board.started([("a", 1, 0), ("b", 2, 0)], "demo")
    board.sample_done(record("a"), "acc")
    board.sample_done(record("b"), "acc")
    board.finished()
    board.finished()
    text = stream.getvalue()
    assert "1/1" in text
    assert text.count("\x1b[?25h") == 1, "the cursor is shown again, once"


def test_a_record_of_an_unknown_task_is_ignored() -> None:
    board = Board(io.StringIO())
    board.started([("a", 1, 0)], "demo")
    board.sample_done(record("b"), "acc")
    assert board.lines["a"].done == 0


def test_the_stream_decides() -> None:
    assert isinstance(watch(io.StringIO()), PlainBoard)
    assert isinstance(watch(Terminal()), LiveBoard)


def test_clock() -> None:
    assert [clock_text(seconds) for seconds in (0.4, 42, 725, 10890)] == ["0:00", "0:42", "12:05", "3:01:30"]


def test_the_speed_of_a_task_is_its_own() -> None:
    clock, stream = Clock(), io.StringIO()
    board = PlainBoard(stream, clock)
    board.started([("a", 100, 0), ("b", 100, 0)], "demo")
    for task, seconds in (("a", 50.0), ("b", 5.0)):
        for _ in range(100):
            clock.now += seconds / 100
            board.sample_done(record(task), "acc")
    finished = [line for line in stream.getvalue().splitlines() if "100/100" in line]
    assert finished == ["a  100/100  acc 1.000  2.0/s  (all tasks 100/200, 0:50 left)", "b  100/100  acc 1.000  20/s"]
