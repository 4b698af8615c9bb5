"""What the board says of a run's speed: over the last seconds, on lines that fit, in both languages."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from scripted_server import Asked, Reply, ScriptedServer, chat
from sums_task import write_sums

from harness.cli.progress import LiveBoard, PlainBoard
from harness.cli.speedometer import SPAN, Speedometer, amount, packed
from harness.model import Activity, Model
from harness.record.cost import Prices
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.run.work import Meter, RunWork, WorkDone
from harness.testing import tiny_causal_lm
from harness.types import Prompt, Record, Response
from harness.words import english, translator


class Machine:
    """A clock and a meter that a test sets."""

    def __init__(self) -> None:
        self.now, self.work = 100.0, WorkDone()

    def clock(self) -> float:
        return self.now

    def meter(self) -> WorkDone:
        return self.work


def after(seconds: float, work: WorkDone) -> list[str]:
    machine = Machine()
    speed = Speedometer(machine.meter, machine.clock)
    machine.now += seconds
    machine.work = work
    return speed.phrases(english)


def test_a_local_model_is_held_against_its_device() -> None:
    work = WorkDone(20, 123_450, 310, activity=Activity(operations=4e12, matrix_rate=1e12))
    assert after(10.0, work) == [
        "prompts 12,345 tokens/s", "answers 31 tokens/s", "2.0 requests/s", "40% of the matrix rate",
    ]  # fmt: skip


def test_a_server_is_held_against_its_connections_and_its_limit() -> None:
    activity = Activity(under_way=12, places=64, sent=50, refused=5, granted=10.0)
    work = WorkDone(45, failed=1, cut=3, cost=0.01234, activity=activity)
    assert after(10.0, work) == [
        "4.5 requests/s", "12 of 64 connections", "50% of the limit of 10 requests/s", "10% refused (429)",
        "1 failed", "3 cut off", "0.01234 spent",
    ]  # fmt: skip


def test_what_is_not_known_is_not_said() -> None:
    assert after(1.0, WorkDone(3)) == ["3.0 requests/s"]
    assert after(1.0, WorkDone(activity=Activity(operations=1.0))) == []
    assert after(0.0, WorkDone(3)) == []
    assert after(1.0, WorkDone(0, cost=0.0)) == ["0 spent"]


def test_speeds_are_of_the_last_seconds() -> None:
    machine = Machine()
    speed = Speedometer(machine.meter, machine.clock)
    for second in range(100):
        machine.now += 1.0
        machine.work = replace(machine.work, requests=10 * min(second, 60))
        told = speed.phrases(english)
    assert told == ["0.0 requests/s"], f"nothing came in the last {SPAN:g} s"


@pytest.mark.parametrize(("number", "text"), [(0, "0.0"), (0.0213, "0.02"), (3.14, "3.1"), (12345.6, "12,346")])
def test_amounts_are_short(number: float, text: str) -> None:
    assert amount(number) == text


def test_phrases_are_never_broken() -> None:
    phrases = ["提示 12,345 词元/秒", "回答 830 词元/秒", "3.1 请求/秒", "达到矩阵乘法速率的 40%"]
    lines = packed(phrases, 40)
    assert "  ".join(lines) == "  ".join(phrases)
    assert max(map(cell_len, lines)) <= 40
    assert len(packed(phrases, 10)) == 4


@pytest.mark.parametrize(("columns", "language"), [(60, "en"), (60, "zh"), (100, "zh")])
def test_the_live_board_shows_it_within_the_terminal(
    columns: int, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    machine, stream = Machine(), Terminal()
    board = LiveBoard(stream, machine.clock, translator(language))
    board.started([("高等学校思想政治理论课程综合测验", 11582, 0), ("b", 3, 0)], "hf")
    board.metered(machine.meter)
    machine.now += 10.0
    machine.work = WorkDone(400, 900_000, 3000, 2, 1, 0.5, Activity(operations=1e12, matrix_rate=1e12))
    board.sample_done(Record("b", "", 0, {}, Prompt(), None, (), (), (), {"acc": 1.0}), "acc")
    assert board._bars is not None
    board._bars.refresh()
    board.finished()
    assert not re.search(r"\x1b\[[0-9;]*m", stream.getvalue()), "no colours"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    lines = [line for part in text.split("\n") for line in part.split("\r")]
    assert max(map(cell_len, lines)) <= columns
    words = ("提示 90,000 词元/秒", "2 个失败") if language == "zh" else ("prompts 90,000 tokens/s", "2 failed")
    assert all(word in text for word in words)
    assert ("还需" in text, "left" in text) == (language == "zh", language == "en")


def test_a_pipe_has_it_on_the_lines_that_it_gets_anyway() -> None:
    machine, stream = Machine(), io.StringIO()
    board = PlainBoard(stream, machine.clock)
    board.started([("a", 20, 0)], "hf")
    board.metered(machine.meter)
    for n in range(20):
        machine.now += 2.0
        machine.work = WorkDone(n + 1, 100 * n + 100)
        board.sample_done(Record("a", "", n, {}, Prompt(), None, (), (), (), {"acc": 1.0}), "acc")
    board.finished()
    lines = stream.getvalue().splitlines()
    assert lines[1] == "a  2/20  acc 1.000  0.5/s  0:36 left  prompts 50 tokens/s  0.5 requests/s"
    assert len(lines) == 11


def test_answers_are_counted_with_what_they_cost() -> None:
    class Broken(Model):
        name = "broken"
        identity = {}  # noqa: RUF012

        def respond(self, requests: object) -> Iterator[tuple[int, Response]]:
            raise NotImplementedError

        def activity(self) -> Activity:
            raise ValueError("not now")

    work = RunWork(Broken(), Prices(1000.0, 2000.0, 1000.0), Prices(10.0, 10.0, 10.0))
    work.add(Response(text="a", prompt_tokens=1000, completion_tokens=500, finish_reason="length"))
    work.add(Response(error="gone"))
    work.add_of_user(Response(text="b", prompt_tokens=100_000))
    assert work.so_far() == WorkDone(2, 1000, 500, failed=1, cut=1, cost=pytest.approx(1 + 1 + 1), activity=None)


class Watching(Progress):
    """Looks at the meter at every sample."""

    def __init__(self) -> None:
        self.meter: Meter | None = None
        self.seen: list[WorkDone] = []

    def metered(self, meter: Meter) -> None:
        self.meter = meter

    def sample_done(self, record: Record, headline: str) -> None:
        assert self.meter is not None
        self.seen.append(self.meter())


def test_a_run_against_a_server_says_what_it_is_doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sums(6)
    refused = threading.Event()

    def answer(asked: Asked) -> Reply:
        if not refused.is_set():
            refused.set()
            return Reply({}, 429, {"retry-after-ms": "1"})
        return chat("4")

    server = ScriptedServer()
    server.answer = answer
    try:
        args = {"model": "small", "base_url": server.url, "api": "chat", "num_concurrent": 3}
        watching = Watching()
        run(RunSpec(("sums.yaml",), "openai", args, prices={"in": 1.0, "out": 1.0}), progress=watching)
    finally:
        server.close()
    last = watching.seen[-1]
    assert (last.requests, last.failed) == (6, 0)
    assert last.cost is not None and last.activity is not None
    assert (last.activity.places, last.activity.sent, last.activity.refused) == (3, 7, 1)


def test_a_local_run_counts_the_products_of_its_passes(tmp_path: Path) -> None:
    folder = tiny_causal_lm(tmp_path / "model")
    watching = Watching()
    args = {"pretrained": str(folder), "dtype": "float32"}
    run(RunSpec(("demo_choice_en",), "hf", args, limit=4, device="cpu", output=str(tmp_path)), progress=watching)
    activity = watching.seen[-1].activity
    assert activity is not None and activity.operations is not None and activity.matrix_rate is not None
    assert activity.matrix_rate > 1e6
    # Each of its tokens is multiplied with all weights but the embeddings, at least once.
    config = json.loads((folder / "config.json").read_text())
    least = 2 * config["num_hidden_layers"] * 4 * config["hidden_size"] * config["intermediate_size"] / 4
    assert activity.operations > 20 * least
