"""The openai model asked by a batch API: what is sent, what becomes of it, and that nothing is sent twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchApi, chat_body

from harness import GenerationParams, Media, Message, ModelError, ModelOptions, Prompt, Request, Response, Sample
from harness.errors import UsageError
from harness.testing import run_harness
from harness_plugins.models.openai import OpenAIModel
from harness_plugins.models.openai import batch_asking as asking_module


@pytest.fixture
def api() -> Iterator[BatchApi]:
    server = BatchApi()
    yield server
    server.close()


def make(server: BatchApi, folder: Path, **args: Any) -> OpenAIModel:
    usual = {"model": "small", "api": "chat", "base_url": server.url, "batch_api": True, "batch_poll": 0.01}
    model = OpenAIModel.create({**usual, **args}, ModelOptions())
    model.folder = folder
    return model


def ask(text: str, **params: Any) -> Request:
    return Request("generate", Prompt(text), generation=GenerationParams(**params))


def answers(model: OpenAIModel, requests: list[Request]) -> list[Response]:
    model.inspect_samples([Sample("task", "", n, {}, (request,), "x") for n, request in enumerate(requests)])
    model.load()
    try:
        given = dict(model.respond(requests))
    finally:
        model.close()
    return [given[number] for number in range(len(requests))]


def numbered(count: int) -> list[Request]:
    return [ask(f"number {n}") for n in range(count)]


def echo(body: dict[str, Any]) -> tuple[int, Any]:
    return 200, chat_body(body["messages"][-1]["content"])


def refused(status: int, message: str) -> tuple[int, Any]:
    return status, {"error": {"message": message}}


def command(api: BatchApi, output: Path, *flags: str) -> list[str]:
    return [
        "--tasks", "demo_arithmetic", "--num_fewshot", "0", "--model", "openai", "--output", str(output),
        "-a", f"model=small,base_url={api.url},api=chat,batch_poll=0.02", "--batch_api", *flags,
    ]  # fmt: skip


@pytest.mark.slow
def test_each_question_gets_its_answer_and_costs_half(api: BatchApi, tmp_path: Path) -> None:
    done = run_harness(*command(api, tmp_path, "--limit", "20", "--prices", "in=1000000,out=2000000"))
    assert done.exit_code == 0 and len(api.batches) == 1
    assert "tokens: 140 of prompts, 60 of answers; cost 130.0000" in done.stdout
    line = api.lines(0)[0]
    assert line["method"] == "POST" and line["url"] == "/v1/chat/completions" and line["body"]["model"] == "small"
    again = run_harness(*command(api, tmp_path, "--limit", "20", "--prices", "in=1000000,out=2000000,batch=0.25"))
    assert len(api.batches) == 1 and "cost 65.0000" in again.stdout


def test_answers_go_to_their_questions_over_several_batches(api: BatchApi, tmp_path: Path) -> None:
    api.answer = echo
    given = answers(make(api, tmp_path, batch_requests=3), numbered(8))
    assert [response.text for response in given] == [f"number {n}" for n in range(8)]
    assert [len(api.lines(n)) for n in range(3)] == [3, 3, 2]
    assert all(response.by_batch for response in given)


def test_a_batch_is_no_larger_than_it_may_be(api: BatchApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "MOST_BATCH_BYTES", 1000)
    api.answer = echo
    given = answers(make(api, tmp_path), [*numbered(9), ask("x" * 2000)])
    assert [response.text for response in given[:9]] == [f"number {n}" for n in range(9)]
    assert "larger than a batch may be" in str(given[9].error)
    assert len(api.batches) > 1 and all(len(content) <= 1000 for content in list(api.files.values())[:2])


@pytest.mark.parametrize("end", ["expired", "cancelled"])
def test_what_a_batch_leaves_is_asked_anew(api: BatchApi, tmp_path: Path, end: str) -> None:
    api.answer, api.ends = echo, [end, "completed"]
    given = answers(make(api, tmp_path), numbered(6))
    assert [response.text for response in given] == [f"number {n}" for n in range(6)]
    assert [len(api.lines(n)) for n in range(2)] == [6, 3]
    assert api.posted == 6


def test_lines_of_errors_and_lines_that_are_missing(api: BatchApi, tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def answer(body: dict[str, Any]) -> tuple[int, Any] | None:
        text = body["messages"][-1]["content"]
        seen[text] = seen.get(text, 0) + 1
        if text == "number 1":
            return refused(400, "this prompt is not liked")
        if text == "number 2" and seen[text] < 3:
            return refused(500, "broken")
        if text == "number 3" and seen[text] < 2:
            return None
        if text == "number 4":
            return refused(429, "too many")
        if text == "number 5":
            return 200, {"choices": []}
        return echo(body)

    api.answer = answer
    given = answers(make(api, tmp_path, max_retries=2), numbered(7))
    assert [response.text for response in given] == ["number 0", None, "number 2", "number 3", None, None, "number 6"]
    assert "not liked" in str(given[1].error) and seen["number 1"] == 1
    assert "not answered by 3 batches" in str(given[4].error) and "too many" in str(given[4].error)
    assert seen["number 0"] == 1 and seen["number 4"] == 3 and given[5].error


def test_each_time_that_something_is_tried_again_is_said(api: BatchApi, tmp_path: Path) -> None:
    api.answer, api.busy = echo, 1
    model, said = make(api, tmp_path), []
    model.say = said.append
    assert [response.text for response in answers(model, numbered(1))] == ["number 0"]
    (again,) = [text for text in said if "asked again in" in text]
    assert "a place for a file of questions, answers 503: come back later: asked again in 0." in again


def test_a_failed_batch_names_the_lines_that_it_failed_for(api: BatchApi, tmp_path: Path) -> None:
    api.answer = echo
    api.ends = [[{"code": "invalid_body", "line": 2, "message": "body is odd", "param": None}], "completed"]
    given = answers(make(api, tmp_path), numbered(3))
    assert [response.text for response in given] == ["number 0", None, "number 2"]
    assert "body is odd" in str(given[1].error)


@pytest.mark.slow
def test_a_batch_that_fails_as_a_whole_ends_the_run_and_is_asked_anew_by_the_same_command(
    api: BatchApi, tmp_path: Path
) -> None:
    api.ends = [[{"code": "billing_hard_limit_reached", "message": "Billing limit reached."}], "completed"]
    first = run_harness(*command(api, tmp_path, "--limit", "5"))
    assert first.exit_code != 0 and "batch_0 failed: Billing limit reached." in first.stderr
    second = run_harness(*command(api, tmp_path, "--limit", "5"))
    assert second.exit_code == 0 and len(api.batches) == 2


def test_a_full_line_at_the_server_is_waited_for(api: BatchApi, tmp_path: Path) -> None:
    full = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]
    api.answer, api.ends = echo, [full, full, "completed"]
    given = answers(make(api, tmp_path), numbered(8))
    assert [response.text for response in given] == [f"number {n}" for n in range(8)]
    assert [len(api.lines(n)) for n in range(len(api.batches))] == [8, 4, 4, 2, 2]
    assert api.posted == 8


def test_a_reply_that_is_lost_begins_no_second_batch(api: BatchApi, tmp_path: Path) -> None:
    api.answer, api.lost_replies = echo, 1
    given = answers(make(api, tmp_path), numbered(3))
    assert [response.text for response in given] == [f"number {n}" for n in range(3)] and len(api.batches) == 1


def test_what_was_being_sent_is_found_at_the_server_or_asked(api: BatchApi, tmp_path: Path) -> None:
    """A kill between the two may leave a batch of which only the server knows, or none."""
    api.answer = echo
    answers(make(api, tmp_path), numbered(3))
    state = tmp_path / "batches" / "0001.json"
    fields = json.loads(state.read_text())
    (tmp_path / "batches" / "0001.jsonl").unlink()
    state.write_text(json.dumps({**fields, "batch": "", "is_over": False}))
    answers(make(api, tmp_path), numbered(3))
    assert len(api.batches) == 1
    state.write_text(json.dumps({**fields, "batch": "", "is_over": False, "file": "file_gone"}))
    answers(make(api, tmp_path), numbered(3))
    assert len(api.batches) == 2
    state.write_text(json.dumps({**fields, "batch": "", "is_over": False}))
    api.lists = False
    with pytest.raises(ModelError, match=r"remove .*0001.json to ask anew"):
        answers(make(api, tmp_path), numbered(3))


def test_another_server_or_a_damaged_note_is_one_clear_line(api: BatchApi, tmp_path: Path) -> None:
    answers(make(api, tmp_path), numbered(3))
    state = tmp_path / "batches" / "0001.json"
    fields = json.loads(state.read_text())
    state.write_text(json.dumps({**fields, "is_over": False, "server": "http://else:1/v1"}))
    with pytest.raises(UsageError, match="under way at http://else:1/v1: ask there, or remove"):
        answers(make(api, tmp_path), numbered(3))
    state.write_text(json.dumps({**fields, "is_over": False, "batch": "batch_9"}))
    with pytest.raises(ModelError, match=r"No batch found.*another key or project\? Remove .*0001.json"):
        answers(make(api, tmp_path), numbered(3))
    state.write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        answers(make(api, tmp_path), numbered(3))
    assert len(api.batches) == 1


def test_a_run_that_was_left_fetches_its_answers(api: BatchApi, tmp_path: Path) -> None:
    """The server is slow; the command ends while the batch is under way, and the next one finds it again."""
    api.released.clear()
    with pytest.raises(KeyboardInterrupt):
        model = make(api, tmp_path)
        model.say = lambda text: (_ for _ in ()).throw(KeyboardInterrupt) if "in progress" in text else None
        answers(model, numbered(4))
    without, said = make(api, tmp_path, batch_api=False), []
    without.say = said.append
    without.load()
    without.close()
    assert "batch_0: under way since an earlier command" in said[0]
    api.released.set()
    api.answer = echo
    given = answers(make(api, tmp_path), numbered(5))
    assert [response.text for response in given] == [f"number {n}" for n in range(5)]
    assert [len(api.lines(n)) for n in range(2)] == [4, 1]


def test_what_a_killed_command_had_half_written_is_taken_away(api: BatchApi, tmp_path: Path) -> None:
    folder = tmp_path / "batches"
    folder.mkdir()
    (folder / ".half.tmp").write_bytes(b"{")
    answers(make(api, tmp_path), numbered(2))
    assert sorted(path.name for path in folder.iterdir()) == ["0001.json", "0001.jsonl"]


def test_repeats_are_questions_of_their_own(api: BatchApi, tmp_path: Path) -> None:
    numbers = iter(range(100))
    api.answer = lambda body: (200, chat_body(str(next(numbers))))
    requests = [
        Request("generate", Prompt("same"), generation=GenerationParams(do_sample=True), repeat=n) for n in range(4)
    ]
    assert {response.text for response in answers(make(api, tmp_path), requests)} == {"0", "1", "2", "3"}
    given = answers(make(api, tmp_path), requests[2:])
    assert [response.text for response in given] == ["2", "3"] and len(api.batches) == 1


def test_tools_media_and_thinking_go_into_a_batch(api: BatchApi, tmp_path: Path) -> None:
    call = {"function": {"name": "add", "arguments": '{"a": 1}'}}
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}}

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        message = {"tool_calls": [call], "reasoning_content": "hm"} if "tools" in body else {}
        return 200, {**chat_body("" if message else "a cat", **message), "usage": usage}

    api.answer = answer
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5"
        "f645400000000049454e44ae426082"
    )
    tools = json.dumps([{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}])
    given = answers(
        make(api, tmp_path, thinking="on", thinking_dialect="enable_thinking"),
        [
            Request("generate", Prompt(messages=(Message("user", "add"),), tools=tools), generation=GenerationParams()),
            Request(
                "generate",
                Prompt(messages=(Message("user", ("What?", Media("image", "0" * 64, png, "image/png"))),)),
                generation=GenerationParams(),
            ),
        ],
    )
    assert '"name": "add"' in str(given[0].text) and given[0].reasoning == "hm" and given[0].reasoning_tokens == 4
    bodies = [line["body"] for line in api.lines(0)]
    assert all(body["enable_thinking"] is True for body in bodies)
    assert "data:image/png;base64," in json.dumps(bodies[1])


def test_a_field_by_another_name_is_a_batch_of_its_own(api: BatchApi, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "max_tokens" in body:
            return refused(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return echo(body)

    api.answer = answer
    given = answers(make(api, tmp_path), [ask(f"number {n}", max_new_tokens=5) for n in range(3)])
    assert [response.text for response in given] == ["number 0", "number 1", "number 2"] and len(api.batches) == 2


def test_a_stop_within_reasoning_is_asked_without_and_once(api: BatchApi, tmp_path: Path) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, chat_body("" if "stop" in body else "42\n", reasoning_content="thinks")

    api.answer = answer
    given = answers(make(api, tmp_path), [ask(f"number {n}", until=("\n",)) for n in range(3)])
    assert [response.text for response in given] == ["42"] * 3
    assert [len(api.lines(n)) for n in range(2)] == [3, 3] and len(api.batches) == 2


def test_choices_are_scored_by_a_batch_and_prompts_are_not(api: BatchApi, tmp_path: Path) -> None:
    top = [{"token": " A", "logprob": -0.1}, {"token": "B", "logprob": -2.5}]
    body = chat_body("A")
    body["choices"][0]["logprobs"] = {"content": [{"token": " A", "logprob": -0.1, "top_logprobs": top}]}
    api.answer = lambda asked: (200, body)
    choice = Request("loglikelihood", Prompt("A or B?"), continuations=(" A", " B"))
    (given,) = answers(make(api, tmp_path, choices="top_logprobs"), [choice])
    assert given.logprobs == pytest.approx((-0.1, -2.5))
    with pytest.raises(UsageError, match="--batch_api: task 'task' needs log-likelihoods"):
        answers(make(api, tmp_path, api="completions"), [choice])
    with pytest.raises(UsageError, match="no replies in pieces"):
        make(api, tmp_path, stream=True)
    assert len(api.batches) == 1


@pytest.mark.slow
def test_only_a_model_with_a_batch_api_is_asked_by_it(tmp_path: Path) -> None:
    done = run_harness("--tasks", "demo_arithmetic", "--model", "dummy", "--batch_api", "--output", tmp_path)
    assert done.exit_code == 4 and "is asked by no batch API (openai is)" in done.stderr


def test_a_server_without_a_batch_api_is_said_to_have_none(api: BatchApi, tmp_path: Path) -> None:
    api.has_files = False
    with pytest.raises(ModelError, match=r"answers 404: no such route \(it has no batch API: ask without --batch_api"):
        answers(make(api, tmp_path), numbered(3))
    assert not (tmp_path / "batches").exists()


@pytest.mark.slow
def test_a_budget_makes_batches_that_it_allows(api: BatchApi, tmp_path: Path) -> None:
    flags = command(api, tmp_path, "--limit", "60", "--budget_tokens", "300")
    first = run_harness(*flags)
    assert first.exit_code == 2 and "the budget is spent" in first.stderr
    assert 25 <= api.posted <= 30
    assert run_harness(*flags).exit_code in (0, 2) and api.posted <= 60


@pytest.mark.slow
def test_each_turn_of_conversations_is_a_batch(api: BatchApi, tmp_path: Path) -> None:
    (tmp_path / "talk.yaml").write_text(
        "task: talk\ndataset_path: rows.jsonl\ntest_split: train\nsubsets: {first: {turn: 1}, second: {turn: 2}}\n"
        "doc_to_messages: '{{ asked[: subset.turn] | with_own_answers }}'\ndoc_to_target: '{{gold}}'\n"
        "cluster_key: id\nwhere: subset.turn <= asked | length\nmetric_list: [{metric: exact_match}]\n"
    )
    rows = [{"id": n, "asked": [f"one {n}", f"two {n}"], "gold": f"one {n}+two {n}"} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    api.answer = lambda body: (200, chat_body("+".join(each["content"] for each in body["messages"][-2:])))
    args = ["--tasks", str(tmp_path / "talk.yaml"), "--model", "openai", "--apply_chat_template", "--batch_api"]
    done = run_harness(*args, "-a", f"model=m,base_url={api.url},batch_poll=0.02", "--output", tmp_path / "runs")
    assert done.exit_code == 0, done.stderr
    assert [len(api.lines(n)) for n in range(len(api.batches))] == [3, 3]
    assert [each["content"] for each in api.lines(1)[0]["body"]["messages"]] == ["one 0", "one 0", "two 0"]


@pytest.mark.slow
def test_a_judge_is_asked_by_batches(api: BatchApi, tmp_path: Path) -> None:
    run_harness("--tasks", "demo_arithmetic", "--model", "dummy", "--output", tmp_path, "--limit", "3")
    (run,) = tmp_path.iterdir()
    api.answer = lambda body: (200, chat_body('{"reason": "it is", "correct": 1}'))
    done = run_harness(
        "judge", str(run), "--rubric", "correctness_en", "--model", "openai", "--prices", "1000000,2000000",
        "--model_args", f"model=j,base_url={api.url},batch_api=true,batch_poll=0.02",
    )  # fmt: skip
    assert api.posted >= 3 and len(api.batches) >= 1
    assert f"cost {api.posted * (7 + 3 * 2) / 2:.4f}" in done.stdout


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_sends_nothing_twice(api: BatchApi, tmp_path: Path) -> None:
    """Killed at later and later moments, until it comes to its end: each question was asked once."""
    api.looks = 4
    args = [sys.executable, "-m", "harness", *command(api, tmp_path, "--limit", "30", "--quiet")]
    args = [part.replace("batch_poll=0.02", "batch_poll=0.02,batch_requests=10") for part in args]
    for number in range(40):
        process = subprocess.Popen(args, env={**os.environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = len(api.requests)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(api.requests) >= seen + 3 + number % 5:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        if process.wait() == 0:
            break
    done = run_harness(*args[3:])
    assert done.exit_code == 0
    asked = [line["custom_id"] for number in range(len(api.batches)) for line in api.lines(number)]
    assert len(asked) == len(set(asked)) == 30 == api.posted
