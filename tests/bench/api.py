"""How near to a server's limit the openai model comes: `python tests/bench/api.py [REQUESTS]`.

A server in a process of its own answers after 200 ms, and may refuse requests: some at random, or those beyond a rate.
Printed are seconds, seconds of the limit, the ratio, requests that were sent, failed samples and processor seconds.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import resource
import sys
import time
from typing import Any

from harness import ModelOptions, Prompt, Request
from harness_plugins.models.openai import OpenAIModel

LATENCY = 0.2
SCENES: dict[str, tuple[dict[str, Any], int]] = {
    "plain, 64 at once": ({}, 64),
    "plain, 256 at once": ({}, 256),
    "5 % refused, Retry-After 1": ({"refuse": 0.05, "retry_after": "1"}, 64),
    "5 % refused, Retry-After 5": ({"refuse": 0.05, "retry_after": "5"}, 64),
    "20 % refused, Retry-After 1": ({"refuse": 0.2, "retry_after": "1"}, 64),
    "100 a second (bucket of 10), Retry-After 1": ({"rate": 100, "burst": 10, "retry_after": "1"}, 64),
    "100 a second (bucket of 100)": ({"rate": 100, "burst": 100}, 64),
    "100 each second of the clock, Retry-After 1": ({"each": 1.0, "rate": 100, "retry_after": "1"}, 64),
    "16 at once, else 429": ({"at_once": 16}, 64),
}


async def _serve(port: Any, counter: Any, **how: Any) -> None:
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
        await request.read()
        if refuses():
            headers = {"Retry-After": how["retry_after"]} if "retry_after" in how else {}
            return web.json_response({"error": {"message": "too many requests"}}, status=429, headers=headers)
        busy += 1
        await asyncio.sleep(LATENCY)
        busy -= 1
        reply = {"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}]}
        return web.Response(text=json.dumps(reply), content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/models", lambda request: web.json_response({"data": []}))
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port.value = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    await asyncio.sleep(3600)


def _process(port: Any, counter: Any, how: dict[str, Any]) -> None:
    asyncio.run(_serve(port, counter, **how))


def measure(how: dict[str, Any], at_once: int, number: int) -> str:
    port, counter = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=_process, args=(port, counter, how), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.01)
    url = f"http://127.0.0.1:{port.value}/v1"
    model = OpenAIModel.create(
        {"model": "m", "base_url": url, "api": "chat", "num_concurrent": at_once}, ModelOptions()
    )
    model.load()
    requests = [Request("generate", Prompt(f"question {n}")) for n in range(number)]
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    failed = sum(response.error is not None for _, response in model.respond(requests))
    took, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
    model.close()
    server.kill()
    most = min(at_once, how.get("at_once", at_once)) / LATENCY
    rate = min(most, how.get("rate", most))
    limit = (number - how.get("burst", how.get("rate", 0) if "each" in how else 0)) / rate
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{took:7.1f} {limit:7.1f} {limit / took:6.2f} {counter.value:7} {failed:6} {used:6.1f}"


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{'':44}       s   limit  ratio    sent failed  cpu s")
    for name, (how, at_once) in SCENES.items():
        if len(sys.argv) < 3 or sys.argv[2] in name:
            print(f"{name:44} {measure(how, at_once, number)}", flush=True)


if __name__ == "__main__":
    main()
