"""Requests over HTTP/2: many on one connection, to servers that offer it, and nothing lost when one says goodbye."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from http2_server import Http2Server, serve
from openai_asking import answer, answers, ask, make
from scripted_server import ScriptedServer

from harness import UsageError


@pytest.fixture
def started(certificate: Path) -> Iterator[Callable[..., str]]:
    """Start a server, which may say goodbye after so many requests; returns its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers: list[asyncio.Server] = []

    def start(goaway_after: int | None = None) -> str:
        servers.append(asyncio.run_coroutine_threadsafe(serve(str(certificate), 0.05, goaway_after), loop).result(10))
        return f"https://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}/v1"

    async def end() -> None:
        for each in servers + Http2Server.connections:
            each.close()
        await asyncio.sleep(0.1)

    Http2Server.connections.clear()
    yield start
    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_a_hundred_requests_share_a_connection(started: Callable[..., str]) -> None:
    model = make(None, base_url=started(), http2=True, verify_certificate=False, num_concurrent=250)
    given = answers(model, [ask(str(n)) for n in range(500)])
    assert {each.text for each in given} == {"yes"}
    assert 1 < len(Http2Server.connections) <= 4  # one for the list of models, which is closed before the questions


def test_nothing_is_lost_when_a_server_says_goodbye(started: Callable[..., str]) -> None:
    model = make(None, base_url=started(30), http2=True, verify_certificate=False, num_concurrent=20)
    assert [each.text for each in answers(model, [ask(str(n)) for n in range(100)])] == ["yes"] * 100


def test_connections_that_end_after_fewer_requests_than_are_under_way_are_given_fewer(
    started: Callable[..., str],
) -> None:
    model = make(None, base_url=started(10), http2=True, verify_certificate=False, num_concurrent=20)
    assert [each.text for each in answers(model, [ask(str(n)) for n in range(60)])] == ["yes"] * 60
    assert len(Http2Server.connections) < 20


def test_a_server_without_it_is_asked_as_usual(secure: ScriptedServer) -> None:
    url = secure.url.replace("http:", "https:")
    model = make(None, base_url=url, http2=True, verify_certificate=False, num_concurrent=4)
    assert [each.text for each in answers(model, [ask(str(n)) for n in range(8)])] == ["yes"] * 8


def test_without_tls_it_is_not_offered(server: ScriptedServer) -> None:
    assert answer(make(server, http2=True), ask()).text == "yes"


def test_a_certificate_of_nobody_has_the_same_line(started: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match=r"certificate is not trusted: self-signed certificate \(REQUESTS_CA_BUNDLE"):
        make(None, base_url=started(), http2=True).load()


def test_a_server_that_is_not_there_has_the_same_line() -> None:
    with pytest.raises(UsageError, match=r"cannot reach .*is the server running"):
        make(None, base_url="https://127.0.0.1:9/v1", http2=True).load()


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h2", None)
    with pytest.raises(UsageError, match=r"http2=true needs the package h2: pip install 'harness-eval\[http2\]'"):
        make(None, base_url="https://127.0.0.1:9/v1", http2=True)
