"""Thinking: switched by template or server, bounded by a budget, and never taken for an answer where it was cut."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import stand_in_vllm
from openai_asking import answer, answers, ask, make
from scripted_server import ScriptedServer, chat

from harness import GenerationParams, Message, Model, ModelOptions, Prompt, Request, Response, Sample, UsageError
from harness.registry import load_plugins
from harness.scoring import Scorer
from harness.testing import run_harness, tiny_causal_lm
from harness.thinking import Thinking
from harness.types import FilterPipeline, FilterStep, MetricSpec, ScoringSpec
from harness_plugins.models.hf import HuggingFace
from harness_plugins.models.vllm import VLLMModel

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
SWITCHED = (
    TURNS
    + "{% if enable_thinking is defined and enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
)
ALWAYS = TURNS + "<think>\n"
EFFORT = TURNS.replace("{% for", "Reasoning: {{ reasoning_effort or 'medium' }}\n{% for", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("thinking") / "model", hidden=128)


def request(text: str = "1 + 1 =", **params: Any) -> Request:
    return Request(
        "generate",
        Prompt(messages=(Message("user", text),)),
        generation=GenerationParams(**{"max_new_tokens": 40, **params}),
    )


def prepared(kind: type[Model], folder: Path, asked: Sequence[Request], **args: Any) -> Model:
    model = kind.create({"pretrained": str(folder), "dtype": "float32", **args}, ModelOptions(device="cpu"))
    model.prepare()
    model.inspect_samples([Sample("t", "", n, {}, (each,), "x") for n, each in enumerate(asked)])
    return model


@pytest.mark.parametrize(
    ("template", "args", "ends"),
    [
        (SWITCHED, {"thinking": "on"}, "<think>\n"),
        (SWITCHED, {"thinking": "off"}, "</think>\n\n"),
        (SWITCHED.replace("enable_thinking", "thinking"), {"thinking": "on"}, "<think>\n"),
        (ALWAYS, {"thinking": "on"}, "<think>\n"),
        (EFFORT, {"reasoning_effort": "high"}, "assistant\n"),
    ],
)
def test_a_template_is_told(folder: Path, template: str, args: dict[str, Any], ends: str) -> None:
    model = prepared(HuggingFace, folder, [request()], chat_template=template, **args)

    shown = model.render(request().prompt)
    assert shown.rstrip().endswith(ends.rstrip())
    assert "reasoning_effort" not in args or shown.startswith("Reasoning: high")
    assert "thinking" in str(model.identity)


@pytest.mark.parametrize(
    ("template", "args", "message"),
    [
        (TURNS, {"thinking": "on"}, "the chat template knows no reasoning"),
        (TURNS, {"thinking": "off"}, "cannot switch it off: it reads none of enable_thinking, thinking"),
        (ALWAYS, {"thinking": "off"}, "always opens reasoning"),
        (SWITCHED, {"reasoning_effort": "high"}, "does not read reasoning_effort"),
        (SWITCHED, {"thinking_budget": 40}, "leaves no token for an answer of at most 40 tokens"),
        (SWITCHED, {"thinking": "onn"}, "did you mean 'on'"),
        (
            SWITCHED,
            {"chat_template_args": {"enable_thinkin": True}},
            "reads no variable 'enable_thinkin'; did you mean 'enable_thinking'",
        ),
        (SWITCHED, {"thinking": "off", "thinking_budget": 4}, "there is no reasoning to bound"),
    ],
)
def test_what_a_template_cannot_do_is_refused_before_weights_load(
    folder: Path, template: str, args: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        prepared(HuggingFace, folder, [request()], chat_template=template, **args)


def test_variables_of_a_template_stand_beside_those_that_switch_reasoning(server: ScriptedServer) -> None:
    told = {"chat_template_kwargs": {"style": "full"}, "user": "me"}
    answer(make(server, thinking="on", thinking_dialect="template", extra_body=told), ask())
    variables = server.asked[0].body["chat_template_kwargs"]
    assert (
        variables == {"enable_thinking": True, "thinking": True, "style": "full"}
        and server.asked[0].body["user"] == "me"
    )


def test_prompts_without_a_template_cannot_be_told(folder: Path) -> None:
    plain = Request("generate", Prompt("1 + 1 ="), generation=GenerationParams(max_new_tokens=40))
    with pytest.raises(UsageError, match="add --apply_chat_template"):
        prepared(HuggingFace, folder, [plain], chat_template=SWITCHED, thinking="on")


def test_options_behind_thinking_are_refused_and_scored_with_thinking_off(folder: Path) -> None:
    options = Request("loglikelihood", Prompt(messages=(Message("user", "2 + 2 ="),)), (" 4", " 5"))
    with pytest.raises(UsageError, match=r"opens reasoning \(<think>\).*--thinking off"):
        prepared(HuggingFace, folder, [options], chat_template=SWITCHED, thinking="on")
    prepared(HuggingFace, folder, [options], chat_template=SWITCHED, thinking="off")


@pytest.mark.parametrize("kind", [HuggingFace, pytest.param(VLLMModel, marks=pytest.mark.slow)])
def test_reasoning_is_ended_at_its_budget(folder: Path, kind: type[Model], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both backends write the same tokens up to the budget, close the block there, and go on to an answer."""
    if find_spec("vllm") is None:
        monkeypatch.setitem(sys.modules, "vllm", stand_in_vllm)
    asked = [request(text, until=("\n\n",)) for text in ("1 + 1 =", "Question: 苹果?", "The quick")]
    args = {} if kind is HuggingFace else {"enforce_eager": True, "gpu_memory_utilization": 0.15}
    free = prepared(kind, folder, asked, chat_template=ALWAYS, **args)
    free.load()
    whole = dict(free.respond(asked))
    free.close()
    model = prepared(kind, folder, asked, chat_template=ALWAYS, thinking_budget=8, **args)
    model.load()
    given = dict(model.respond(asked))
    model.close()

    tokenizer = tiny_tokens(folder)
    ending = len(tokenizer.encode("\n</think>\n\n"))
    for index, response in whole.items():
        # Never closed: no answer, all tokens were reasoning, and no stop string ended it.
        assert (response.text, response.finish_reason, response.reasoning_tokens) == ("", "length", 40)
        bounded = given[index]
        assert bounded.reasoning is not None and response.reasoning is not None
        assert response.reasoning.startswith(bounded.reasoning.strip())
        assert bounded.reasoning_tokens is not None and 8 < bounded.reasoning_tokens <= 8 + ending
        assert bounded.completion_tokens is not None and bounded.completion_tokens > bounded.reasoning_tokens
        assert bounded.text and "</think>" not in bounded.text


def tiny_tokens(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("dialect", "args", "fields"),
    [
        (
            "auto",
            {"thinking": "on", "thinking_budget": 64},
            {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}, "thinking_token_budget": 64},
        ),
        (
            "enable_thinking",
            {"thinking": "on", "thinking_budget": 64},
            {"enable_thinking": True, "thinking_budget": 64},
        ),
        ("thinking", {"thinking": "off"}, {"thinking": {"type": "disabled"}}),
        ("thinking", {"thinking_budget": 64}, {"thinking": {"type": "enabled", "budget_tokens": 64}}),
        ("reasoning", {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ("effort", {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ],
)
def test_a_server_is_told_in_its_own_fields(
    server: ScriptedServer, dialect: str, args: dict[str, Any], fields: dict[str, Any]
) -> None:
    answer(make(server, thinking_dialect=dialect, **args), ask(max_new_tokens=99))

    body = server.asked[0].body
    assert {name: body.get(name) for name in fields} == fields


def test_what_openai_cannot_be_told_is_refused() -> None:
    for args in ({"thinking": "on"}, {"thinking_budget": 10}):
        with pytest.raises(UsageError, match="--reasoning_effort"):
            make(None, base_url="https://api.openai.com/v1", **args)
    with pytest.raises(UsageError, match="use api=chat"):
        answers(make(None, base_url="http://localhost:1/v1", api="completions", thinking="on"), [ask()])


def test_a_server_that_does_not_listen_is_named(server: ScriptedServer) -> None:
    for args, reply, text in (
        ({"thinking": "off"}, chat("<think>Hm.</think>4"), "does not obey --thinking off"),
        ({"reasoning_effort": "high"}, chat("4"), "may ignore --reasoning_effort high"),
        ({"thinking": "on"}, chat("4", reasoning_content="Hm."), ""),
    ):
        server.script(reply)
        model = make(server, **args)
        answer(model, ask())
        assert [text in each["text"] for each in model.incidents()] == ([True] if text else [])


def test_a_server_that_may_have_dropped_the_functions_is_named(server: ScriptedServer) -> None:
    tools = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}])
    request = Request("generate", Prompt(messages=(Message("user", "1 + 1"),), tools=tools))
    server.script(chat("It is 2."))
    model = make(server)
    for _ in range(4):
        answer(model, request)
    assert model.incidents() == [], "to a few prompts no function may be the right answer"
    answer(model, request)
    assert "may drop `tools`" in model.incidents()[0]["text"]
    server.script(chat("[add(a=1, b=1)]"))
    model = make(server)
    answer(model, request)
    assert model.incidents() == []


def test_a_budget_of_reasoning_is_held_against_words_where_no_tokens_are_counted(server: ScriptedServer) -> None:
    server.script(chat("4", reasoning_content="so " * 200))
    model = make(server, thinking_budget=20)
    answer(model, ask())
    assert "1 of 1 answers reason for longer" in model.incidents()[0]["text"]


def test_tokens_of_reasoning_and_of_the_cache_are_counted(server: ScriptedServer) -> None:
    reply = chat("4")
    reply.body["usage"] |= {
        "completion_tokens_details": {"reasoning_tokens": 2},
        "prompt_tokens_details": {"cached_tokens": 5},
    }
    server.script(reply)

    response = answer(make(server), ask())

    assert (response.reasoning_tokens, response.cached_tokens) == (2, 5)


CUT = [
    Response("", reasoning="So the", finish_reason="length"),
    Response("<think>So the", finish_reason="length"),
    Response("<think>So the", finish_reason=None),
    Response("Well.\n<THINK>So 7", finish_reason="length"),
    Response("analysisThe user asks 7", finish_reason="length"),
]
WHOLE = [
    Response("7", reasoning="So", finish_reason="length"),
    Response("<think>So</think>7", finish_reason="length"),
    Response("7 is", finish_reason="length"),
    Response("", reasoning="So", finish_reason="stop"),
]


def scored(*responses: Response, repeats: int = 1, metric: str = "exact_match", **options: Any) -> Any:
    registry = load_plugins()
    metrics = (MetricSpec("exact_match"), *([] if metric == "exact_match" else [MetricSpec(metric, options=options)]))
    steps = (FilterStep("strip_reasoning"), FilterStep("regex", {"regex_pattern": r"(\d+)"}))
    spec = ScoringSpec("generate_until", metrics, (FilterPipeline("none", steps),))
    asked = (request(),) * len(responses)
    return Scorer(spec, registry.metric, registry.filter).score(Sample("t", "", 0, {}, asked, "7"), responses)


@pytest.mark.parametrize("response", CUT)
def test_an_answer_cut_inside_its_reasoning_is_null(response: Response) -> None:
    result = scored(response)
    assert result.scores == {"exact_match": None} and not result.unparsed and result.error is None


@pytest.mark.parametrize("response", WHOLE)
def test_an_answer_behind_its_reasoning_is_scored(response: Response) -> None:
    assert scored(response).scores["exact_match"] == float("7" in (response.text or ""))


def test_of_several_answers_those_that_came_count() -> None:
    right, wrong, cut = Response("7"), Response("8"), CUT[1]
    assert scored(right, wrong, cut).scores["exact_match"] == 0.5
    assert scored(right, cut, cut, metric="pass_at_k", k=2).scores == {"exact_match": 1.0, "pass_at_k": None}
    assert scored(right, wrong, cut, metric="pass_at_k", k=2).scores["pass_at_k"] == 1.0


def test_the_table_counts_cut_answers(server: ScriptedServer, tmp_path: Path) -> None:
    """A cut answer, one whose reasoning was taken by the server, and a whole one; by --thinking on."""
    replies = [chat("So the", "length"), chat(None, "length", reasoning_content="Hm"), chat("<think>x</think>5")]
    server.answer = lambda asked: replies[min(asked.number, 2)]
    model = f"model=small,base_url={server.url},num_concurrent=1"

    done = run_harness(
        "--tasks", "demo_arithmetic", "--model", "openai", "-a", model, "--limit", "3", "--thinking", "on",
        "--apply_chat_template", "--output", tmp_path, "--num_fewshot", "0",
    )  # fmt: skip

    lines = done.stdout.splitlines()
    header = next(line.split() for line in lines if line.startswith("task"))
    row = next(line for line in lines if line.startswith("demo_arithmetic"))
    assert header[-1] == "cut" and row.split()[-2:] == ["1", "2"]


def test_thinking_is_refused_for_a_model_that_cannot_be_told(tmp_path: Path) -> None:
    done = run_harness("--tasks", "demo_arithmetic", "--model", "dummy", "--thinking", "on", "--output", tmp_path)
    assert "--thinking: model 'dummy' cannot be told that" in done.stderr and done.exit_code == 4
    assert Thinking.of(None, None, None) == Thinking()


def test_a_reply_that_was_cut_behind_the_servers_own_opening_mark_is_no_answer(tmp_path: Path) -> None:
    """The template opens reasoning and nobody takes it off: finished replies close it, and cut ones show no mark."""
    server = ScriptedServer()
    server.answer = lambda asked: chat("I see.</think>7") if asked.number % 2 else chat("It is 7, or", "length")
    flags = ("--tasks", "demo_arithmetic", "--num_fewshot", "0", "--limit", "10", "--output", tmp_path, "--model")
    flags = (*flags, "openai", "-a", f"model=small,base_url={server.url},api=chat,num_concurrent=1")
    for again in range(2):
        done = run_harness(*flags)
        (folder,) = tmp_path.iterdir()
        (task,) = json.loads((folder / "report.json").read_text())["tasks"]
        assert (task["counts"]["cut"], task["metrics"][0]["n"], len(server.asked)) == (5, 5, 10)
        assert ("5 replies were cut inside reasoning that the server's template opens (5 of 5" in done.stderr) is (
            again == 0
        )
    records = [json.loads(line) for line in (folder / "demo_arithmetic.jsonl").read_text().splitlines()]
    assert records[0]["prompt"] and records[0]["responses"][0]["reasoning"] == "It is 7, or"
    server.close()
