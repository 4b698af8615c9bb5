"""Many requests at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from openai_asking import answers, ask, make
from scripted_server import Asked, Reply, ScriptedServer, chat, error


def test_answers_come_as_they_finish_and_places_are_filled_at_once(server: ScriptedServer) -> None:
    gate = threading.Event()

    def reply(asked: Asked) -> Reply:
        text = asked.body["messages"][0]["content"]
        return Reply(chat(text).body, wait=gate if text == "0" else None)

    server.answer = reply
    model = make(server, num_concurrent=2)
    order = []
    for index, response in model.respond([ask(str(number)) for number in range(6)]):
        order.append(index)
        assert response.text == str(index)
        if len(order) == 5:
            gate.set()
    assert order[-1] == 0 and sorted(order) == list(range(6))


def test_no_more_than_allowed_are_under_way(server: ScriptedServer) -> None:
    answers(make(server, num_concurrent=4), [ask(str(number)) for number in range(40)])
    assert 1 <= server.most_at_once <= 4


def test_a_caller_that_stops_listening_stops_the_asking(server: ScriptedServer) -> None:
    replies = make(server, num_concurrent=2).respond([ask() for _ in range(500)])
    next(replies)
    replies.close()  # type: ignore[attr-defined]
    seen = len(server.asked)
    threading.Event().wait(0.05)
    assert len(server.asked) <= seen + 4 < 500


def test_a_caller_that_is_slow_is_not_run_away_from(server: ScriptedServer) -> None:
    """What has come and is not yet written is lost in a kill: however slow a metric is, that is not the whole run."""
    replies = make(server, num_concurrent=4).respond([ask(str(number)) for number in range(300)])
    next(replies)
    threading.Event().wait(1)
    assert len(server.asked) <= 40
    assert len(list(replies)) == 299 and len(server.asked) == 300


def test_a_model_answers_again_after_it_was_interrupted(server: ScriptedServer) -> None:
    model = make(server)
    first = model.respond([ask(), ask()])
    next(first)
    first.close()  # type: ignore[attr-defined]
    server.script(error(500), chat("yes"))
    server.asked.clear()
    assert dict(model.respond([ask()]))[0].text == "yes"


@pytest.mark.skipif(os.name == "nt", reason="runs where a process can be sent SIGINT")
def test_ctrl_c_leaves_while_the_server_hangs(server: ScriptedServer) -> None:
    gate = threading.Event()
    server.script(Reply({}, wait=gate))
    # A job in the background of a shell is started with SIGINT ignored, and its children inherit that.
    code = f"""
        import signal
        from harness import ModelOptions, Prompt, Request
        from harness_plugins.models.openai import OpenAIModel
        signal.signal(signal.SIGINT, signal.default_int_handler)
        model = OpenAIModel.create({{"model": "small", "api": "chat", "base_url": {server.url!r}}}, ModelOptions())
        try:
            list(model.respond([Request("generate", Prompt("?")) for _ in range(50)]))
        except KeyboardInterrupt:
            print("left")
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(1000):
            if server.asked:
                break
            threading.Event().wait(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        gate.set()
    assert (process.returncode, out.strip()) == (0, "left")


def test_auto_asks_more_and_more_at_once_while_replies_stay_quick(server: ScriptedServer) -> None:
    def reply(asked: Asked) -> Reply:
        threading.Event().wait(0.03)
        return chat("yes")

    server.answer = reply
    answers(make(server, num_concurrent="auto"), [ask(str(number)) for number in range(300)])
    assert 8 < server.most_at_once <= 64


@pytest.mark.skipif(os.name == "nt", reason="runs where a process has a limit of open files")
def test_as_many_connections_as_are_asked_for_may_be_open(server: ScriptedServer) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        make(server, num_concurrent=700).load()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 700
        if before[1] == resource.RLIM_INFINITY:
            return
        said: list[str] = []
        model = make(server, num_concurrent=before[1])
        model.say = said.append
        model.load()
        assert len(said) == 1 and "ulimit -Hn" in said[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
