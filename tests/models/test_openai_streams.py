"""Replies in pieces: the same events are the same answer however they are written, and no error is an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai_asking import answers, make
from scripted_server import Reply, ScriptedServer, chat

from harness import Prompt, Request
from harness.scoring import read_calls
from harness_plugins.models.openai.errors import RequestError
from harness_plugins.models.openai.replies import ChatReply, read_reply
from harness_plugins.models.openai.timing import piece_times
from harness_plugins.models.openai.wire import chat_response

EVENTS = "text/event-stream"
DONE = "[DONE]"


def piece(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


PIECES = [
    piece(role="assistant", content=""),
    piece(reasoning_content="hm \u2028"),
    piece(content="四十"),
    piece(content="二\r\n"),
    piece("stop"),
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}},
]


def lines_of(event: Any, indent: int | None = None) -> list[str]:
    text = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False, indent=indent)
    return text.split("\n")


def usual(events: list[Any]) -> str:
    return "".join(f"data: {lines_of(event)[0]}\n\n" for event in events)


WRITTEN: dict[str, Callable[[list[Any]], str]] = {
    "as usual": usual,
    "without a space": lambda events: usual(events).replace("data: ", "data:"),
    "CRLF": lambda events: usual(events).replace("\n", "\r\n"),
    "CR": lambda events: usual(events).replace("\n", "\r"),
    "several lines an event": lambda events: "".join(
        "".join(f"data: {line}\n" for line in lines_of(event, indent=1)) + "\n" for event in events
    ),
    "several lines an event, CRLF": lambda events: "".join(
        "".join(f"data: {line}\r\n" for line in lines_of(event, indent=1)) + "\r\n" for event in events
    ),
    "no empty lines": lambda events: usual(events).replace("\n\n", "\n"),
    "comments, ids, names and retries": lambda events: (
        "retry: 3000\n\n:\n\n: ping\n\n"
        + "".join(f"id: {at}\nevent: message\n: x\ndata: {lines_of(event)[0]}\n\n" for at, event in enumerate(events))
    ),
    "events of other names": lambda events: "event: ping\ndata: now\n\n" + usual(events),
    "a mark of the byte order": lambda events: "\ufeff" + usual(events),
    "nothing behind the end": lambda events: usual(events).rstrip("\n"),
    "empty lines first": lambda events: "\n\n" + usual(events),
}


def read(content: str | bytes, content_type: str = EVENTS) -> Any:
    content = content if isinstance(content, bytes) else content.encode()
    return chat_response(read_reply(ChatReply, content, content_type))


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("end", [[DONE], []])
@pytest.mark.parametrize("content_type", [EVENTS, "text/event-stream; charset=utf-8", "", "application/json"])
def test_the_same_events_are_the_same_answer(way: str, end: list[str], content_type: str) -> None:
    response = read(WRITTEN[way]([*PIECES, *end]), content_type)
    assert (response.text, response.reasoning, response.finish_reason) == ("四十二\r\n", "hm \u2028", "stop")
    assert (response.prompt_tokens, response.completion_tokens) == (5, 3)


@pytest.mark.parametrize("way", WRITTEN)
def test_a_stream_that_ends_at_any_byte_is_no_answer_before_its_last_piece(way: str) -> None:
    content = WRITTEN[way]([*PIECES, DONE]).encode()
    last = content.rindex(b'"stop"')
    for at in range(len(content)):
        try:
            response = read(content[:at])
        except RequestError:
            continue
        assert at > last and response.text == "四十二\r\n"


def test_a_whole_reply_that_calls_itself_a_stream_is_read() -> None:
    assert read(json.dumps(chat("yes").body)).text == "yes"


def test_the_end_is_an_event_and_no_word_in_a_text() -> None:
    with pytest.raises(RequestError, match="the stream has no end"):
        read(usual([piece(content="it ends by [DONE]")]))
    assert read(usual([piece(content="yes"), DONE])).text == "yes"


ERROR = {"message": "the engine died", "type": "server_error", "code": 500}


@pytest.mark.parametrize(
    "said",
    [
        f"data: {json.dumps({'error': ERROR})}\n\n",
        f"event: error\ndata: {json.dumps({'error': ERROR})}\n\n",
        f"event: error\ndata: {json.dumps(ERROR)}\n\n",
        "event: error\ndata: the engine died\n\n",
        'event: error\ndata: "the engine died"\n\n',
        f"error: {json.dumps(ERROR)}\n\n",
        f"data: {json.dumps({'object': 'error', 'param': None, **ERROR})}\n\n",
        f"data: {json.dumps({'type': 'error', 'message': 'the engine died'})}\n\n",
        'data: {"detail": "the engine died"}\n\n',
        f'data: {{"error": {json.dumps(ERROR)}, "choices": []}}\n\n',
    ],
)
@pytest.mark.parametrize("before", [[], [piece(content="half")], [piece(content="half"), piece(content=" of it")]])
@pytest.mark.parametrize("end", ["", "data: [DONE]\n\n"])
def test_an_error_in_a_stream_is_no_answer_whatever_its_shape(said: str, before: list[Any], end: str) -> None:
    with pytest.raises(RequestError, match="the engine died"):
        read(usual(before) + said + end)


def test_a_stream_without_any_answer_is_no_empty_one() -> None:
    for content in ("data: [DONE]\n\n", usual([PIECES[-1], DONE]), ": ping\n\n", "", usual([{"choices": []}, DONE])):
        with pytest.raises(RequestError):
            read(content)


def thoughts(*texts: str) -> dict[str, Any]:
    """A part of Mistral's reasoning models."""
    return {"type": "thinking", "thinking": [{"type": "text", "text": text} for text in texts]}


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(reasoning="two and "), piece(reasoning="two"), piece(content="4")],
        [piece(thinking="two and "), piece(thinking="two"), piece(content="4")],
        [piece(reasoning_content="two and two", reasoning="two and two"), piece(content="4", reasoning=None)],
        [piece(content=[thoughts("two ")]), piece(content=[thoughts("and ", "two")]), piece(content="4")],
        [piece(content=""), piece(content=[thoughts("two and two"), {"type": "text", "text": "4"}])],
        [piece(reasoning_content="two and two", reasoning={"effort": "low"}), piece(content="4")],
    ],
)
def test_reasoning_is_read_by_all_its_names(pieces: list[Any]) -> None:
    response = read(usual([*pieces, piece("stop"), DONE]))
    assert (response.text, response.reasoning) == ("4", "two and two")


def test_a_whole_reply_in_mistrals_parts_is_read() -> None:
    body = {"choices": [{"message": {"content": [thoughts("a", "b"), {"type": "text", "text": "4"}]}}]}
    response = read(json.dumps(body), "application/json")
    assert (response.text, response.reasoning) == ("4", "ab")


def call(index: Any = ..., identity: Any = ..., name: Any = ..., arguments: Any = ...) -> dict[str, Any]:
    function = {name: value for name, value in (("name", name), ("arguments", arguments)) if value is not ...}
    whole = {"index": index, "id": identity, "function": function}
    return {name: value for name, value in whole.items() if value is not ...}


@pytest.mark.parametrize(
    "calls",
    [
        # OpenAI's own.
        [call(0, "a", "f", ""), call(0, arguments='{"x":'), call(0, arguments="1}"), call(1, "b", "g", "{}")],
        # An id to every piece (vLLM before 0.9), and the name again and again.
        [call(0, "a", "f", ""), call(0, "b", arguments='{"x":'), call(0, "c", None, "1}"), call(1, "d", "g", "{}")],
        [call(0, "a", "f", ""), call(0, "a", "f", '{"x":'), call(0, "", "f", "1}"), call(1, "b", "g", "{}")],
        # Gemini: whole calls, all with index 0, or without any.
        [call(0, "a", "f", '{"x":1}'), call(0, "b", "g", "{}")],
        [call(..., "a", "f", '{"x":1}'), call(..., "b", "g", "{}")],
        [call(..., ..., "f", '{"x":1}'), call(..., ..., "g", "{}")],
        [call(0, "", "f", '{"x":1}'), call(0, "", "g", "{}")],
        [call(None, None, "f", '{"x":'), call(None, None, None, "1}"), call(None, None, "g", {})],
        # Numbers from 1.
        [call(1, "a", "f", '{"x":'), call(1, arguments="1}"), call(2, "b", "g", "{}")],
    ],
)
def test_calls_in_pieces_are_whole_calls(calls: list[Any]) -> None:
    text = read(usual([*(piece(tool_calls=[each]) for each in calls), piece("tool_calls"), DONE])).text
    found = read_calls(text, [{"name": "f"}, {"name": "g"}])
    assert [(each.name, each.arguments) for each in found] == [("f", {"x": 1}), ("g", {})]


def test_options_are_scored_by_a_server_that_only_streams(server: ScriptedServer) -> None:
    top = [{"token": name, "logprob": value} for name, value in (("A", -0.1), ("B", -2.5))]
    first = piece(content="A")
    first["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": top}]}
    server.answer = lambda asked: Reply(
        usual([first, piece("length"), DONE]).encode(), headers={"Content-Type": EVENTS}
    )
    model = make(server, stream=True, choices="top_logprobs", api="chat")
    asked = Request("loglikelihood", Prompt("Which?"), (" A", " B"))
    assert [round(value, 3) for value in answers(model, [asked])[0].logprobs] == [-0.1, -2.5]


def test_log_probabilities_of_a_prompt_come_in_pieces_too(server: ScriptedServer) -> None:
    def part(names: list[str], values: list[float | None]) -> dict[str, Any]:
        top = [None if value is None else {name: value} for name, value in zip(names, values, strict=True)]
        logprobs = {"tokens": names, "token_logprobs": values, "top_logprobs": top}
        return {"choices": [{"index": 0, "text": "".join(names), "logprobs": logprobs}]}

    def reply(asked: Any) -> Reply:
        words = ["It", " is", *([" so"] if asked.body["prompt"].endswith("so") else [" not"] * ("not" in str(asked)))]
        parts = [part(words[:1], [None]), part(words[1:], [-1.0, -0.5][: len(words) - 1]), part(["."], [-3.0])]
        end = {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]}
        return Reply(usual([*parts, end, DONE]).encode(), headers={"Content-Type": EVENTS})

    server.answer = reply
    model = make(server, stream=True, api="completions")
    response = answers(model, [Request("loglikelihood", Prompt("It is"), (" so", " not"))])[0]
    assert (response.error, response.logprobs) == (None, (-0.5, -0.5))


@pytest.mark.parametrize("way", [way for way in WRITTEN if "lines an event" not in way])
def test_pieces_are_timed_however_they_are_written(way: str) -> None:
    content = WRITTEN[way]([*PIECES, DONE]).encode()
    arrivals = [(float(at), at + 1) for at in range(len(content))]  # a byte a second
    times = list(piece_times(content, arrivals))
    assert len(times) == 3 and times == sorted(set(times))
    names = [content.index(word.encode()) for word in ("hm", "四十", "二\\r")]
    assert all(name < time for name, time in zip(names, times, strict=True))
    assert all(time < name for time, name in zip(times, [*names[1:], len(content)], strict=True))


@pytest.mark.parametrize(
    "odd",
    [
        "data: 5\n\n",
        "data: {\n\n",
        'data: {"choices": [5]}\n\n',
        'data: {"choices": [{"delta": 5}]}\n\n',
        usual([piece(content=[5]), DONE]),
        usual([piece(tool_calls=[5])]),
        usual([piece(tool_calls=[{"index": "0"}])]),
        usual([piece(tool_calls=[{"index": 0, "function": "f"}])]),
        usual([piece(tool_calls=[call(0, "a", ..., "{}")]), DONE]),
    ],
)
def test_an_event_that_is_no_piece_of_an_answer_fails_its_request(odd: str) -> None:
    with pytest.raises(RequestError):
        read(odd)
