"""Whole runs over HTTP: what is asked again, what is counted, and what stays behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_server import Asked, Reply, ScriptedServer, chat, error
from sums_task import write_sums

from harness.testing import run_harness


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    write_sums(5)
    return tmp_path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    scripted.answer = right
    yield scripted
    scripted.close()


def right(asked: Asked) -> Reply:
    return chat(str(2 * int(asked.body["messages"][0]["content"][0])))


def run(url: str, *more: str) -> str:
    args = f"model=small,base_url={url},api=chat,retry_delay=0.001,max_retries=1,num_concurrent=1"
    return run_harness("--tasks", "sums.yaml", "--model", "openai", "--model_args", args, *more).output


def test_another_port_keeps_the_answers(server: ScriptedServer) -> None:
    run(server.url, "--limit", "3")
    other = ScriptedServer()
    other.answer = right
    try:
        assert "3 of them on disk already" in run(other.url)
        assert len(other.asked) == 2 and len(list(Path("runs").iterdir())) == 1
    finally:
        other.close()
    assert "1.0000" in run(other.url)  # all is on disk: nobody need be there


def test_a_limit_of_tokens_is_one_thing_by_all_its_names(server: ScriptedServer) -> None:
    for name in ("max_tokens", "max_new_tokens", "max_gen_toks", "max_completion_tokens"):
        run(server.url, "--gen_kwargs", f"{name}=8")
    assert len(server.asked) == 5 and len(list(Path("runs").iterdir())) == 1
    run(server.url, "--gen_kwargs", "max_tokens=9")
    assert len(server.asked) == 10


def test_refused_answers_are_counted_and_have_no_score(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("0", "content_filter") if asked.number == 0 else right(asked)
    said = run(server.url)
    (report,) = (json.loads(path.read_text()) for path in Path("runs").rglob("report.json"))
    (task,) = report["tasks"]
    assert (task["counts"]["failed"], task["counts"]["refused"], task["metrics"][0]["n"]) == (1, 1, 4)
    assert "refused" in said
    server.answer = right
    assert "refused" not in run(server.url)


def test_one_odd_reply_leaves_the_run_whole_and_is_asked_again(server: ScriptedServer) -> None:
    odd = Reply({**chat("4").body, "choices": [{"message": "4"}]})
    server.answer = lambda asked: odd if asked.number == 2 else right(asked)
    said = run(server.url)
    assert "1 sample failed" in said and "Traceback" not in said
    for command in (("report", "runs"), ("score", "runs")):
        assert run_harness(*command).exit_code in (0, 1)
    server.answer = right
    assert "4 of them on disk already" in run(server.url)
    assert len(server.asked) == 6


def test_an_answer_with_odd_counts_of_tokens_is_an_answer(server: ScriptedServer) -> None:
    odd = {"prompt_tokens": "12", "completion_tokens": {}}
    server.answer = lambda asked: Reply({**right(asked).body, "usage": odd}) if asked.number == 2 else right(asked)
    said = run(server.url)
    assert "exact_match 1.000" in said and "failed" not in said


def test_a_mistake_of_all_requests_stops_early_and_leaves_no_folder(server: ScriptedServer) -> None:
    server.answer = lambda asked: error(400, "Unsupported value: 'temperature' does not support 0")
    said = run(server.url)
    assert "error: " in said and "--model_args omit=temperature" in said
    assert len(server.asked) == 3 and not list(Path().glob("runs/*"))
