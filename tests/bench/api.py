"""How near to a server's limit the openai model comes: `python tests/bench/api.py [REQUESTS [PART OF A SCENE'S NAME]]`.

A server in a process of its own answers after 200 ms, and may refuse requests: some at random, or those beyond a rate.
Printed are seconds, seconds of the limit, the ratio, requests that were sent, failed samples and processor seconds. The
last rows are of a whole command with a recipe, thinking, costs, a budget and repeats: as the server sees it, from its
first request to its last reply, and from the shell.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import ModelOptions, Prompt, Request
from harness_plugins.models.openai import OpenAIModel

LATENCY = 0.2
SCENES: dict[str, tuple[dict[str, Any], int]] = {
    "plain, 64 at once": ({}, 64),
    "plain, 256 at once": ({}, 256),
    "plain, 1,024 at once, 20,000": ({"number": 20_000}, 1024),
    "1,024 at once, 10,000 that take 2 s": ({"number": 10_000, "latency": 2.0}, 1024),
    "5 % refused, Retry-After 1": ({"refuse": 0.05, "retry_after": "1"}, 64),
    "5 % refused, Retry-After 5": ({"refuse": 0.05, "retry_after": "5"}, 64),
    "20 % refused, Retry-After 1": ({"refuse": 0.2, "retry_after": "1"}, 64),
    "100 a second (bucket of 10), Retry-After 1": ({"rate": 100, "burst": 10, "retry_after": "1"}, 64),
    "100 a second (bucket of 100)": ({"rate": 100, "burst": 100}, 64),
    "100 each second of the clock, Retry-After 1": ({"each": 1.0, "rate": 100, "retry_after": "1"}, 64),
    "16 at once, else 429": ({"at_once": 16}, 64),
}


SHARED: dict[str, tuple[list[dict[str, Any]], int, float]] = {
    "one in 200 ms, one in 1 s, one dead: 32 each": ([{}, {"latency": 1.0}], 32, 32 / 0.2 + 32 / 1.0),
    "two, of which one refuses 5 %: 32 each": ([{"refuse": 0.05, "retry_after": "5"}, {}], 32, 64 / 0.2),
    "two that allow 50 and 100 a second": ([{"rate": 50, "burst": 5}, {"rate": 100, "burst": 10}], 64, 150.0),
}
"""Scenes of several servers that share the work: what they are like, requests at each, and their rate together."""
DEAD = "http://127.0.0.1:9/v1"
WHOLE = "a whole command, 64 at once"
TASK = """
task: sums
dataset_path: rows.jsonl
test_split: train
output_type: generate_until
doc_to_text: "{{ question }}"
doc_to_target: "42"
generation_kwargs: {do_sample: true, temperature: 0.6, max_gen_toks: 2000}
metric_list: [{metric: exact_match}, {metric: avg_at_k}, {metric: pass_at_k}]
"""
RECIPE = """
recipe: bench
title: Bench
model: bench/bench
source: https://example.org
date: 2026-01
read: 2026-01-01
thinking: "on"
gen_kwargs: {temperature: 0.6, top_p: 0.95}
tasks: {sums: {published: 99.0, repeats: 4}}
"""


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


class _Connection(asyncio.Protocol):
    """Reads requests of HTTP/1.1 and no more of them than it must: the server has to take little of the processor."""

    def __init__(self, limits: _Limits, counter: Any, seen: Any) -> None:
        how = limits.how
        self._limits, self._counter, self._seen = limits, counter, seen
        self._latency = how.get("latency", LATENCY)
        message = {"role": "assistant", "content": "42", "reasoning_content": "Let me think. " * 20}
        usage = {"prompt_tokens": 20, "completion_tokens": 90, "completion_tokens_details": {"reasoning_tokens": 80}}
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "usage": {**usage, "total_tokens": 110},
        }
        reply["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        after = [f"Retry-After: {how['retry_after']}"] if "retry_after" in how else []
        self._answer = _reply("200 OK", reply)
        self._no = _reply("429 Too Many Requests", {"error": {"message": "too many requests"}}, *after)
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
        self._counter.value += 1
        self._seen[0] = self._seen[0] or time.time()
        if self._limits.refuse():
            self._transport.write(self._no)
            return
        self._limits.busy += 1
        asyncio.get_running_loop().call_later(self._latency, self._reply)

    def _reply(self) -> None:
        self._limits.busy -= 1
        self._seen[1] = time.time()
        self._seen[3] += 1
        self._transport.write(self._answer)


async def _serve(port: Any, counter: Any, seen: Any, how: dict[str, Any]) -> None:
    limits, loop = _Limits(how), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(limits, counter, seen), "127.0.0.1", 0, backlog=2048)
    port.value = server.sockets[0].getsockname()[1]
    while True:
        await asyncio.sleep(0.1)
        seen[2] = time.process_time()


def _process(port: Any, counter: Any, seen: Any, how: dict[str, Any]) -> None:
    asyncio.run(_serve(port, counter, seen, how))


def started(how: dict[str, Any]) -> tuple[Any, str, Any, Any]:
    """(process, address, number of requests, what was seen) of a server that runs in a process of its own.

    Seen are the moments of the first request and of the last answer, the server's processor seconds, and its answers.
    """
    port, counter = multiprocessing.Value("i", 0, lock=False), multiprocessing.Value("i", 0, lock=False)
    seen = multiprocessing.Array("d", 4, lock=False)
    server = multiprocessing.Process(target=_process, args=(port, counter, seen, how), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    return server, f"http://127.0.0.1:{port.value}/v1", counter, seen


def measure_command(number: int) -> list[str]:
    """A line as the server saw it, and one as the shell did."""
    server, url, counter, seen = started({})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sums.yaml").write_text(TASK)
        (folder / "bench.yaml").write_text(RECIPE)
        rows = (json.dumps({"question": f"What is {n} + {n}?"}) for n in range(number // 4))
        (folder / "rows.jsonl").write_text("\n".join(rows))
        args = [
            "--recipe",
            "bench.yaml",
            "--tasks",
            "sums.yaml",
            "--model",
            "openai",
            "--apply_chat_template",
            "--quiet",
        ]
        args += ["-a", f"model=m,base_url={url},api=chat,num_concurrent=64", "--thinking", "on"]
        args += ["--prices", "in=1,out=2", "--budget", "1"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([sys.executable, "-m", "harness", *args], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        (path,) = folder.glob("runs/*/sums.jsonl")
        failed = sum(json.loads(line)["error"] is not None for line in path.open())
    server.kill()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    number, limit, asked = counter.value, counter.value / 64 * LATENCY, seen[1] - seen[0]
    return [
        f"{WHOLE + ': its requests':44} {asked:7.1f} {limit:7.1f} {limit / asked:6.2f} {number:7} {failed:6}",
        f"{WHOLE + ': all of it':44} {took:7.1f} {limit:7.1f} {limit / took:6.2f} {number:7} {failed:6} {used:6.1f}",
    ]


def asked(urls: list[str], at_once: int, number: int) -> tuple[float, int, float]:
    """(seconds, failed requests, processor seconds) of so many requests."""
    args = {"model": "m", "base_url": urls, "api": "chat", "num_concurrent": at_once}
    model = OpenAIModel.create(args, ModelOptions())
    model.load()
    requests = [Request("generate", Prompt(f"question {n}")) for n in range(number)]
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    failed = sum(response.error is not None for _, response in model.respond(requests))
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    model.close()
    return took, failed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(how: dict[str, Any], at_once: int, number: int) -> str:
    server, url, counter, _ = started(how)
    number = how.get("number", number)
    took, failed, used = asked([url], at_once, number)
    server.kill()
    most = min(at_once, how.get("at_once", at_once)) / how.get("latency", LATENCY)
    rate = min(most, how.get("rate", most))
    limit = (number - how.get("burst", how.get("rate", 0) if "each" in how else 0)) / rate
    return f"{took:7.1f} {limit:7.1f} {limit / took:6.2f} {counter.value:7} {failed:6} {used:6.1f}"


def measure_shared(servers: list[dict[str, Any]], at_once: int, rate: float, number: int) -> str:
    there = [started(how) for how in servers]
    took, failed, used = asked([*(url for _, url, _, _ in there), DEAD], at_once, number)
    for server, *_ in there:
        server.kill()
    sent, limit = sum(counter.value for _, _, counter, _ in there), number / rate
    return f"{took:7.1f} {limit:7.1f} {limit / took:6.2f} {sent:7} {failed:6} {used:6.1f}"


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{'':44}       s   limit  ratio    sent failed  cpu s")
    for name, (how, at_once) in SCENES.items():
        if len(sys.argv) < 3 or sys.argv[2] in name:
            print(f"{name:44} {measure(how, at_once, number)}", flush=True)
    for name, (servers, at_once, rate) in SHARED.items():
        if len(sys.argv) < 3 or sys.argv[2] in name:
            print(f"{name:44} {measure_shared(servers, at_once, rate, number)}", flush=True)
    if len(sys.argv) < 3 or sys.argv[2] in WHOLE:
        print(*measure_command(number), sep="\n", flush=True)


if __name__ == "__main__":
    main()
