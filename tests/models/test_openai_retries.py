"""What may pass is tried again, and no longer than there is patience."""

from __future__ import annotations

import email.utils
import threading
import time

import pytest
from openai_asking import answer, answers, ask, make
from scripted_server import Asked, Reply, ScriptedServer, chat, error

from harness_plugins.models.openai import OpenAIModel


@pytest.mark.parametrize(
    "failure",
    [
        error(500),
        error(503),
        error(429),
        error(408),
        error(409),
        error(425),
        error(499),
        Reply(b"", 204),
        Reply(b"\x1f\x8b\x08\x00\x9a\xff\xe1"),
        Reply(b"{not json"),
        Reply(b"<html>busy</html>"),
        Reply({"choices": []}),
        Reply({"error": {"message": "overloaded"}}),
        Reply([1]),
        Reply({"choices": [{"message": {"content": "half"}}]}, cut=10),
        Reply({}, cut=0),
    ],
)
def test_what_may_pass_is_tried_again(server: ScriptedServer, failure: Reply) -> None:
    server.script(failure, failure, chat("at last"))
    assert answer(make(server), ask()).text == "at last"
    assert len(server.asked) == 3


def test_it_gives_up_after_the_retries_and_goes_on_with_the_others(server: ScriptedServer) -> None:
    def reply(asked: Asked) -> Reply:
        bad = asked.body["messages"][0]["content"] == "bad"
        return error(500, "cannot do this one") if bad else chat("fine")

    server.answer = reply
    fine, bad, last = answers(make(server, max_retries=2), [ask("good"), ask("bad"), ask("good")])
    assert (fine.text, last.text) == ("fine", "fine")
    assert bad.error == "status 500: cannot do this one (tried 3 times)"
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    "refusal",
    [
        Reply({"error": {"message": "busy", "type": "overloaded_error"}}, 500),
        Reply({"error": {"message": "busy", "code": "429"}}),
        Reply({"error": {"message": "busy", "code": 529}}),
        Reply({"error": {"message": "busy", "code": "rate_limit_exceeded"}}),
    ],
)
def test_a_server_that_is_overloaded_is_waited_for_under_whichever_status(
    server: ScriptedServer, refusal: Reply
) -> None:
    server.script(*[refusal] * 4, chat("at last"))
    assert answer(make(server, max_retries=0), ask()).text == "at last"


def waited(model: OpenAIModel, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that the model makes, which then take no time."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(model._client, "sleep", sleep)
    monkeypatch.setattr("harness_plugins.models.openai.pace.asyncio.sleep", sleep)
    return pauses


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_obeyed(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, as_date: bool) -> None:
    wish = email.utils.formatdate(time.time() + 120, usegmt=True) if as_date else "120"
    server.script(error(429, Retry_After=wish), chat("yes"))
    model = make(server)
    pauses = waited(model, monkeypatch)
    assert answer(model, ask()).text == "yes"
    assert 110 < sum(pauses) < 135


def test_a_pause_ends_when_the_server_is_seen_to_let_others_in(server: ScriptedServer) -> None:
    """One in twenty is refused, and told to wait for longer than this test may take."""
    server.answer = lambda asked: error(429, Retry_After="60") if asked.number % 20 == 10 else chat("yes")
    started = time.monotonic()
    given = answers(make(server, num_concurrent=8), [ask(f"question {n}") for n in range(60)])
    assert not any(response.error for response in given) and time.monotonic() - started < 30


@pytest.mark.slow
def test_a_server_that_refuses_many_is_waited_for(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = iter(range(40))
    server.answer = lambda asked: error(429, Retry_After="30") if next(refused, 99) < 12 else chat("yes")
    model = make(server, num_concurrent=4)
    pauses = waited(model, monkeypatch)
    assert not any(response.error for response in answers(model, [ask(f"question {n}") for n in range(20)]))
    assert sum(pauses) > 30


@pytest.mark.parametrize(
    ("refused", "order"), [(0, ["first", "first", "second", "third"]), (1, ["first", "second", "third", "second"])]
)
def test_a_503_keeps_its_place_unless_the_server_answers_others(
    server: ScriptedServer, refused: int, order: list[str]
) -> None:
    server.answer = lambda asked: error(503) if asked.number == refused else chat("yes")
    model = make(server, retry_delay=0.01)
    assert not any(response.error for response in answers(model, [ask("first"), ask("second"), ask("third")]))
    assert [asked.body["messages"][0]["content"] for asked in server.asked] == order


def test_a_retry_after_beyond_all_patience_is_not_waited_for(server: ScriptedServer) -> None:
    server.script(error(429, "come back tomorrow", Retry_After="86400"))
    response = answer(make(server), ask())
    assert response.error == (
        "status 429: come back tomorrow (tried once; it asks to wait 86400 s, beyond total_timeout)"
    )


def test_an_absurd_retry_after_of_a_server_that_answers_others_is_not_taken_at_its_word(server: ScriptedServer) -> None:
    server.answer = lambda asked: error(429, Retry_After="259200") if asked.number in (0, 9) else chat("yes")
    given = answers(make(server, num_concurrent=4), [ask(f"question {n}") for n in range(20)])
    assert not any(response.error for response in given) and len(server.asked) == 22


def test_pauses_grow_and_vary(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script(error(500))
    model = make(server, retry_delay=1.0, max_retries=8)
    pauses = waited(model, monkeypatch)
    answer(model, ask())
    assert len(pauses) == 8
    assert all(0.5 * 2**n <= pause <= min(60, 2**n) for n, pause in enumerate(pauses) if n < 6)
    assert max(pauses) <= 60


def test_a_server_that_hangs_costs_one_timeout_a_try(server: ScriptedServer) -> None:
    never = threading.Event()
    server.script(chat("fine"), Reply({}, wait=never), Reply({}, wait=never), chat("late"))
    try:
        fine, late = answers(make(server, timeout=0.15), [ask(), ask()])
    finally:
        never.set()
    assert (fine.text, late.text) == ("fine", "late")


def test_a_reply_that_drips_does_not_outlive_the_timeout(server: ScriptedServer) -> None:
    slow = chat("x" * 2000)
    slow.drip = 0.01
    server.script(chat("fine"), slow)
    _, late = answers(make(server, timeout=0.2, max_retries=0), [ask(), ask()])
    assert late.error is not None and "too long" in late.error


def test_total_time_bounds_a_sample(server: ScriptedServer) -> None:
    server.script(chat("fine"), error(503))
    _, late = answers(make(server, total_timeout=0.2, retry_delay=0.05, max_retries=1000), [ask(), ask()])
    # On a busy machine the time may be over while a reply is on its way.
    assert late.error is not None and ("503" in late.error or "too long" in late.error)
    assert len(server.asked) < 50
