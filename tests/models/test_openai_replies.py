"""What a reply says, and what is no answer."""

from __future__ import annotations

import pytest
from openai_asking import answer, ask, make
from scripted_server import Reply, ScriptedServer, chat


def test_reply_usage_and_time(server: ScriptedServer) -> None:
    response = answer(make(server), ask())
    assert (response.prompt_tokens, response.completion_tokens, response.finish_reason) == (7, 3, "stop")
    assert response.seconds is not None and response.error is None


@pytest.mark.parametrize(
    ("reply", "text", "reason"),
    [
        (chat(None, "length"), "", "length"),
        (chat("", "stop"), "", "stop"),
        (chat("cut", "length"), "cut", "length"),
        (chat("x", "tool_calls"), "x", None),
        (Reply({"choices": [{"message": {"content": [{"type": "text", "text": "in parts"}]}}]}), "in parts", None),
    ],
)
def test_unusual_replies(server: ScriptedServer, reply: Reply, text: str, reason: str | None) -> None:
    server.script(reply)
    response = answer(make(server), ask())
    assert (response.text, response.finish_reason, response.error) == (text, reason, None)


@pytest.mark.parametrize("status", [201, 203, 206])
def test_an_answer_is_one_under_each_status_of_success(server: ScriptedServer, status: int) -> None:
    server.script(Reply(chat("yes").body, status))
    assert answer(make(server), ask()).text == "yes" and len(server.asked) == 1


def test_a_filtered_answer_is_an_error(server: ScriptedServer) -> None:
    server.script(chat(None, "content_filter"))
    assert "content filter" in str(answer(make(server), ask()).error)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_of_the_server_is_kept_apart(server: ScriptedServer, name: str) -> None:
    server.script(chat("42", **{name: "6 times 7"}))
    response = answer(make(server), ask())
    assert (response.text, response.reasoning) == ("42", "6 times 7")


def test_reasoning_in_the_text_stays_unless_its_end_is_named(server: ScriptedServer) -> None:
    server.script(chat("<think>a\n\nb</think>\n\n42\n\nmore"))
    assert answer(make(server), ask()).text == "<think>a\n\nb</think>\n\n42\n\nmore"
    response = answer(make(server, think_end_token="</think>"), ask(until=("\n\n",)))
    assert (response.text, response.reasoning, response.finish_reason) == ("42", "<think>a\n\nb", "stop")
    assert "stop" not in server.asked[1].body  # the server would stop within the reasoning
    server.script(chat("<think>never done", "length"))
    unfinished = answer(make(server, think_end_token="</think>"), ask())
    assert (unfinished.text, unfinished.reasoning) == ("", "<think>never done")


def test_stop_sequences_are_sent_up_to_four_and_always_applied(server: ScriptedServer) -> None:
    server.script(chat("one🛑two。three"))
    request = ask(until=("。", "Q:", "\n\n", "", "</s>", "🛑"))
    response = answer(make(server), request)
    assert server.asked[0].body["stop"] == ["。", "Q:", "\n\n", "</s>"]
    assert (response.text, response.finish_reason) == ("one", "stop")
