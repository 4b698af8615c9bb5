"""Servers of the chat API for benchmarks: each in a process of its own, answers after a time, and may refuse requests.

One that refuses nothing is a program of C (`api_server.c`), where there is a compiler: it takes 0.02 ms of processor a
request, so that what is measured on a machine of few cores is who asks. All others are Python, at three times as much.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import json
import multiprocessing
import random
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

LATENCY = 0.2
_USAGE = {"prompt_tokens": 20, "completion_tokens": 90, "completion_tokens_details": {"reasoning_tokens": 80}}
_MESSAGE = {"role": "assistant", "content": "42", "reasoning_content": "Let me think. " * 20}
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "usage": {**_USAGE, "total_tokens": 110},
    "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
}


@dataclass(frozen=True)
class Seen:
    """What a server saw: requests, answers, and the moments of the first request and the last answer, as of
    `time.monotonic`. processor: seconds that it took itself."""

    requests: int
    answers: int
    first: float
    last: float
    processor: float

    @property
    def seconds(self) -> float:
        return self.last - self.first


class Server(Protocol):
    url: str

    def end(self) -> Seen:
        """Stop it."""


def started(how: dict[str, Any]) -> Server:
    """A server that answers after `latency` seconds, and refuses as `how` says."""
    refuses = how.keys() & {"refuse", "rate", "each", "at_once"}
    return _OfPython(how) if refuses or compiled() is None else _OfC(how.get("latency", LATENCY))


@functools.cache
def compiled() -> Path | None:
    """The program of C; None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    program = Path(tempfile.mkdtemp(prefix="api_server_")) / "api_server"
    subprocess.run([compiler, "-O2", "-o", program, Path(__file__).with_name("api_server.c")], check=True)
    return program


def least_seconds(at_once: int, number: int, latency: float = LATENCY) -> float | None:
    """What a client of C takes that does nothing but ask, on this machine; None without a compiler."""
    if (program := compiled()) is None:
        return None
    server = _OfC(latency)
    body = json.dumps({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "question 1"}]})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    words = [program, "ask", server.url.split(":")[2].split("/")[0], str(at_once), str(number)]
    told = subprocess.run(words, input=(head + body).encode(), stdout=subprocess.PIPE, check=True).stdout
    server.end()
    return float(told.split()[0])


class _OfC:
    def __init__(self, latency: float) -> None:
        words = [str(compiled()), "serve", str(latency * 1000)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(_reply("200 OK", ANSWER))
        self._process.stdin.close()
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"

    def end(self) -> Seen:
        self._process.terminate()
        assert self._process.stdout is not None
        requests, answers, *seconds = self._process.stdout.read().split()
        self._process.wait()
        return Seen(int(requests), int(answers), *map(float, seconds))


class _OfPython:
    def __init__(self, how: dict[str, Any]) -> None:
        port = multiprocessing.Value("i", 0, lock=False)
        self._seen = multiprocessing.Array("d", 5, lock=False)
        self._process = multiprocessing.Process(target=_process, args=(port, self._seen, how), daemon=True)
        self._process.start()
        while not port.value:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{port.value}/v1"

    def end(self) -> Seen:
        self._process.kill()
        requests, answers, first, last, processor = self._seen
        return Seen(int(requests), int(answers), first, last, processor)


class _Limits:
    """Which requests a server refuses: some at random, those beyond a rate, those beyond a number at once."""

    def __init__(self, how: dict[str, Any]) -> None:
        self.how, self.busy = how, 0
        self._rng = random.Random(1)
        self._tokens, self._filled, self._window = float(how.get("burst", 0)), time.monotonic(), 0.0

    def refuse(self) -> bool:
        how, now = self.how, time.monotonic()
        if self._rng.random() < how.get("refuse", 0) or self.busy >= how.get("at_once", 1e9):
            return True
        if "each" in how:
            if now // how["each"] != self._window:
                self._window, self._tokens = now // how["each"], how["rate"] * how["each"]
        elif "rate" in how:
            self._tokens = min(how["burst"], self._tokens + (now - self._filled) * how["rate"])
            self._filled = now
        else:
            return False
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False


def _reply(status: str, content: Any, *headers: str) -> bytes:
    body = json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def _no(how: dict[str, Any]) -> bytes:
    """A refusal of status 429, or `status`; `retry_after` is seconds, or `date` for the date in two seconds, or
    `reset` for a second in the headers of OpenAI's API."""
    after = {
        "date": f"Retry-After: {email.utils.formatdate(time.time() + 2, usegmt=True)}",
        "reset": "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1s",
    }
    wish = how.get("retry_after")
    headers = [] if wish is None else [after.get(wish, f"Retry-After: {wish}")]
    return _reply(how.get("status", "429 Too Many Requests"), {"error": {"message": "too many requests"}}, *headers)


class _Connection(asyncio.Protocol):
    """Reads requests of HTTP/1.1 and no more of them than it must: the server has to take little of the processor."""

    def __init__(self, limits: _Limits, seen: Any) -> None:
        how = limits.how
        self._limits, self._seen = limits, seen
        self._latency = how.get("latency", LATENCY)
        self._answer = _reply("200 OK", ANSWER)
        self._models = _reply("200 OK", {"data": []})
        self._came = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (end := self._came.find(b"\r\n\r\n")) >= 0:
            head = self._came[:end].lower()
            at = head.find(b"content-length:")
            after = end + 4 + (int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)
            if len(self._came) < after:
                break
            self._came = self._came[after:]
            if head.startswith(b"get"):
                self._transport.write(self._models)
            else:
                self._take()

    def _take(self) -> None:
        self._seen[0] += 1
        self._seen[2] = self._seen[2] or time.monotonic()
        if self._limits.refuse():
            self._transport.write(_no(self._limits.how))
            return
        self._limits.busy += 1
        asyncio.get_running_loop().call_later(self._latency, self._reply)

    def _reply(self) -> None:
        self._limits.busy -= 1
        self._seen[1] += 1
        self._seen[3] = time.monotonic()
        self._transport.write(self._answer)


async def _serve(port: Any, seen: Any, how: dict[str, Any]) -> None:
    limits, loop = _Limits(how), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(limits, seen), "127.0.0.1", 0, backlog=2048)
    port.value = server.sockets[0].getsockname()[1]
    while True:
        await asyncio.sleep(0.1)
        seen[4] = time.process_time()


def _process(port: Any, seen: Any, how: dict[str, Any]) -> None:
    asyncio.run(_serve(port, seen, how))
