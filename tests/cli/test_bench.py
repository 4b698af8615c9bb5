"""`harness bench` against a server whose pauses the test chooses, and against those that cannot be measured."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_server import Asked, Reply, ScriptedServer, chat, error, streamed
from sums_task import write_sums

from harness.run.load import poisson_pauses
from harness.run.rungs import knee, rung_of
from harness.scoring.statistics.estimates import quantile_interval
from harness.streaming import TimedReply
from harness.testing import run_harness

WORDS = ("一", "二", "🙂", "四", "五")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    write_sums(12, "{n} + {n} 是多少？")
    return tmp_path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    scripted.answer = lambda asked: streamed(*WORDS)
    yield scripted
    scripted.close()


def bench(server: ScriptedServer, *more: str, code: int = 0) -> tuple[str, dict[str, Any]]:
    args = f"model=small,base_url={server.url},api=chat,api_key=sk-hidden"
    ran = run_harness(
        "bench", "--tasks", "sums.yaml", "--model", "openai", "--model_args", args, "--to", "o.json", *more
    )
    assert ran.exit_code == code, ran.output
    return ran.output, json.loads(Path("o.json").read_text("utf-8")) if Path("o.json").exists() else {}


def test_a_load_with_fewer_requests_than_it_has_at_once_is_remarked_upon(server: ScriptedServer) -> None:
    text, _ = bench(server, "--concurrency", "2,4,8", "--requests", "3")
    assert "4, 8 at once: no more than 3 were under way, as many as there were requests" in text
    text, _ = bench(server, "--concurrency", "2,3", "--requests", "3")
    assert "no more than" not in text


def test_times_are_those_of_the_server(server: ScriptedServer) -> None:
    server.answer = lambda asked: streamed(*WORDS, first=0.08, each=0.02)
    text, found = bench(
        server, "--concurrency", "1,4", "--requests", "8", "--goodput", "ttft=5,tpot=1", "--plot", "o.svg"
    )
    one, four = found["loads"]
    assert (one["answered"], one["tokens"], one["prompt_tokens"], one["first_token"]["n"]) == (8, 40, 56, 8)
    assert 0.08 <= one["first_token"]["median"] < 0.5
    assert 0.02 <= one["per_token"]["median"] < 0.2
    assert one["whole"]["median"] >= 0.16
    assert one["requests_per_second"]["value"] == pytest.approx(8 / one["seconds"])
    assert one["tokens_per_second"]["value"] == pytest.approx(40 / one["seconds"])
    assert one["goodput"] == pytest.approx(one["requests_per_second"]["value"])
    assert four["requests_per_second"]["value"] > one["requests_per_second"]["value"]
    assert server.most_at_once == 4
    assert four["asked_before"] == 4  # 12 prompts, 16 requests
    assert len(server.asked) == 17  # the first is not counted
    assert Path("o.svg").read_bytes().startswith(b"<?xml")
    assert "sk-hidden" not in text + json.dumps(found)


def test_an_open_loop_sends_whatever_is_under_way(server: ScriptedServer) -> None:
    all_there = threading.Event()

    def waits_for_the_others(asked: Asked) -> Reply:
        if asked.number == 10:
            all_there.set()
        return Reply(wait=all_there, pieces=streamed(*WORDS).pieces) if asked.number else streamed("x")

    server.answer = waits_for_the_others
    _, found = bench(server, "--rate", "200", "--requests", "10")
    assert server.most_at_once == 10
    assert (found["loads"][0]["rate"], found["loads"][0]["answered"]) == (200, 10)
    pauses = poisson_pauses(5, "x")
    drawn = np.array([next(pauses) for _ in range(20_000)])
    assert drawn.mean() == pytest.approx(0.2, rel=0.03)
    assert drawn.std() == pytest.approx(0.2, rel=0.03)  # as that of an exponential distribution


def no_stream(asked: Asked) -> Reply:
    return chat("4")


def refuses(asked: Asked) -> Reply:
    return error(403, "not for you")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (no_stream, "does not stream: asked for a reply in pieces, it sent a whole one"),
        (refuses, "not for you"),
        (lambda asked: streamed(*WORDS, breaks=True), "the reply broke off"),
        (lambda asked: error(503, "too many"), "too many"),
    ],
)
def test_what_cannot_be_measured_is_one_line(server: ScriptedServer, answer: Any, says: str) -> None:
    server.answer = answer
    text, found = bench(server, "--concurrency", "2", code=4)
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not found


def test_no_column_is_lost_on_a_narrow_terminal(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text, _ = bench(server, "--concurrency", "1,2")
    heads = [line for line in text.splitlines() if line.startswith("at once")]
    assert len(heads) == 2 and "requests/s" in heads[0]
    assert "whole reply, s" in heads[1] and heads[1].endswith("failed")


def test_a_server_that_dies_leaves_what_was_measured(server: ScriptedServer) -> None:
    server.answer = lambda asked: streamed(*WORDS, breaks=asked.number > 32)
    text, found = bench(server, "--concurrency", "1,2,4", "--requests", "30", code=2)
    first, second = found["loads"]
    assert (first["answered"], first["errors"]) == (30, {})
    assert (second["asked"], second["answered"]) == (30, 2)
    assert second["sent"] < 30
    assert sum(second["errors"].values()) == second["sent"] - 2
    assert "at 2 at once the server answered 2 of" in text


def test_single_failures_are_counted_and_no_times(server: ScriptedServer) -> None:
    server.answer = lambda asked: error(429, "slow down") if asked.number % 3 == 2 else streamed(*WORDS, usage=False)
    text, found = bench(server, "--concurrency", "2", "--requests", "12", code=1)
    (rung,) = found["loads"]
    assert (rung["answered"], rung["sent"], rung["first_token"]["n"]) == (8, 12, 8)
    assert rung["errors"] == {"status 429: slow down": 4}
    assert (rung["tokens"], rung["tokens_per_second"], rung["per_token"], rung["uncounted"]) == (None, None, None, 8)
    assert "8 replies without a count of tokens" in text
    zh, _ = bench(server, "--concurrency", "2", "--requests", "12", "--lang", "zh", code=1)
    assert "8 个回答没有词元数" in zh
    assert "个失败：status 429: slow down" in zh


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--concurrency", "1,2", "--rate", "3"), "give one of them"),
        (("--concurrency", "1.5"), "1.5 is no whole number"),
        (("--rate", "1,nan"), "numbers above 0"),
        (("--goodput", "ttfb=1"), "'ttfb' is none of ttft, tpot, e2el"),
        (("--plot", "o.pdf"), ".svg or .png"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: tuple[str, ...], says: str) -> None:
    ran = run_harness("bench", "--tasks", "sums.yaml", "--model", "openai", "--model_args", "model=x", *flags)
    assert ran.exit_code == 4
    assert says in ran.output


def test_a_model_that_is_no_server_is_refused() -> None:
    ran = run_harness("bench", "--tasks", "sums.yaml", "--model", "dummy")
    assert ran.exit_code == 4
    assert "model 'dummy' is no server" in ran.output


def test_the_knee_is_where_power_is_greatest() -> None:
    def under(at_once: int, places: int) -> Any:
        """A server with so many places, each of which takes 0.1 s."""
        seconds = 0.1 * max(1, at_once / places)
        sent = [seconds * (number // at_once) for number in range(4 * at_once)]
        replies = [TimedReply(at, at + seconds, (at + 0.05, at + seconds), 2) for at in sent]
        return rung_of(replies, len(replies), {"e2el": 0.15}, at_once=at_once, rate=None, asked_before=0)

    rungs = [under(at_once, 8) for at_once in (1, 2, 4, 8, 16, 32)]
    assert knee(rungs) is rungs[3]
    assert knee(rungs[:4]) is None  # it may lie above
    assert knee(rungs[2:4]) is None
    assert [rung.goodput for rung in rungs] == pytest.approx([10, 20, 40, 80, 0, 0])


def test_intervals_of_quantiles_hold_for_any_distribution() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        found = quantile_interval(np.exp(generator.normal(size=40)), 0.5)
        assert found is not None
        assert found[1] is not None
        held += found[0] <= 1.0 <= found[1]
    assert 0.95 <= held / 2000 < 0.98
    assert quantile_interval(np.arange(100.0), 0.99) == (96.0, None)
    assert quantile_interval(np.arange(3.0), 0.5) is None
