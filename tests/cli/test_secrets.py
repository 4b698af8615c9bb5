"""No key reaches the terminal or a file of a run: not by a command, an address, a server, a mistake or Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_server import Asked, Reply, ScriptedServer, chat, error
from sums_task import write_sums

from harness.testing import run_harness

KEY = "sk-Very5ecretKey"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    write_sums(4)
    return tmp_path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def leaks(folder: Path, said: str) -> list[str]:
    """Where the key, or a good part of it, can be read."""
    part = KEY[3:12]
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [str(path) for path in files if part in path.read_text(encoding="utf-8", errors="replace")]
    return found + (["terminal"] if part in said else [])


def ways(url: str) -> dict[str, str]:
    host = url.removeprefix("http://")
    return {
        "argument": f"model=small,base_url={url},api=chat,api_key={KEY}",
        "quoted": f"model=small,base_url={url},api=chat,api_key='{KEY}'",
        "object": json.dumps({"model": "small", "base_url": url, "api": "chat", "api_key": KEY}),
        "header": f'model=small,base_url={url},api=chat,headers={{"X-Whatever": "{KEY}"}}',
        "body": f'model=small,base_url={url},api=chat,extra_body={{"provider": {{"api_key": "{KEY}"}}}}',
        "password": f"model=small,base_url=http://me:{KEY}@{host},api=chat",
        "query": f"model=small,base_url={url}?api-key={KEY},api=chat",
    }


WAYS = list(ways(""))


@pytest.mark.parametrize("way", WAYS)
def test_a_run_and_its_files_hold_no_key(server: ScriptedServer, folder: Path, way: str) -> None:
    def reply(asked: Asked) -> Reply:
        if asked.number == 2:
            return error(400, f"this prompt is odd, says {KEY}")
        return chat("0")

    server.answer = reply
    run = ("--tasks", "sums.yaml", "--model", "openai", "--model_args", ways(server.url)[way], "--output", "runs")
    result = run_harness(*run, "--output_path", "lm", "--log_samples")
    assert "exact_match" in result.output, result.output
    said = result.output + run_harness("report", "runs").output
    assert leaks(folder, said) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [401, 404, 0])
def test_a_run_that_fails_shows_no_key_and_leaves_no_folder(
    server: ScriptedServer, folder: Path, way: str, status: int
) -> None:
    url = server.url
    server.script(error(status, "nope"))
    if status == 0:
        server.close()
    result = run_harness("--tasks", "sums.yaml", "--model", "openai", "--model_args", ways(url)[way])
    assert result.exit_code == 4 and "error: " in result.output
    assert leaks(folder, result.output) == []
    assert not list(folder.glob("runs/*"))


@pytest.mark.parametrize(
    "args",
    [
        f"model=m,api_key={KEY},and,more",
        f"model=m,api_key=a,{KEY}",
        f"model=m,api_key={KEY},headers={{",
        f"model=m,api_key='{KEY}",
        f'{{"model": "m", "api_key": "{KEY}"',
        f"model=m,api_key={KEY},api_key={KEY}",
        f"model=m,api_key={KEY},modle=x",
        f"model=m,api_key={KEY},base_url=nowhere",
        f"model=m,base_url=ftp://me:{KEY}@host",
        f'model=m,headers={{"a": "{KEY}"',
        f'model=m,headers=["{KEY}"]',
        f"model=m,api_key={KEY}，",
    ],
)
def test_a_mistake_in_the_arguments_shows_no_key(folder: Path, args: str) -> None:
    result = run_harness("--tasks", "sums.yaml", "--model", "openai", "--model_args", args)
    assert result.exit_code == 4 and result.output.startswith("error: "), result.output
    assert leaks(folder, result.output) == []


@pytest.mark.parametrize("text", ["12345e6", "1e9", "007", "true", "null", "1234567"])
def test_a_key_that_looks_like_something_else_stays_text(server: ScriptedServer, text: str) -> None:
    args = f"model=small,base_url={server.url},api=chat,api_key={text}"
    run_harness("--tasks", "sums.yaml", "--model", "openai", "--model_args", args, "--limit", "1")
    assert server.asked[0].headers["Authorization"] == f"Bearer {text}"


@pytest.mark.skipif(os.name == "nt", reason="runs where a process can be sent SIGINT")
def test_ctrl_c_shows_how_to_go_on_without_the_key(server: ScriptedServer, folder: Path) -> None:
    gate = threading.Event()
    server.answer = lambda asked: chat("0") if asked.number == 0 else Reply({}, wait=gate)
    # A job in the background of a shell is started with SIGINT ignored, and its children inherit that.
    restored = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{restored}; from harness.cli.main import main; main()"
    args = f"model=small,base_url={server.url},api=chat,num_concurrent=1,api_key={KEY}"
    command = [sys.executable, "-c", code, "--tasks", "sums.yaml", "--model", "openai", "--model_args", args]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for _ in range(1500):
            if len(server.asked) > 1:
                break
            threading.Event().wait(0.02)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        gate.set()
    assert process.returncode == 2 and re.search(r"go on with: harness --tasks sums.yaml .*api_key=\*\*\*", said), said
    assert leaks(folder, said) == []


def test_the_passwords_of_endpoints_and_webhooks_are_not_written_down(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"https://me:{KEY}@hub.example")
    run_harness("--tasks", "sums.yaml", "--model", "dummy", "--output", "runs/a")
    run_harness("--tasks", "sums.yaml", "--model", "dummy", "--model_args", "mode=gold", "--output", "runs/b")
    (one,), (two,) = Path("runs/a").iterdir(), Path("runs/b").iterdir()
    assert "hub.example" in (one / "manifest.json").read_text()
    told = run_harness(
        "gate", "--baseline", one, "--current", two, "--webhook", f"http://me:{KEY}@127.0.0.1:9/hook/{KEY}?key={KEY}"
    )
    assert "--webhook" in told.output
    assert leaks(folder, told.output) == []
