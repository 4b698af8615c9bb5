"""Servers that speak OpenAI's API: what is sent, what is read, and every way in which it can go wrong."""

from __future__ import annotations

import base64
import email.utils
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Asked, Reply, ScriptedServer, chat, completion, error

from harness import (
    GenerationParams,
    Media,
    Message,
    ModelError,
    ModelOptions,
    Prompt,
    Request,
    Response,
    Sample,
    UsageError,
)
from harness_plugins.models.openai import OpenAIModel


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def make(server: ScriptedServer | None, **args: Any) -> OpenAIModel:
    usual = {"model": "small", "api": "chat", "retry_delay": 0.001, "api_key": "sk-secret", "num_concurrent": 1}
    where = {} if server is None else {"base_url": server.url}
    return OpenAIModel.create({**usual, **where, **args}, ModelOptions())


def ask(text: str = "What?", **params: Any) -> Request:
    return Request("generate", Prompt(text), generation=GenerationParams(**params))


def sample(request: Request) -> Sample:
    return Sample("task", "", 0, {}, (request,), "x")


def answers(model: OpenAIModel, requests: Sequence[Request]) -> list[Response]:
    model.prepare()
    model.inspect_samples([sample(request) for request in requests])
    model.load()
    given = dict(model.respond(requests))
    return [given[number] for number in range(len(requests))]


def answer(model: OpenAIModel, request: Request) -> Response:
    return answers(model, [request])[0]


# What is sent.


def test_a_string_prompt_is_one_turn_by_chat_and_as_it_is_by_completions(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("c") if "chat" in asked.path else completion("t")
    assert answer(make(server), ask("你好")).text == "c"
    assert answer(make(server, api="completions"), ask("你好")).text == "t"
    first, second = server.asked
    assert (first.path, first.body["messages"]) == ("/v1/chat/completions", [{"role": "user", "content": "你好"}])
    assert (second.path, second.body["prompt"]) == ("/v1/completions", "你好")


def test_auto_takes_chat_for_chat_prompts_and_completions_for_strings(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("c") if "chat" in asked.path else completion("t")
    turns = Request("generate", Prompt(messages=(Message("system", "Be brief."), Message("user", "Hi"))))
    assert [r.text for r in answers(make(server, api="auto"), [turns, ask()])] == ["c", "t"]
    assert server.asked[0].body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_full_address_says_which_api(server: ScriptedServer) -> None:
    server.script(completion("t"))
    assert answer(make(None, base_url=f"{server.url}/completions/", api="auto"), ask()).text == "t"
    assert server.asked[0].path == "/v1/completions"


def test_greedy_is_temperature_0_and_sampling_has_its_seed(server: ScriptedServer) -> None:
    answers(
        make(server, extra_body='{"user": "me"}'),
        [ask(max_new_tokens=9), ask(do_sample=True, temperature=0.7, top_p=0.9, seed=5, extra=(("min_p", 0.1),))],
    )
    greedy, sampled = (asked.body for asked in server.asked)
    assert (greedy["temperature"], greedy["max_tokens"], greedy["model"], greedy["user"]) == (0, 9, "small", "me")
    assert "seed" not in greedy and "top_p" not in greedy
    assert (sampled["temperature"], sampled["top_p"], sampled["seed"], sampled["min_p"]) == (0.7, 0.9, 5, 0.1)
    assert "max_tokens" not in sampled


def test_completions_ask_for_256_tokens_unless_told(server: ScriptedServer) -> None:
    server.script(completion("t"))
    answer(make(server, api="completions"), ask())
    answer(make(server, api="completions", max_gen_toks=32), ask())
    assert [asked.body["max_tokens"] for asked in server.asked] == [256, 32]


def test_fields_that_a_server_refuses_can_be_omitted(server: ScriptedServer) -> None:
    answer(make(server, omit="temperature+stop"), ask(until=("\n",)))
    assert {"temperature", "stop"}.isdisjoint(server.asked[0].body)


def test_images_go_as_data_urls_between_the_texts(server: ScriptedServer) -> None:
    picture = Media("image", "abc", b"\xff\xd8\xff jpeg")
    turn = Message("user", ("Look: ", picture, " What is it?"))
    answer(make(server, api="auto"), Request("generate", Prompt(messages=(turn,))))
    before, image, after = server.asked[0].body["messages"][0]["content"]
    assert (before["text"], after["text"]) == ("Look: ", " What is it?")
    head, data = image["image_url"]["url"].split(",")
    assert head == "data:image/jpeg;base64" and base64.b64decode(data) == picture.data


def test_a_prefill_is_the_last_turn_of_the_assistant(server: ScriptedServer) -> None:
    request = Request("generate", Prompt(messages=(Message("user", "2+2?"),), prefill="The answer is"))
    answer(make(server), request)
    answer(make(server, continue_final_message=False), request)
    with_flags, without = (asked.body for asked in server.asked)
    assert with_flags["messages"][-1] == {"role": "assistant", "content": "The answer is"}
    assert with_flags["continue_final_message"] is True and with_flags["add_generation_prompt"] is False
    assert "continue_final_message" not in without


def test_the_limit_goes_by_the_name_that_the_server_knows(server: ScriptedServer) -> None:
    def reply(asked: Asked) -> Reply:
        if "max_tokens" in asked.body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return chat("yes")

    server.answer = reply
    given = answers(make(server), [ask(max_new_tokens=5), ask(max_new_tokens=6)])
    assert [response.text for response in given] == ["yes", "yes"]
    assert [asked.body.get("max_completion_tokens") for asked in server.asked] == [None, 5, 6]


def test_the_key_goes_to_the_server_and_nowhere_else(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    model = make(server, headers={"X-Project": "p"})
    server.script(chat("yes"), error(400, "your key sk-secret is odd"))
    fine, refused = answers(model, [ask(), ask()])
    assert server.asked[0].headers["Authorization"] == "Bearer sk-secret"
    assert server.asked[0].headers["X-Project"] == "p"
    assert refused.error is not None and "***" in refused.error
    said = json.dumps([dict(model.identity), dict(model.describe()), fine.text, refused.error])
    assert "sk-secret" not in said
    assert "api_key" in model.secrets


def test_the_key_is_taken_from_the_environment(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    answer(make(server, api_key=None), ask())
    assert server.asked[0].headers["Authorization"] == "Bearer sk-env"


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert answer(make(server), ask()).text == "yes"


# What is read.


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
        (chat(None, refusal="I will not."), "I will not.", "stop"),
        (Reply({"choices": [{"message": {"content": [{"type": "text", "text": "in parts"}]}}]}), "in parts", None),
    ],
)
def test_unusual_replies(server: ScriptedServer, reply: Reply, text: str, reason: str | None) -> None:
    server.script(reply)
    response = answer(make(server), ask())
    assert (response.text, response.finish_reason, response.error) == (text, reason, None)


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


# What goes wrong and may pass.


@pytest.mark.parametrize(
    "failure",
    [
        error(500),
        error(503),
        error(429),
        error(408),
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


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_obeyed(server: ScriptedServer, as_date: bool) -> None:
    waited: list[float] = []
    wish = email.utils.formatdate(time.time() + 120, usegmt=True) if as_date else "120"
    server.script(error(429, Retry_After=wish), chat("yes"))
    model = make(server)
    start = time.monotonic()

    def wait_until(moment: float, deadline: float) -> bool:
        waited.append(moment - start)
        return moment < deadline

    model._client._wait_until = wait_until  # type: ignore[method-assign]
    assert answer(model, ask()).text == "yes"
    assert 110 < max(waited) < 125


def test_a_retry_after_beyond_all_patience_is_not_waited_for(server: ScriptedServer) -> None:
    server.script(error(429, "come back tomorrow", Retry_After="86400"))
    response = answer(make(server), ask())
    assert response.error == "status 429: come back tomorrow (tried 1 times)"


def test_pauses_grow_and_vary(server: ScriptedServer) -> None:
    pauses: list[float] = []
    server.script(error(500))
    model = make(server, retry_delay=1.0, max_retries=8)
    model._client._stopped.wait = lambda seconds: pauses.append(seconds) or False  # type: ignore[method-assign]
    answer(model, ask())
    real = [pause for pause in pauses if pause > 0]
    assert len(real) == 8
    assert all(0.5 * 2**n - 0.1 <= pause <= min(60, 2**n) for n, pause in enumerate(real) if n < 6)
    assert max(real) <= 60


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


# What goes wrong and will not pass.


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_fails_alone_and_is_not_repeated(server: ScriptedServer, status: int) -> None:
    server.script(error(status, "no such field"), chat("fine"))
    refused, fine = answers(make(server), [ask(), ask()])
    assert refused.error == f"status {status}: no such field"
    assert fine.text == "fine" and len(server.asked) == 2


def test_a_prompt_that_is_too_long_is_called_so(server: ScriptedServer) -> None:
    server.script(error(400, "This model's maximum context length is 8192 tokens, you requested 9000"))
    assert str(answer(make(server), ask()).error).startswith("the prompt does not fit the model's window")


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "OPENAI_API_KEY"), (403, "api_key="), (404, "model="), (405, "base_url=")]
)
def test_a_wrong_key_model_or_address_ends_the_run(server: ScriptedServer, status: int, remedy: str) -> None:
    server.script(error(status, "nope"))
    with pytest.raises(ModelError, match=rf"{status}: nope.*{remedy}") as caught:
        answers(make(server), [ask() for _ in range(20)])
    assert server.url in str(caught.value) and "\n" not in str(caught.value)
    assert len(server.asked) == 1


def test_a_missing_model_is_told_what_there_is(server: ScriptedServer) -> None:
    server.script(error(404, "no model 'smal'"))
    with pytest.raises(ModelError, match="the server has small"):
        answer(make(server, model="smal"), ask())


def test_an_exhausted_quota_is_not_waited_for(server: ScriptedServer) -> None:
    server.script(Reply({"error": {"message": "no more", "code": "insufficient_quota"}}, 429))
    with pytest.raises(ModelError, match="no quota left"):
        answer(make(server), ask())


def test_a_moderated_prompt_fails_alone(server: ScriptedServer) -> None:
    server.script(chat("fine"), error(403, "flagged"), chat("fine"))
    first, flagged, last = answers(make(server), [ask(), ask(), ask()])
    assert flagged.error == "status 403: flagged" and (first.text, last.text) == ("fine", "fine")


def test_a_server_that_moved_is_named(server: ScriptedServer) -> None:
    server.script(Reply({}, 301, {"Location": "https://elsewhere/v1"}))
    with pytest.raises(ModelError, match=r"301: https://elsewhere/v1.*base_url="):
        answer(make(server), ask())


def test_a_server_that_was_never_there_is_named_before_anything_runs() -> None:
    scripted = ScriptedServer()
    scripted.close()
    with pytest.raises(UsageError, match=rf"cannot reach {scripted.url}: .*refused.*is the server running"):
        make(scripted).load()


def test_a_wrong_key_is_noticed_before_anything_runs(server: ScriptedServer) -> None:
    server.models = error(401, "who are you?")
    with pytest.raises(ModelError, match="401: who are you"):
        make(server).load()


@pytest.mark.parametrize("models", [error(404), error(403), error(500), Reply(b"hello"), Reply({"data": None})])
def test_a_server_without_a_list_of_models_is_fine(server: ScriptedServer, models: Reply) -> None:
    server.models = models
    assert answer(make(server), ask()).text == "yes"


def test_a_server_that_dies_ends_the_run_after_what_was_done(server: ScriptedServer) -> None:
    def reply(asked: Asked) -> Reply:
        return chat("yes") if asked.number < 4 else Reply({}, cut=0)

    server.answer = reply
    model = make(server, max_retries=1)
    model.load()
    given = []
    with pytest.raises(ModelError, match=r"does not answer \(3 requests in a row\).*the same command goes on"):
        for item in model.respond([ask() for _ in range(1000)]):
            given.append(item)
    assert [response.text for _, response in given[:4]] == ["yes"] * 4
    assert len(given) == 6 and len(server.asked) == 4 + 3 * 2


def test_a_server_that_only_fails_ends_the_run(server: ScriptedServer) -> None:
    server.script(error(500, "CUDA error"))
    with pytest.raises(ModelError, match=r"does not answer.*CUDA error"):
        answers(make(server, max_retries=0), [ask() for _ in range(100)])
    assert len(server.asked) == 3


def test_one_bad_sample_after_another_does_not_end_a_run_that_works(server: ScriptedServer) -> None:
    server.answer = lambda asked: error(500) if asked.number % 20 else chat("yes")
    given = answers(make(server, max_retries=0), [ask() for _ in range(40)])
    assert sum(response.error is not None for response in given) == 38
    server.answer = lambda asked: error(500) if asked.number > 40 else chat("yes")
    with pytest.raises(ModelError, match=r"does not answer \(30 requests in a row\)"):
        answers(make(server, max_retries=0), [ask() for _ in range(100)])


# What cannot be asked at all.


def test_log_likelihoods_by_chat_are_refused_before_anything_runs(server: ScriptedServer) -> None:
    request = Request("loglikelihood", Prompt("?"), ("A", "B"))
    model = make(server)
    assert model.supports == {"generate"}
    with pytest.raises(UsageError, match="task 'task' needs log-likelihoods"):
        answer(model, request)
    assert server.asked == []


def test_chat_prompts_by_completions_need_a_tokenizer(server: ScriptedServer) -> None:
    request = Request("generate", Prompt(messages=(Message("user", "?"),)))
    with pytest.raises(UsageError, match="tokenizer="):
        answer(make(server, api="completions"), request)


def test_images_by_completions_are_refused(server: ScriptedServer) -> None:
    request = Request("generate", Prompt("?", media=(Media("image", "abc", b"x"),)))
    with pytest.raises(UsageError, match="images"):
        answer(make(server, api="completions"), request)


def test_openai_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        make(None, api_key=None).load()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"base_url": "localhost:8000"}, "http://"),
        ({"api": "grpc"}, "auto, chat, completions"),
        ({"num_concurrent": 0}, "num_concurrent"),
        ({"num_concurrent": 1.5}, "num_concurrent"),
        ({"timeout": "soon"}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"extra_body": "{"}, "extra_body"),
        ({"headers": "[1]"}, "headers"),
        ({"max_length": 100}, "tokenizer"),
        ({"modle": "x"}, "modle"),
        ({"logprobs": "yes"}, "logprobs"),
    ],
)
def test_wrong_arguments_are_refused(args: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        make(None, **args)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokenizer=.*cannot be read"):
        make(None, tokenizer=str(tmp_path)).prepare()


# Many at once.


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
