"""Whatever a server sends back to one request fails that request alone, in one line, and changes nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_asking import answers, ask, make
from scripted_server import Asked, Reply, ScriptedServer, chat, completion

from harness_plugins.models.openai.replies import ReplyUsage

GOOD: dict[str, Any] = chat("yes").body
PATIENT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value inside a reply."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for key, item in inner for way in places(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    key, *rest = path
    if isinstance(value, dict):
        return {**value, key: replaced(value[key], tuple(rest), new)}
    return [replaced(item, tuple(rest), new) if at == key else item for at, item in enumerate(value)]


def odd_one_out(server: ScriptedServer, odd: Any, usual: Callable[[Asked], Reply], **args: Any) -> list[Any]:
    """Three answers, of which the second question gets the odd reply, every time that it is asked."""

    def reply(asked: Asked) -> Reply:
        text = json.dumps(asked.body)
        return odd if "odd question" in text else usual(asked)

    server.answer = reply
    model = make(server, max_retries=1, **args)
    try:
        return answers(model, [ask("first question"), ask("odd question"), ask("last question")])
    finally:
        model.close()


@pytest.mark.slow
@PATIENT
@given(path=st.sampled_from(places(GOOD)), new=values)
def test_a_chat_reply_with_any_value_in_any_place(server: ScriptedServer, path: tuple[Any, ...], new: Any) -> None:
    odd = Reply(replaced(GOOD, path, new))
    first, second, last = odd_one_out(server, odd, lambda asked: chat("yes"))
    assert (first.text, last.text) == ("yes", "yes") and not first.error and not last.error
    if second.error is None:
        assert isinstance(second.text, str) and second.finish_reason in ("stop", "length", None)
        assert all(n is None or (type(n) is int and n >= 0) for n in (second.prompt_tokens, second.completion_tokens))
    else:
        assert second.text is None and "\n" not in second.error and len(second.error) < 700


@pytest.mark.slow
@PATIENT
@given(body=st.binary(max_size=60) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_at_all(server: ScriptedServer, body: bytes) -> None:
    first, second, last = odd_one_out(server, Reply(body), lambda asked: chat("yes"))
    assert (first.text, last.text) == ("yes", "yes")
    assert second.text is None and second.error is not None and "\n" not in second.error


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": "12", "completion_tokens": 3}, (None, 3, None)),
        ({"prompt_tokens": float("nan"), "completion_tokens": 3}, (None, 3, None)),
        ({"prompt_tokens": 12.0, "completion_tokens": 3}, (None, 3, None)),
        ({"prompt_tokens": 12, "completion_tokens": {}}, (12, None, None)),
        ({"prompt_tokens": 12, "completion_tokens": -1}, (12, None, None)),
        ({"prompt_tokens": True, "completion_tokens": None}, (None, None, None)),
        ({"prompt_tokens": 12, "completion_tokens": 3, "completion_tokens_details": []}, (12, 3, None)),
        ({"prompt_tokens": 12, "completion_tokens_details": {"reasoning_tokens": "4"}}, (12, None, None)),
        ("many", (None, None, None)),
        ([], (None, None, None)),
        (None, (None, None, None)),
    ],
)
def test_an_odd_usage_is_unknown_and_costs_no_answer(server: ScriptedServer, usage: Any, counts: Any) -> None:
    for odd in (Reply({**GOOD, "usage": usage}), stream(piece(content="yes"), piece("stop"), {"usage": usage})):
        _, second, _ = odd_one_out(server, odd, lambda asked: chat("yes"))
        assert (second.text, second.error) == ("yes", None)
        assert (second.prompt_tokens, second.completion_tokens, second.reasoning_tokens) == counts


@pytest.mark.parametrize(
    "reply",
    [
        chat("half an answ", "error"),
        chat("half", "network_error"),
        chat("half", "insufficient_system_resource"),
        chat("half", "sensitive"),
        chat("half", "abort"),
        chat("half", "something new"),
        Reply({"choices": [{"message": {"content": "half"}, "error": {"code": 502, "message": "upstream is gone"}}]}),
        Reply({"error": {"message": "overloaded"}, "choices": [{"message": {"content": "half"}}]}),
        Reply({"choices": [{"message": None, "finish_reason": "stop"}]}),
        completion("no chat"),
    ],
)
def test_a_failure_inside_a_reply_is_tried_again_and_then_fails_the_sample(
    server: ScriptedServer, reply: Reply
) -> None:
    first, second, last = odd_one_out(server, reply, lambda asked: chat("yes"))
    assert (first.text, last.text) == ("yes", "yes")
    assert second.text is None and second.error is not None and "tried 2 times" in second.error
    server.script(reply, chat("42"))
    server.asked.clear()
    assert answers(make(server), [ask()])[0].text == "42"


@pytest.mark.parametrize(
    "reply",
    [
        chat("half", "content_filter"),
        chat(None, "content_filter"),
        Reply({"choices": [{"message": None, "finish_reason": "content_filter"}]}),
        chat(None, refusal='{"score": 5}'),
        Reply({"error": {"code": "content_filter", "message": "The response was filtered"}}, 400),
        Reply({"error": {"code": "data_inspection_failed", "message": "Input data may contain..."}}, 400),
        Reply({"error": {"message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}, 400),
    ],
)
def test_what_was_refused_is_no_answer_and_is_counted_so(server: ScriptedServer, reply: Reply) -> None:
    _, second, _ = odd_one_out(server, reply, lambda asked: chat("yes"))
    assert second.text is None and second.error is not None and second.finish_reason == "refused"
    assert len(server.asked) == 3


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos", "end_turn", "stop_sequence", "FINISH_REASON_STOP"])
def test_every_spelling_of_an_end_is_one(server: ScriptedServer, reason: str) -> None:
    server.script(chat("42", reason))
    assert answers(make(server), [ask()])[0].finish_reason == "stop"


def stream(*events: Any, end: str = "data: [DONE]\n\n") -> Reply:
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return Reply((": keep-alive\n\n" + lines + end).encode(), headers={"Content-Type": "text/event-stream"})


def piece(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta, "finish_reason": finish_reason}]}


def test_a_server_that_only_streams_is_asked_for_streams(server: ScriptedServer) -> None:
    pieces = [piece(role="assistant", reasoning_content="hm"), piece(content="4"), piece(content="2"), piece("stop")]

    def reply(asked: Asked) -> Reply:
        if not asked.body.get("stream"):
            return Reply({"error": {"message": "parameter.x must be false for non-streaming calls"}}, 400)
        return stream(*pieces, {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})

    server.answer = reply
    first, second = answers(make(server), [ask(), ask("again")])
    assert (first.text, first.reasoning, first.finish_reason, first.prompt_tokens) == ("42", "hm", "stop", 5)
    assert second.text == "42" and len(server.asked) == 3  # it is known by then


@pytest.mark.parametrize(
    "broken",
    [
        stream(piece(content="4"), end=""),
        stream(piece(content="4"), {"error": {"message": "worker died"}}),
        stream(piece(content="4"), piece("error")),
        stream(piece(content=4), piece("stop")),
        Reply(b"data: {not json\n\n", headers={"Content-Type": "text/event-stream"}),
        stream({"choices": [5]}),
    ],
)
def test_a_stream_that_breaks_off_is_no_answer(server: ScriptedServer, broken: Reply) -> None:
    first, second, last = odd_one_out(server, broken, lambda asked: chat("yes"), stream=True)
    assert (first.text, last.text) == ("yes", "yes")
    assert second.text is None and second.error is not None


EVENTS = {"Content-Type": "text/event-stream"}
OTHER = {"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "odd",
    [
        Reply({"choices": [{"index": 1, "message": {"content": "no"}}, {**GOOD["choices"][0], "index": 0}]}),
        Reply({"choices": [{**GOOD["choices"][0], "logprobs": {"content": "none"}}]}),
        stream({"choices": [OTHER, piece(content="ye")["choices"][0]]}, piece(content="s"), piece("stop")),
        Reply(
            b"\xef\xbb\xbf" + b"data: " + json.dumps(piece("stop", content="yes")).encode() + b"\n\ndata: [DONE]\n\n",
            headers=EVENTS,
        ),
        stream(piece(content="yes"), piece("stop"), end="data: [DONE]\r\n\r\n"),
    ],
)
def test_what_stands_beside_an_answer_changes_nothing_of_it(server: ScriptedServer, odd: Reply) -> None:
    """Other choices, log-probabilities that nobody asked for, a mark of the byte order."""
    _, second, _ = odd_one_out(server, odd, lambda asked: chat("yes"))
    assert (second.text, second.error) == ("yes", None)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"])
def test_a_line_separator_in_a_streamed_text_ends_no_line(server: ScriptedServer, character: str) -> None:
    event = {"choices": [{"delta": {"content": f"one{character}two"}, "finish_reason": "stop"}]}
    body = f"data: {json.dumps(event, ensure_ascii=False)}\n\ndata: [DONE]\n\n".encode()
    server.script(Reply(body, headers={"Content-Type": "text/event-stream"}))
    assert answers(make(server), [ask()])[0].text == f"one{character}two"


FORTY = {"reasoning_tokens": 40}


@pytest.mark.parametrize(
    ("usage", "completed", "reasoned", "cached"),
    [
        ({"completion_tokens": 50, "total_tokens": 60, "completion_tokens_details": FORTY}, 50, 40, None),
        ({"completion_tokens": 10, "total_tokens": 60, "completion_tokens_details": FORTY}, 50, 40, None),
        ({"completion_tokens": 10, "completion_tokens_details": {}, "reasoning_tokens": 4}, 10, 4, None),
        ({"completion_tokens": 10, "prompt_tokens_details": {}, "cached_tokens": 8}, 10, None, 8),
        ({"completion_tokens": 10, "prompt_tokens_details": None, "prompt_cache_hit_tokens": 0}, 10, None, 0),
    ],
)
def test_tokens_are_counted_wherever_a_server_puts_them(
    usage: dict[str, Any], completed: int, reasoned: int | None, cached: int | None
) -> None:
    """The second is of a server whose completion tokens leave those of the reasoning out, which are paid for too."""
    read = ReplyUsage.model_validate({"prompt_tokens": 10, **usage})
    assert (read.prompted, read.completed, read.reasoned, read.cached) == (10, completed, reasoned, cached)


def test_a_part_that_is_more_than_the_whole_stands_beside_it() -> None:
    """Of servers that count tokens from the cache, or of the reasoning, apart: no cost is below nothing."""
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 90}}
    read = ReplyUsage.model_validate({**usage, "completion_tokens_details": {"reasoning_tokens": 40}})
    assert (read.prompted, read.cached, read.completed, read.reasoned) == (100, 90, 45, 40)
    by_total = ReplyUsage.model_validate(
        {"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 5, "total_tokens": 19}
    )
    assert (by_total.prompted, by_total.cached) == (14, 4)


def test_an_answer_that_was_withheld_is_paid_for(server: ScriptedServer) -> None:
    server.script(chat("half", "content_filter"))
    refused = answers(make(server), [ask()])[0]
    assert (refused.finish_reason, refused.prompt_tokens, refused.completion_tokens) == ("refused", 7, 3)
