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


async def _serve(port: Any, counter: Any, seen: Any, **how: Any) -> None:
    from aiohttp import web

    rng = random.Random(1)
    tokens, filled, window, busy = float(how.get("burst", 0)), time.monotonic(), 0.0, 0

    def refuses() -> bool:
        nonlocal tokens, filled, window
        now = time.monotonic()
        if rng.random() < how.get("refuse", 0):
            return True
        if busy >= how.get("at_once", 1e9):
            return True
        if "each" in how:
            if now // how["each"] != window:
                window, tokens = now // how["each"], how["rate"] * how["each"]
        elif "rate" in how:
            tokens, filled = min(how["burst"], tokens + (now - filled) * how["rate"]), now
        else:
            return False
        if tokens < 1:
            return True
        tokens -= 1
        return False

    async def answer(request: web.Request) -> web.Response:
        nonlocal busy
        counter.value += 1
        seen[0] = seen[0] or time.time()
        await request.read()
        if refuses():
            headers = {"Retry-After": how["retry_after"]} if "retry_after" in how else {}
            return web.json_response({"error": {"message": "too many requests"}}, status=429, headers=headers)
        busy += 1
        await asyncio.sleep(how.get("latency", LATENCY))
        busy -= 1
        seen[1] = time.time()
        message = {"content": "42", "reasoning_content": "Let me think. " * 20}
        usage = {"prompt_tokens": 20, "completion_tokens": 90, "completion_tokens_details": {"reasoning_tokens": 80}}
        reply = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        return web.Response(text=json.dumps(reply), content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/models", lambda request: web.json_response({"data": []}))
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    port.value = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    await asyncio.sleep(3600)


def _process(port: Any, counter: Any, seen: Any, how: dict[str, Any]) -> None:
    asyncio.run(_serve(port, counter, seen, **how))


def _started(how: dict[str, Any]) -> tuple[Any, str, Any, Any]:
    """(process, address, number of requests, moments of the first request and the last reply) of a server."""
    port, counter = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    seen = multiprocessing.Array("d", 2)
    server = multiprocessing.Process(target=_process, args=(port, counter, seen, how), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    return server, f"http://127.0.0.1:{port.value}/v1", counter, seen


def measure_command(number: int) -> list[str]:
    """A line as the server saw it, and one as the shell did."""
    server, url, counter, seen = _started({})
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
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([sys.executable, "-m", "harness", *args], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
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
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    failed = sum(response.error is not None for _, response in model.respond(requests))
    took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    model.close()
    return took, failed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(how: dict[str, Any], at_once: int, number: int) -> str:
    server, url, counter, _ = _started(how)
    number = how.get("number", number)
    took, failed, used = asked([url], at_once, number)
    server.kill()
    most = min(at_once, how.get("at_once", at_once)) / how.get("latency", LATENCY)
    rate = min(most, how.get("rate", most))
    limit = (number - how.get("burst", how.get("rate", 0) if "each" in how else 0)) / rate
    return f"{took:7.1f} {limit:7.1f} {limit / took:6.2f} {counter.value:7} {failed:6} {used:6.1f}"


def measure_shared(servers: list[dict[str, Any]], at_once: int, rate: float, number: int) -> str:
    started = [_started(how) for how in servers]
    took, failed, used = asked([*(url for _, url, _, _ in started), DEAD], at_once, number)
    for server, *_ in started:
        server.kill()
    sent, limit = sum(counter.value for _, _, counter, _ in started), number / rate
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
