"""Functions are offered to models in their own way, and what they call comes back as text; nothing is executed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from openai_asking import answer, answers, make
from scripted_server import Reply, ScriptedServer, chat, error

from harness import GenerationParams, Message, Model, ModelError, Prompt, Request, Response, UsageError
from harness.engine import ChatTemplate
from harness.registry import load_plugins
from harness.run.prepare import check_abilities
from harness.run.sample_facts import SampleFacts
from harness.scoring import ToolCall, read_calls
from harness.testing import tiny_tokenizer
from harness.types import Sample

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
PROMPT = Prompt(messages=(Message("user", "Is it warm?"),), tools=json.dumps(TOOLS))
ASKED = Request("generate", PROMPT, generation=GenerationParams(max_new_tokens=8))
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "北京"}'}}


def test_an_api_is_offered_them_and_its_own_calls_are_read(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat(None, "tool_calls", tool_calls=[CALL, CALL])
    response = answer(make(server), ASKED)
    assert server.asked[-1].body["tools"] == TOOLS
    assert read_calls(response.text or "") == (ToolCall("weather", {"city": "北京"}),) * 2


def test_calls_that_come_in_pieces_are_joined(server: ScriptedServer) -> None:
    parts: list[dict[str, Any]] = [
        {"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ' "北京"}'}}]},
    ]
    events = [{"choices": [{"delta": part}]} for part in parts] + [
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    server.answer = lambda asked: Reply(body.encode(), headers={"Content-Type": "text/event-stream"})
    response = answer(make(server), ASKED)
    assert read_calls(response.text or "") == (ToolCall("weather", {"city": "北京"}),)


def test_a_call_by_its_older_name_is_read_whole_and_in_pieces(server: ScriptedServer) -> None:
    parts: list[dict[str, Any]] = [
        {"name": "weather", "arguments": ""},
        {"arguments": '{"city": '},
        {"arguments": '"北京"}'},
    ]
    events = [{"choices": [{"delta": {"function_call": part}}]} for part in parts]
    events.append({"choices": [{"delta": {}, "finish_reason": "function_call"}]})
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    streamed = Reply(body.encode(), headers={"Content-Type": "text/event-stream"})
    server.script(chat(None, "function_call", function_call=CALL["function"]), streamed)
    for response in answers(make(server), [ASKED, ASKED]):
        assert read_calls(response.text or "") == (ToolCall("weather", {"city": "北京"}),)


@pytest.mark.parametrize(
    "said",
    [
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "tools param requires --jinja flag",
        "registry.ollama.ai/library/small does not support tools",
        "Unrecognized request argument supplied: tools",
        '[{"loc": ["body", "tools"], "msg": "Extra inputs are not permitted"}]',
    ],
)
def test_a_server_that_takes_no_functions_is_not_asked_without(server: ScriptedServer, said: str) -> None:
    server.answer = lambda asked: error(400, said)
    with pytest.raises(ModelError, match="start the server so that it takes `tools`"):
        answers(make(server), [ASKED] * 4)
    server.script(error(400, "tools[0].function.parameters: 'date' is not supported"), chat("Yes."))
    first, second = answers(make(server), [ASKED] * 2)
    assert "start the server" not in str(first.error) and second.text == "Yes."


def test_what_functions_returned_goes_back_to_an_api_with_the_calls_that_asked_for_it(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("Yes.")
    said = 'I look.\n<tool_call>{"name": "weather", "arguments": {"city": "北京"}}</tool_call>'
    turns = (*PROMPT.messages, Message("assistant", said), Message("tool", "warm"))
    answer(make(server), replace(ASKED, prompt=replace(PROMPT, messages=turns)))
    _, called, returned = server.asked[-1].body["messages"]
    (call,) = called["tool_calls"]
    assert (called["content"], call["function"]) == ("I look.", {"name": "weather", "arguments": '{"city": "北京"}'})
    assert returned == {"role": "tool", "content": "warm", "tool_call_id": call["id"], "name": "weather"}


def test_a_server_that_answers_in_words_has_called_nothing(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("Yes, it is.")
    assert read_calls(answer(make(server), ASKED).text or "") == ()


def test_a_chat_template_shows_them_or_is_refused() -> None:
    turns = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</>{% endfor %}"
    shows = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}" + turns
    tokenizer = tiny_tokenizer()
    assert '"name": "weather"' in ChatTemplate(tokenizer, shows, {}, "the model").render(PROMPT)
    with pytest.raises(UsageError, match="shows no functions"):
        ChatTemplate(tokenizer, turns, {}, "the model").render(PROMPT)


def test_a_template_that_wants_calls_by_themselves_gets_them_so() -> None:
    shows = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% for m in messages %}"
    plain = shows + "<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    strict = shows + (
        "{% if m.role == 'tool' and not loop.previtem.tool_calls %}{{ raise_exception('no call') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}[{{ c.function.name }} "
        "{{ c.function.arguments.city }} {{ c.id }}]{% endfor %}{{ m.tool_call_id }}</>{% endfor %}"
    )
    said = 'I look.<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
    called = Message("assistant", said, call=("weather", '{"city": "Rome"}'))
    prompt = replace(PROMPT, messages=(*PROMPT.messages, called, Message("tool", "dry")))
    tokenizer = tiny_tokenizer()
    assert f"<assistant>{said}</><tool>dry</>" in ChatTemplate(tokenizer, plain, {}, "it").render(prompt)
    shown = ChatTemplate(tokenizer, strict, {}, "it").render(prompt)
    assert "<assistant>I look.[weather Rome call00001]</><tool>drycall00001</>" in shown
    deaf = shows + "{% if m.role != 'tool' %}{{ m.content }}{% endif %}{% endfor %}"
    with pytest.raises(UsageError, match="drops the text of a turn"):
        ChatTemplate(tokenizer, deaf, {}, "it").render(prompt)


def test_a_model_that_cannot_be_offered_any_is_refused() -> None:
    class Plain(Model):
        name = "plain"
        supports: ClassVar = frozenset({"generate"})
        identity: ClassVar = {}

        def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
            yield from ()

    with pytest.raises(UsageError, match="cannot be offered functions"):
        asked = SampleFacts.of([Sample("bfcl", "", 0, {}, (ASKED,), "x")])
        check_abilities(Plain(), "plain", {"bfcl": asked}, load_plugins())
