"""How near to a server's limit the openai model comes: `python tests/bench/api.py [REQUESTS [PART OF A SCENE'S NAME]]`.

A server in a process of its own answers after 200 ms, and may refuse requests: some at random, or those beyond a rate.
Printed are seconds, seconds of the limit, the ratio, requests that were sent, failed samples and processor seconds;
where none is refused, also the server's processor seconds and the ratio of a client of C that only asks, which is what
this machine can do. 2,000 requests are 32 rounds of 64, and the limit 31.25 of them: no ratio comes above 0.98.
The last rows are of whole commands with 64 at once, the second with a recipe, thinking, costs, repeats and a budget,
which waits for one answer before it allows a second question: as the server sees it, from its first request to its last
reply, and from the shell.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from api_servers import LATENCY, least_seconds, started

from harness import ModelOptions, Prompt, Request
from harness_plugins.models.openai import OpenAIModel

SCENES: dict[str, tuple[dict[str, Any], int]] = {
    "plain, 64 at once": ({}, 64),
    "plain, 256 at once": ({}, 256),
    "plain, 1,024 at once, 20,000": ({"number": 20_000}, 1024),
    "1,024 at once, 10,000 that take 2 s": ({"number": 10_000, "latency": 2.0}, 1024),
    "5 % refused, Retry-After 1": ({"refuse": 0.05, "retry_after": "1"}, 64),
    "5 % refused, Retry-After 5": ({"refuse": 0.05, "retry_after": "5"}, 64),
    "20 % refused, Retry-After 1": ({"refuse": 0.2, "retry_after": "1"}, 64),
    "20 % refused": ({"refuse": 0.2}, 64),
    "20 % refused, Retry-After 1, 10,000": ({"number": 10_000, "refuse": 0.2, "retry_after": "1"}, 64),
    "40 % refused, Retry-After 1, 10,000": ({"number": 10_000, "refuse": 0.4, "retry_after": "1"}, 64),
    "20 % answered 503, Retry-After 1": ({"refuse": 0.2, "status": "503 Busy", "retry_after": "1"}, 64),
    "100 a second, and 10 % refused": ({"rate": 100, "burst": 10, "refuse": 0.1, "retry_after": "1"}, 64),
    "100 a second (bucket of 10), Retry-After 1": ({"rate": 100, "burst": 10, "retry_after": "1"}, 64),
    "100 a second (bucket of 100)": ({"rate": 100, "burst": 100}, 64),
    "100 each second of the clock, Retry-After 1": ({"each": 1.0, "rate": 100, "retry_after": "1"}, 64),
    "100 a second (bucket of 10), Retry-After a date": ({"rate": 100, "burst": 10, "retry_after": "date"}, 64),
    "100 a second (bucket of 10), x-ratelimit-reset": ({"rate": 100, "burst": 10, "retry_after": "reset"}, 64),
    "16 at once, else 429": ({"at_once": 16}, 64),
}


SHARED: dict[str, tuple[list[dict[str, Any]], int, float]] = {
    "one in 200 ms, one in 1 s, one dead: 32 each": ([{}, {"latency": 1.0}], 32, 32 / 0.2 + 32 / 1.0),
    "two, of which one refuses 5 %: 32 each": ([{"refuse": 0.05, "retry_after": "5"}, {}], 32, 64 / 0.2),
    "two that allow 50 and 100 a second": ([{"rate": 50, "burst": 5}, {"rate": 100, "burst": 10}], 64, 150.0),
}
"""Scenes of several servers that share the work: what they are like, requests at each, and their rate together."""
DEAD = "http://127.0.0.1:9/v1"
ALONE, WITH_ALL = "a whole command", "a whole command with all"
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


def measure_command(number: int, *, whole: bool) -> list[str]:
    """Lines of a command as the server saw it, and as the shell did. whole: with a recipe, thinking, costs, a budget
    and repeats, and not with the task alone."""
    name = WITH_ALL if whole else ALONE
    repeats = 4 if whole else 1
    server = started({})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "sums.yaml").write_text(
            TASK if whole else TASK.replace(", {metric: avg_at_k}, {metric: pass_at_k}", "")
        )
        (folder / "bench.yaml").write_text(RECIPE)
        rows = (json.dumps({"question": f"What is {n} + {n}?"}) for n in range(number // repeats))
        (folder / "rows.jsonl").write_text("\n".join(rows))
        words = ["--tasks", "sums.yaml", "--model", "openai", "--apply_chat_template", "--quiet"]
        words += ["-a", f"model=m,base_url={server.url},api=chat,num_concurrent=64"]
        if whole:
            words += ["--recipe", "bench.yaml", "--thinking", "on", "--prices", "in=1,out=2", "--budget", "1"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([sys.executable, "-m", "harness", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        ended, after = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        (path,) = folder.glob("runs/*/sums.jsonl")
        failed = sum(json.loads(line)["error"] is not None for line in path.open())
    seen = server.end()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    limit = seen.requests / 64 * LATENCY
    return [
        f"{name + ': its requests':44} {row(seen.seconds, limit, seen.requests, failed)}",
        f"{name + ': all of it':44} {row(ended - began, limit, seen.requests, failed, used)}",
        f"    {seen.first - began:.1f} s until the first request, {ended - seen.last:.1f} s after the last answer",
    ]


def row(took: float, limit: float, sent: int, failed: int, used: float | None = None) -> str:
    return f"{took:7.1f} {limit:7.1f} {limit / took:6.2f} {sent:7} {failed:6}" + (
        "" if used is None else f" {used:6.1f}"
    )


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
    number = how.get("number", number)
    server = started(how)
    took, failed, used = asked([server.url], at_once, number)
    seen = server.end()
    most = min(at_once, how.get("at_once", at_once)) / how.get("latency", LATENCY)
    rate = min(most, how.get("rate", most))
    limit = (number - how.get("burst", how.get("rate", 0) if "each" in how else 0)) / rate
    line = row(took, limit, seen.requests, failed, used)
    if not how.keys() & {"refuse", "rate", "each", "at_once"}:
        least = least_seconds(at_once, number, how.get("latency", LATENCY))
        line += f"   server {seen.processor:.1f}" + ("" if least is None else f", a client of C {limit / least:.2f}")
    return line


def measure_shared(servers: list[dict[str, Any]], at_once: int, rate: float, number: int) -> str:
    there = [started(how) for how in servers]
    took, failed, used = asked([*(server.url for server in there), DEAD], at_once, number)
    sent = sum(server.end().requests for server in there)
    return row(took, number / rate, sent, failed, used)


def main() -> None:
    # As the command does, whose samples are asked here without it.
    gc.set_threshold(50_000, 20, 20)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", nargs="?", type=int, default=2000, help="requests of most scenes")
    parser.add_argument("wanted", nargs="?", default="", help="only scenes whose name holds this")
    given = parser.parse_args()
    number, wanted = given.number, given.wanted
    print(f"{'':44}       s   limit  ratio    sent failed  cpu s")
    for name, (how, at_once) in SCENES.items():
        if wanted in name:
            print(f"{name:44} {measure(how, at_once, number)}", flush=True)
    for name, (servers, at_once, rate) in SHARED.items():
        if wanted in name:
            print(f"{name:44} {measure_shared(servers, at_once, rate, number)}", flush=True)
    for name in (ALONE, WITH_ALL):
        if wanted in name:
            print(*measure_command(number, whole=name == WITH_ALL), sep="\n", flush=True)


if __name__ == "__main__":
    main()
