"""What will not pass fails its request, or ends the run."""

from __future__ import annotations

from typing import Any

import pytest
from openai_asking import answer, answers, ask, make
from scripted_server import Asked, Reply, ScriptedServer, chat, error

from harness import (
    ModelError,
    UsageError,
)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_fails_alone_and_is_not_repeated(server: ScriptedServer, status: int) -> None:
    server.script(error(status, "no such field"), chat("fine"))
    refused, fine = answers(make(server), [ask(), ask()])
    assert refused.error == f"status {status}: no such field"
    assert fine.text == "fine" and len(server.asked) == 2


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 8192 tokens, you requested 9000",
        "The decoder prompt (length 9000) is longer than the maximum model length of 8192.",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "the request exceeds the available context size, try increasing it",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Range of input length should be [1, 129024]",
        "Invalid request: Your request exceeded model token limit: 8192",
        "Prompt 超长",
    ],
)
def test_a_prompt_that_is_too_long_is_called_so(server: ScriptedServer, said: str) -> None:
    server.script(error(400, said))
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


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, {"message": "no more", "code": "insufficient_quota"}),
        (429, {"message": "no more", "type": "insufficient_quota", "code": None}),
        (429, {"message": "no more", "type": "exceeded_current_quota_error"}),
        (429, {"message": "no more: 您的账户已欠费", "code": "1113"}),
        (402, {"message": "no more"}),
        (400, {"message": "no more", "code": "Arrearage"}),
        (429, {"message": "no more", "type": "insufficient_quota", "code": 429}),
        (200, {"message": "no more", "code": "insufficient_quota"}),
        (200, {"message": "no more", "type": "insufficient_quota", "code": 0}),
    ],
)
def test_an_account_without_money_ends_the_run_at_once(
    server: ScriptedServer, status: int, said: dict[str, str | None]
) -> None:
    server.script(chat("fine"), Reply({"error": said}, status))
    with pytest.raises(ModelError, match=rf"answers {status}: no more.*no quota left"):
        answers(make(server), [ask(), ask()])
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 429, "message": "no more: insufficient balance"}},
        {"code": "Arrearage", "message": "no more"},
        {"choices": [{"message": {"content": "ha"}, "error": {"code": "insufficient_quota", "message": "no more"}}]},
    ],
)
def test_so_does_one_whose_reply_says_so_elsewhere(server: ScriptedServer, body: dict[str, Any]) -> None:
    server.script(chat("fine"), Reply(body))
    with pytest.raises(ModelError, match=r"no more.*no quota left"):
        answers(make(server), [ask(), ask()])
    assert len(server.asked) == 2


def test_a_prompt_about_debts_and_a_limit_called_quota_end_no_run(server: ScriptedServer) -> None:
    exceeded = error(429, "You exceeded your current quota. Please retry in 0.01s.")
    server.script(error(400, "no such field in: 欠费怎么办"), exceeded, chat("fine"))
    refused, fine = answers(make(server), [ask(), ask()])
    assert str(refused.error).startswith("status 400") and fine.text == "fine"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>", 502), "502 Bad Gateway"),
        (Reply(b"<!DOCTYPE html>\n<html><style>h1 {}</style><h1>Busy</h1></html>", 502), "a web page: Busy"),
        (Reply(b"", 500), "status 500: (empty)"),
        (Reply(b""), "not usable: (empty)"),
    ],
)
def test_what_is_no_json_is_said_in_a_few_words(server: ScriptedServer, reply: Reply, said: str) -> None:
    server.script(chat("fine"), reply)
    _, failed = answers(make(server, max_retries=0), [ask(), ask()])
    assert said in str(failed.error) and "<" not in str(failed.error)


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


@pytest.mark.slow
def test_one_bad_sample_after_another_does_not_end_a_run_that_works(server: ScriptedServer) -> None:
    server.answer = lambda asked: error(500) if asked.number % 20 else chat("yes")
    given = answers(make(server, max_retries=0), [ask() for _ in range(40)])
    assert sum(response.error is not None for response in given) == 38
    server.answer = lambda asked: error(500) if asked.number > 40 else chat("yes")
    with pytest.raises(ModelError, match=r"does not answer \(30 requests in a row\)"):
        answers(make(server, max_retries=0), [ask() for _ in range(100)])
