"""Several servers share the questions of one model; a slow one gets fewer, a dead one none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_asking import answers, ask, make
from scripted_server import Reply, ScriptedServer, chat, error

from harness.cli.values import parse_pairs
from harness.errors import UsageError
from harness.testing import run_harness


@pytest.fixture
def servers() -> Iterator[list[ScriptedServer]]:
    made = [ScriptedServer() for _ in range(3)]
    yield made
    for server in made:
        server.close()


def base_url(servers: list[ScriptedServer]) -> list[str]:
    return [server.url for server in servers]


def test_the_work_is_shared(servers: list[ScriptedServer]) -> None:
    model = make(None, base_url=base_url(servers), num_concurrent=4)
    given = answers(model, [ask(f"question {n}") for n in range(60)])
    assert [response.text for response in given] == ["yes"] * 60
    assert sum(len(server.asked) for server in servers) == 60
    assert all(len(server.asked) >= 10 and server.most_at_once <= 4 for server in servers)


@pytest.mark.slow
def test_a_slow_server_gets_fewer_questions(servers: list[ScriptedServer]) -> None:
    def slow(asked: Any) -> Reply:
        time.sleep(0.15)
        return chat("yes")

    servers[1].answer = slow
    model = make(None, base_url=base_url(servers[:2]), num_concurrent=2)
    answers(model, [ask(f"question {n}") for n in range(80)])
    assert len(servers[1].asked) <= 20 and len(servers[0].asked) >= 60


@pytest.mark.parametrize("how", ["dead from the start", "dies", "broken"])
def test_a_server_that_fails_loses_its_share_and_no_question(servers: list[ScriptedServer], how: str) -> None:
    dying, alive = servers[0], servers[1]
    urls = base_url([dying, alive])
    if how == "dead from the start":
        urls[0] = "http://127.0.0.1:9/v1"
    elif how == "dies":
        dying.answer = lambda asked: Reply({}, cut=0) if asked.number >= 5 else chat("yes")
    else:
        dying.answer = lambda asked: error(500)
    said: list[str] = []
    model = make(None, base_url=urls, num_concurrent=4, max_retries=2)
    model.say = said.append
    given = answers(model, [ask(f"question {n}") for n in range(40)])
    assert [response.error for response in given] == [None] * 40
    assert len(alive.asked) >= 30 and len(dying.asked) <= 14 and alive.most_at_once <= 4
    assert any("cannot reach http://127.0.0.1:9/v1" in line for line in said) == (how == "dead from the start")


def test_a_request_that_one_server_has_no_room_for_goes_to_another(servers: list[ScriptedServer]) -> None:
    servers[0].answer = lambda asked: error(429, "too many", Retry_After="30")
    model = make(None, base_url=base_url(servers[:2]), num_concurrent=2)
    started = time.monotonic()
    given = answers(model, [ask(f"question {n}") for n in range(20)])
    assert not any(response.error for response in given) and time.monotonic() - started < 20


def test_nobody_there_is_one_clear_line(servers: list[ScriptedServer]) -> None:
    with pytest.raises(UsageError, match=r"cannot reach http://127.0.0.1:9/v1"):
        answers(make(None, base_url="http://127.0.0.1:9/v1,http://127.0.0.1:19/v1"), [ask()])
    with pytest.raises(UsageError, match="is given twice"):
        make(None, base_url=[servers[0].url] * 2)
    with pytest.raises(UsageError, match="a batch is of one server"):
        make(None, base_url=base_url(servers), batch_api=True)
    servers[0].models = Reply({"data": [{"id": "small", "root": "/weights/one"}]})
    servers[1].models = Reply({"data": [{"id": "small", "root": "/weights/two"}]})
    with pytest.raises(UsageError, match="different weights under the name 'small'"):
        _ = make(None, base_url=base_url(servers[:2])).identity


@pytest.mark.slow
def test_a_server_that_comes_back_is_asked_again(servers: list[ScriptedServer]) -> None:
    back = threading.Event()
    servers[0].answer = lambda asked: chat("yes") if back.is_set() else Reply({}, cut=0)

    def other(asked: Any) -> Reply:
        if asked.number == 20:
            back.set()
        time.sleep(0.02)
        return chat("yes")

    servers[1].answer = other
    given = answers(
        make(None, base_url=base_url(servers[:2]), num_concurrent=1), [ask(f"question {n}") for n in range(100)]
    )
    assert not any(response.error for response in given) and len(servers[0].asked) > 20


def test_addresses_follow_each_other_on_the_command_line() -> None:
    urls = ["http://a/v1", "https://b/v1?api-version=2"]
    assert parse_pairs(f"base_url={urls[0]},{urls[1]},model=m") == {"base_url": urls, "model": "m"}
    with pytest.raises(ValueError, match="is not of the form key=value"):
        parse_pairs("pretrained=DIR,https://b/v1")


@pytest.mark.slow
def test_a_run_on_two_servers(servers: list[ScriptedServer], tmp_path: Path) -> None:
    where = ",".join(base_url(servers[:2]))
    done = run_harness(
        "--tasks", "demo_arithmetic", "--model", "openai", "-a", f"model=small,base_url={where},api=chat",
        "--limit", "20", "--output", tmp_path,
    )  # fmt: skip
    assert done.exit_code == 0 and all(server.asked for server in servers[:2])
