"""Kinds of servers by name, each scripted with its own habits: what it calls otherwise, drops, or cannot do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from openai_asking import answer, ask, make
from scripted_server import Asked, Reply, ScriptedServer, chat, completion

from harness import GenerationParams, Message, ModelOptions, Prompt, Request, UsageError
from harness.testing import tiny_tokenizer
from harness_plugins.models.openai import OpenAIModel
from harness_plugins.models.openai.flavours import FLAVOURS

OWNERS = {each.name: each.owner for each in FLAVOURS.values() if each.owner}
SCORED = Request("loglikelihood", Prompt("The capital of 法国 is"), (" Paris", " Rome"))
SAMPLED = ask(do_sample=True, temperature=0.7, extra=(("repetition_penalty", 1.2),))


def is_a(server: ScriptedServer, flavour: str) -> None:
    """Let the server's list of models say what it is."""
    server.models = Reply({"data": [{"id": "small", "object": "model", "owned_by": OWNERS[flavour]}]})


def body(server: ScriptedServer) -> dict[str, Any]:
    return server.asked[-1].body


@pytest.mark.parametrize("flavour", OWNERS)
def test_what_a_server_is_shows_in_its_list_of_models(server: ScriptedServer, flavour: str) -> None:
    is_a(server, flavour)
    model = make(server)
    assert answer(model, ask()).text == "yes" and model.describe()["flavour"] == flavour
    told = make(server, flavour=flavour)
    assert told.identity["flavour"] == flavour and "flavour" not in model.identity


@pytest.mark.parametrize("owner", ["openai", None, 7, "llamacpp2"])
def test_a_server_that_nobody_knows_is_asked_as_before(server: ScriptedServer, owner: Any) -> None:
    server.models = Reply({"data": [{"id": "small", "owned_by": owner}]})
    model = make(server)
    assert answer(model, SAMPLED).text == "yes" and model.describe()["flavour"] == "openai"
    assert body(server)["repetition_penalty"] == 1.2 and "top_k" not in body(server)


@pytest.mark.parametrize(
    ("owners", "model", "flavour"),
    [
        ({"small:latest": "library", "hf.co/a/b:Q4": "a"}, "small:latest", "ollama"),
        ({"small:latest": "library", "hf.co/a/b:Q4": "a"}, "hf.co/a/b:Q4", "ollama"),
        ({"small:latest": "library", "hf.co/a/b:Q4": "a"}, "small", "ollama"),  # it adds the tag itself
        ({"small": "vllm", "gpt": "openai"}, "small", "vllm"),  # a gateway to several
        ({"small": "vllm", "gpt": "openai"}, "gpt", "openai"),
        ({"small": "vllm", "gpt": "openai"}, "other", "openai"),
        ({"small:latest": "library", "gpt": "openai"}, "gpt", "openai"),
    ],
)
def test_the_entry_of_the_model_says_what_its_server_is(
    server: ScriptedServer, owners: dict[str, str], model: str, flavour: str
) -> None:
    server.models = Reply({"data": [{"id": name, "owned_by": owner} for name, owner in owners.items()]})
    asked = make(server, model=model)
    assert answer(asked, ask()).text == "yes" and asked.describe()["flavour"] == flavour


def test_an_unknown_flavour_is_refused_with_the_list(server: ScriptedServer) -> None:
    said = "flavour must be one of auto, openai, vllm, sglang, llama.cpp, ollama, lmdeploy, tensorrt_llm, not 'lama'"
    with pytest.raises(UsageError, match=re.escape(said)):
        make(server, flavour="lama")


def test_llama_cpp_samples_as_the_run_says_and_not_by_its_own_defaults(server: ScriptedServer) -> None:
    is_a(server, "llama.cpp")
    answer(make(server), SAMPLED)
    assert "repetition_penalty" not in body(server)
    assert {name: body(server)[name] for name in ("repeat_penalty", "top_k", "min_p", "top_p", "temperature")} == {
        "repeat_penalty": 1.2, "top_k": 0, "min_p": 0.0, "top_p": 1.0, "temperature": 0.7,
    }  # fmt: skip
    answer(make(server), ask(do_sample=True, top_k=5))
    assert body(server)["top_k"] == 5 and body(server)["repeat_penalty"] == 1.0
    answer(make(server), ask())
    assert body(server)["temperature"] == 0 and "min_p" not in body(server)


def test_lmdeploy_draws_from_all_tokens_unless_the_run_says_otherwise(server: ScriptedServer) -> None:
    is_a(server, "lmdeploy")
    answer(make(server), ask(do_sample=True, temperature=0.7))
    assert (body(server)["top_k"], body(server)["temperature"]) == (0, 0.7)
    answer(make(server), ask(do_sample=True, top_k=5))
    assert body(server)["top_k"] == 5
    answer(make(server), ask())
    assert "top_k" not in body(server)


@pytest.mark.parametrize("flavour", ["llama.cpp", "ollama", "lmdeploy"])
def test_servers_that_go_on_with_a_prefill_by_themselves_get_no_fields_for_it(
    server: ScriptedServer, flavour: str
) -> None:
    is_a(server, flavour)
    prompt = Prompt(messages=(Message("user", "2 + 2?"),), prefill="The answer is")
    answer(make(server), Request("generate", prompt, generation=GenerationParams()))
    assert body(server)["messages"][-1] == {"role": "assistant", "content": "The answer is"}
    assert not {"continue_final_message", "add_generation_prompt"} & body(server).keys()


def test_a_prefill_that_a_server_would_answer_anew_is_refused_with_the_ways_out(server: ScriptedServer) -> None:
    is_a(server, "tensorrt_llm")
    prompt = Prompt(messages=(Message("user", "2 + 2?"),), prefill="The answer is")
    request = Request("generate", prompt, generation=GenerationParams())
    with pytest.raises(UsageError, match=r"task 'task' begins the answer itself, which TensorRT-LLM does not go on"):
        answer(make(server), request)
    assert not server.asked
    assert answer(make(server, continue_final_message=False), request).text == "yes"
    assert not {"continue_final_message", "add_generation_prompt"} & body(server).keys()


@pytest.mark.parametrize("flavour", ["ollama", "lmdeploy"])
def test_token_ids_are_not_sent_to_a_server_that_takes_none(
    server: ScriptedServer, flavour: str, tmp_path: Path
) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    is_a(server, flavour)
    args = {"api": "completions", "tokenizer": str(tmp_path), "max_length": 20}
    turns = Prompt(messages=(Message("user", "Hi"),))
    with pytest.raises(UsageError, match=rf"task 'task' is asked as a chat .* {FLAVOURS[flavour].title} takes none"):
        answer(make(server, **args), Request("generate", turns, generation=GenerationParams()))
    model = make(server, **args)
    params = GenerationParams(max_new_tokens=8)
    long = answer(model, Request("generate", Prompt("0 1 2 3 4 5 6 7 8 9 " * 5), generation=params))
    assert long.text is None and "tokens more than max_length leaves" in (long.error or "")
    assert not server.asked
    server.answer = lambda _: completion("yes")
    assert answer(model, Request("generate", Prompt("2 + 2"), generation=params)).text == "yes"
    assert body(server)["prompt"] == "2 + 2"


@pytest.mark.parametrize("flavour", ["llama.cpp", "ollama", "lmdeploy", "tensorrt_llm"])
@pytest.mark.parametrize("told", [True, False])
def test_log_likelihoods_where_a_server_gives_none_are_refused_before_anything_is_asked(
    server: ScriptedServer, flavour: str, told: bool
) -> None:
    is_a(server, flavour)
    model = make(server, api="completions", **({"flavour": flavour} if told else {}))
    with pytest.raises(UsageError, match=r"which .* does not give: .*choices=top_logprobs.*vllm_server"):
        answer(model, SCORED)
    assert not server.asked


@pytest.mark.parametrize(
    ("flavour", "extra"),
    [("ollama", ("min_p", 0.1)), ("ollama", ("repetition_penalty", 1.1)), ("lmdeploy", ("presence_penalty", 0.5))],
)
def test_what_a_server_would_drop_without_a_word_is_refused(
    server: ScriptedServer, flavour: str, extra: tuple[str, float]
) -> None:
    is_a(server, flavour)
    with pytest.raises(UsageError, match=f"task 'task': .* drops '{extra[0]}' without a word"):
        answer(make(server), ask(do_sample=True, extra=(extra,)))
    assert not server.asked
    assert answer(make(server), ask(do_sample=True, temperature=0.5, top_p=0.9)).text == "yes"


def test_sglang_is_asked_by_echo_alone(server: ScriptedServer) -> None:
    is_a(server, "sglang")

    def echo(asked: Asked) -> Reply:
        words = re.findall(r"\s*\S+", asked.body["prompt"])
        values = [None, *(-0.5 - 0.25 * n for n in range(1, len(words)))]
        top = [None if value is None else {word: value} for word, value in zip(words, values, strict=True)]
        logprobs = {"tokens": words, "token_logprobs": values, "top_logprobs": top}
        return completion(asked.body["prompt"], logprobs=logprobs)

    server.answer = echo
    response = answer(make(server, api="completions"), SCORED)
    assert response.error is None and len(response.logprobs) == 2
    assert all(asked.body.get("echo") and "prompt_logprobs" not in asked.body for asked in server.asked)


def test_thinking_is_told_in_the_servers_own_fields(server: ScriptedServer) -> None:
    chat_prompt = Request("generate", Prompt(messages=(Message("user", "2+2?"),)), generation=GenerationParams())
    for flavour, field, value in (
        ("ollama", "reasoning_effort", "none"),
        ("lmdeploy", "enable_thinking", False),
        ("llama.cpp", "chat_template_kwargs", {"enable_thinking": False, "thinking": False}),
    ):
        is_a(server, flavour)
        answer(make(server, flavour=flavour, thinking="off"), chat_prompt)
        assert body(server)[field] == value
    is_a(server, "ollama")
    with pytest.raises(UsageError, match=r"this is Ollama, which is told in fields of its own: .*flavour=ollama"):
        answer(make(server, thinking="off"), chat_prompt)
    with pytest.raises(UsageError, match="Ollama takes no budget"):
        make(server, flavour="ollama", thinking_budget=100)
    server.answer = lambda asked: chat("4", reasoning="two and two")
    response = answer(make(server, flavour="ollama", thinking="on"), chat_prompt)
    assert (response.text, response.reasoning) == ("4", "two and two")
    assert body(server)["reasoning_effort"] == "medium"


@pytest.mark.parametrize(
    ("flavour", "status", "error"),
    [
        ("llama.cpp", 400, {"error": {"code": 400, "type": "exceed_context_size_error", "n_ctx": 512,
                                      "message": "the request exceeds the available context size"}}),
        ("lmdeploy", 400, {"object": "error", "message": "the prompt is too long", "code": 400, "type": "invalid"}),
        ("tensorrt_llm", 400, {"object": "error", "message": "too many tokens", "type": "BadRequest"}),
        ("tensorrt_llm", 400, {"object": "error", "type": "BadRequestError", "param": None, "code": 400,
                               "message": "The sum of prompt length (9351.0), query length (0) should not exceed "
                                          "max_num_tokens (8192)"}),
        ("tensorrt_llm", 400, {"object": "error", "type": "BadRequestError", "param": None, "code": 400,
                               "message": "The sum of prompt length (900.0) and query length (0) max_tokens (256) "
                                          "should not exceed max_seq_len (1024)"}),
        ("ollama", 400, {"error": {"message": "input exceeds the context length", "type": "invalid_request_error"}}),
    ],
)  # fmt: skip
def test_errors_in_every_shape_say_what_is_wrong(
    server: ScriptedServer, flavour: str, status: int, error: dict[str, Any]
) -> None:
    is_a(server, flavour)
    server.answer = lambda asked: Reply(error, status)
    said = answer(make(server), ask()).error or ""
    assert "does not fit the model's window" in said and "{" not in said


def test_a_reply_of_lmdeploy_that_broke_off_is_no_answer(server: ScriptedServer) -> None:
    is_a(server, "lmdeploy")
    server.answer = lambda asked: chat("half of it", finish_reason="error" if asked.number == 0 else "stop")
    assert answer(make(server), ask()).text == "half of it" and len(server.asked) == 2


def test_all_servers_that_share_the_work_must_be_of_one_flavour(server: ScriptedServer) -> None:
    other = ScriptedServer()
    is_a(server, "ollama")
    other.models = Reply({"data": [{"id": "small", "owned_by": "vllm"}]})
    model = OpenAIModel.create({"model": "small", "base_url": [server.url, other.url], "api": "chat"}, ModelOptions())
    assert answer(model, ask()).text == "yes" and model.describe()["flavour"] == "openai"
    other.close()
