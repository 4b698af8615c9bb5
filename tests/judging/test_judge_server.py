"""Judges behind OpenAI's API: a server that fails in every way, a kill in the middle, and a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from judged_runs import headline, make_run, records, registry
from scripted_server import Asked, Reply, ScriptedServer, chat, error
from served_model import needs_server, serving

from harness.judging.judge import JudgeModel, JudgeResult, JudgeSpec, run_judges
from harness.record.run import RunFolder

pytestmark = pytest.mark.slow

GOOD = '{"reason": "fine", "score": 8}'
REPLIES = {"中国": "北京", "化学式": "H2O", "2 + 2": "4", "red": "Venus"}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def judge(server: ScriptedServer, run: str, rubric: str = "quality_en", **options: Any) -> JudgeResult:
    usual = {"model": "small", "retry_delay": 0.001, "num_concurrent": 2, "max_retries": 2, "api_key": "sk-hidden-key"}
    args = {**usual, "base_url": server.url, **options.pop("args", {})}
    return run_judges(JudgeSpec((run,), rubric, (JudgeModel("openai", args, (1.0, 2.0)),), **options), registry())


def about(asked: Asked) -> str:
    return str(asked.body["messages"][0]["content"])


def on_red(reply: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """A server that answers well, but for one sample."""
    return lambda asked: reply(asked) if "red" in about(asked) else chat(GOOD)


def test_a_judge_behind_http(tmp_path: Path, server: ScriptedServer) -> None:
    server.answer = lambda asked: chat(GOOD)
    result = judge(server, make_run(tmp_path, REPLIES))
    assert (headline(result)["value"], headline(result)["n"], result.exit_code) == (8.0, 4, 0)
    body = server.asked[0].body
    assert (body["temperature"], body["max_tokens"]) == (0, 1024)
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    work = result.judgements[0].report["work"]["talk"]
    assert (work["prompt_tokens"], work["completion_tokens"]) == (28, 12)
    assert work["cost"] == pytest.approx((28 + 2 * 12) / 1e6)
    written = b"".join(path.read_bytes() for path in result.judgements[0].path.rglob("*") if path.is_file())
    assert b"sk-hidden-key" not in written
    assert server.asked[0].headers["Authorization"] == "Bearer sk-hidden-key"


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (lambda asked: error(500), "status 500: went wrong (tried 3 times)"),
        (lambda asked: error(400, "no such thing"), "status 400: no such thing"),
        (lambda asked: Reply(b"<html>busy</html>"), "the server's reply is not usable: a web page: busy"),
        (lambda asked: Reply({"choices": []}), "the server's reply is not usable"),
        (lambda asked: Reply({"choices": [{"message": {"content": GOOD}}]}, cut=9), "tried 3 times"),
        (lambda asked: Reply({}, wait=threading.Event()), "tried 3 times"),
    ],
)
def test_a_request_that_fails_is_a_failed_judgement_and_no_score(
    tmp_path: Path, server: ScriptedServer, reply: Callable[[Asked], Reply], cause: str
) -> None:
    server.answer = on_red(reply)
    result = judge(server, make_run(tmp_path, REPLIES), args={"timeout": 0.2})
    assert (headline(result)["value"], headline(result)["n"], result.exit_code) == (8.0, 3, 1)
    failed = records(result)[3]
    assert cause in str(failed.error)
    assert failed.scores == {"score": None}
    assert result.judgements[0].report["work"]["talk"]["failed"] == {failed.error: 1}


@pytest.mark.parametrize(
    ("text", "finish", "problem"),
    [
        ('{"reason": "fine", "score": 11}', "stop", '"score" is 11, not a whole number from 1 to 10'),
        ('{"reason": "fine", "sc', "length", "it was cut off at its limit of tokens; it is not valid JSON"),
        ("8/10", "stop", 'it does not begin with "{"'),
        ("", "stop", "it is empty"),
        (None, "stop", "it is empty"),
        ("\u0000\ufffd{", "stop", 'it does not begin with "{"'),
    ],
)
def test_a_reply_that_is_no_verdict_is_asked_again_and_then_null(
    tmp_path: Path, server: ScriptedServer, text: str | None, finish: str, problem: str
) -> None:
    server.answer = on_red(lambda asked: chat(text, finish))
    result = judge(server, make_run(tmp_path, REPLIES))
    assert len(server.asked) == 3 + 3
    assert (headline(result)["n"], result.exit_code) == (3, 0)
    record = records(result)[3]
    assert (record.unparsed, record.error, len(record.responses)) == (True, None, 3)
    assert all(problem in asked["problem"] for asked in record.judge["asked"])
    turns = server.asked[-1].body["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert problem in turns[-1]["content"]


def test_reasoning_in_a_field_of_its_own_is_kept_and_not_read(tmp_path: Path, server: ScriptedServer) -> None:
    server.answer = lambda asked: chat(GOOD, reasoning_content='Maybe {"reason": "", "score": 1}?')
    result = judge(server, make_run(tmp_path, REPLIES))
    assert headline(result)["value"] == 8.0
    assert records(result)[0].responses[0].reasoning == 'Maybe {"reason": "", "score": 1}?'


def test_a_server_that_goes_away_ends_the_judging_and_what_it_said_stays(
    tmp_path: Path, server: ScriptedServer
) -> None:
    from harness import HarnessError

    run = make_run(tmp_path, REPLIES)
    server.answer = lambda asked: chat(GOOD) if asked.number < 2 else error(401, "key sk-hidden-key expired")
    with pytest.raises(HarnessError, match=r"answers 401: key \*\*\* expired.*; what is done is in ") as stopped:
        judge(server, run, args={"num_concurrent": 1})
    assert stopped.value.exit_code == 2
    (folder,) = (Path(run) / "judgements").iterdir()
    read = RunFolder.read(folder)
    assert read.manifest["status"] == "failed"
    assert sorted(record.id for record in read.records()) == [0, 1]
    server.asked.clear()
    server.answer = lambda asked: chat(GOOD)
    assert headline(judge(server, run))["n"] == 4
    assert len(server.asked) == 2


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path, server: ScriptedServer) -> None:
    """Pairs, so that a sample can be cut in the middle: the first order was answered, the second was not."""
    pair = [make_run(tmp_path, REPLIES, "old"), make_run(tmp_path, dict.fromkeys(REPLIES, "nothing"), "new")]
    argv = ["judge", *pair, "--rubric", "preference_zh", "--model", "openai", "--model_args"]
    argv.append(f"model=small,base_url={server.url},num_concurrent=1,retry_delay=0.001,api_key=sk-hidden-key")
    reached, never = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.number < 3:
            return chat('{"reason": "so", "winner": "A"}')
        reached.set()
        return Reply({}, wait=never)

    server.answer = answer
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert reached.wait(60)
        second = subprocess.run(
            [sys.executable, "-m", "harness", *argv], capture_output=True, text=True, timeout=60, check=False
        )
        assert (second.returncode, second.stdout) == (4, "")
        assert f"is in use by process {process.pid}" in second.stderr
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        never.set()
    (folder,) = (Path(pair[1]) / "judgements").iterdir()
    cut = {record.id: record for record in RunFolder.read(folder).records()}
    assert cut[0].scores["win_rate"] == 0.5
    assert cut[1].error == "not finished: 1 of 2 replies of the judge are still to come"
    assert cut[1].scores["win_rate"] is None
    log = folder / "talk.jsonl"
    log.write_bytes(log.read_bytes() + b'{"task": "talk", "subset": "", "id": 2, "tar')  # as a kill may leave it
    said: list[str] = []

    def rest(asked: Asked) -> Reply:
        said.append(about(asked))
        return chat('{"reason": "so", "winner": "B"}')

    server.answer = rest
    done = subprocess.run(
        [sys.executable, "-m", "harness", *argv], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(said) == 8 - 3
    assert "the last line was half written" in done.stderr
    whole = {record.id: record for record in RunFolder.read(folder).records()}
    assert [record.answers["winner"] for record in whole.values()] == [("A", "A"), ("A", "B"), ("B", "B"), ("B", "B")]
    assert len(log.read_bytes().splitlines()) == 4
    assert b"sk-hidden-key" not in b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_an_interrupt_says_how_to_go_on(tmp_path: Path, server: ScriptedServer) -> None:
    run = make_run(tmp_path, REPLIES)
    reached, never = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.number < 1:
            return chat(GOOD)
        reached.set()
        return Reply({}, wait=never)

    server.answer = answer
    secret = json.dumps({"X-Token": "tok-hidden"})
    args = json.dumps({"model": "small", "base_url": server.url, "num_concurrent": 1, "headers": secret})
    command = [sys.executable, "-m", "harness", "judge", run, "--rubric", "quality_en", "--model", "openai"]
    process = subprocess.Popen([*command, "--model_args", args], stderr=subprocess.PIPE, text=True)
    assert reached.wait(60)
    process.send_signal(signal.SIGTERM)
    never.set()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "interrupted, what is done is in" in told
    assert "go on with: harness judge" in told
    assert "tok-hidden" not in told
    (folder,) = (Path(run) / "judgements").iterdir()
    assert RunFolder.read(folder).manifest["status"] == "interrupted"
    assert "tok-hidden" not in (folder / "manifest.json").read_text(encoding="utf-8")


@needs_server
def test_a_real_server_with_a_small_model(tmp_path: Path) -> None:
    """`transformers serve` and a random model: real HTTP and real tokens, and no sense in a single reply."""
    with serving(tmp_path / "model") as url:
        model = str(tmp_path / "model")
        args = {"model": model, "base_url": url}
        spec = JudgeSpec(
            (make_run(tmp_path, REPLIES),),
            "correctness_zh",
            (JudgeModel("openai", args, (1.0, 1.0)),),
            limit=2,
            retries=1,
            gen_kwargs={"max_gen_toks": 12},
        )
        result = run_judges(spec, registry())
    (task,) = result.judgements[0].report["tasks"]
    assert (task["counts"]["n"], task["counts"]["unparsed"], task["counts"]["failed"]) == (2, 2, 0)
    assert task["metrics"][0]["value"] is None
    work = result.judgements[0].report["work"]["talk"]
    assert (work["replies"], work["asked_again"], work["replies_without_tokens"]) == (4, 2, 0)
    assert work["prompt_tokens"] > 4 * 100
    assert 0 < work["completion_tokens"] <= 4 * 12
    assert work["cost"] == pytest.approx((work["prompt_tokens"] + work["completion_tokens"]) / 1e6)
    assert os.path.commonpath([result.judgements[0].path, tmp_path]) == str(tmp_path)
