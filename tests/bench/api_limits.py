"""How much of what a server allows the openai model uses: `python tests/bench/api_limits.py [PART OF A KIND'S NAME]`.

Every kind of limit that services have, in a simulated clock: the table is the same on every machine, busy or not. Each
server answers after 200 ms, and 64 are asked at once where nothing else is said. Printed are seconds, the share of what
was possible, requests that were sent for each answer, and failed samples.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from openai_clock import AtOnce, AtRandom, Bucket, Each, Fixed, Later, Sliding, Waiting, asked

PLACES, LATENCY = 64, 0.2
FREE = PLACES / LATENCY
"""Requests a second of a server without limits."""
Kind = tuple[Callable[[], Any], int, float, dict[str, Any]]
"""What makes the server or servers, how many questions, the seconds that they take at least (0: as many as their tokens
take), and further arguments."""


def _seconds(wait: float) -> dict[str, str]:
    return {"retry-after": str(int(wait) + 1)}


def _reset(wait: float) -> dict[str, str]:
    return {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{wait * 1000:.0f}ms"}


def _tokens(mean: float) -> Callable[[], float]:
    """Numbers of tokens of which a few are large, as those of answers are."""
    rng = random.Random(2)
    return Waiting(lambda: mean * rng.lognormvariate(-0.5, 1))


def _way(most: float) -> Callable[[], float]:
    rng = random.Random(4)
    return lambda: rng.uniform(0, most)


def _stalls(share: float) -> Callable[[int], float]:
    rng = random.Random(3)
    return lambda busy: 1e9 if rng.random() < share else LATENCY


def _rate(rate: float, burst: float = 1, number: int = 3000, **how: Any) -> Kind:
    return lambda: Bucket(rate, burst, **how), number, (number - burst) / rate, {}


def _at_random(share: float, number: int = 2000, **how: Any) -> Kind:
    return lambda: AtRandom(share, **how), number, number / FREE, {}


def _at_once(number: int, status: int = 429, **headers: str) -> Kind:
    return lambda: AtOnce(number, status, **headers), 3000, 3000 / number * LATENCY, {}


KINDS: dict[str, Kind] = {
    "no limit": (lambda: Each(), 3000, 3000 / FREE, {}),
    "bucket of 100, 100 a second": _rate(100, 100),
    "bucket of 10, 100 a second": _rate(100, 10),
    "bucket of 10, 100 a second, Retry-After": _rate(100, 10, says=_seconds),
    "bucket of 10, 100 a second, Retry-After 0": _rate(100, 10, says=lambda wait: {"retry-after": "0"}),
    "bucket of 10, 100 a second, Retry-After 600": _rate(100, 10, says=lambda wait: {"retry-after": "600"}),
    "bucket of 10, 100 a second, Retry-After a day": _rate(100, 10, says=lambda wait: {"retry-after": "86400"}),
    "bucket of 10, 100 a second, x-ratelimit-reset": _rate(100, 10, says=_reset),
    "one each 10 ms": _rate(100),
    "one each 10 ms, Retry-After": _rate(100, says=_seconds),
    "one each 10 ms, x-ratelimit-reset": _rate(100, says=_reset),
    "one each 10 ms, a network of 0 to 2 ms": (lambda: Bucket(100), 3000, 30, {"on_the_way": _way(0.002)}),
    "one each 10 ms, a network of 0 to 40 ms": (lambda: Bucket(100), 3000, 30, {"on_the_way": _way(0.04)}),
    "one each 10 ms, burst of 2": _rate(100, 2),
    "one each 10 ms, burst of 5": _rate(100, 5),
    "one each 100 ms": _rate(10, number=600),
    "one each 2 s": _rate(0.5, number=60),
    "one each 20 s, Retry-After": _rate(0.05, number=30, says=_seconds),
    "one each 5 ms": _rate(200),
    "100 each second": (lambda: Fixed(100, 1, 0.3), 3000, 28.3, {}),
    "100 each second, Retry-After": (lambda: Fixed(100, 1, 0.3, says=True), 3000, 28.3, {}),
    "600 each minute": (lambda: Fixed(600, 60, 20), 3000, 20 + 3 * 60, {}),
    "600 each minute, Retry-After": (lambda: Fixed(600, 60, 20, says=True), 3000, 20 + 3 * 60, {}),
    "100 in any second": (lambda: Sliding(100, 1), 3000, 29, {}),
    "600 in any minute": (lambda: Sliding(600, 60), 3000, 4 * 60, {}),
    "600 in any minute, Retry-After": (lambda: Sliding(600, 60, says=True), 3000, 4 * 60, {}),
    "10 in any second and 300 in any minute": (lambda: Each(Sliding(10, 1), Sliding(300, 60)), 1200, 3 * 60 + 29, {}),
    "50,000 tokens a second": (lambda: Bucket(50_000, 50_000, takes=_tokens(500)), 3000, 0, {}),
    "60,000 tokens a minute": (lambda: Bucket(1000, 60_000, takes=_tokens(500)), 600, 0, {}),
    "60,000 tokens a minute, Retry-After": (
        lambda: Bucket(1000, 60_000, takes=_tokens(500), says=_seconds),
        600,
        0,
        {},
    ),
    "60,000 tokens a minute, x-ratelimit-reset": (
        lambda: Bucket(1000, 60_000, takes=_tokens(500), says=_reset),
        600,
        0,
        {},
    ),
    "100 a second and 40,000 tokens a second": (
        lambda: Each(Bucket(100, 10), Bucket(40_000, 40_000, takes=_tokens(500))),
        3000,
        36.5,
        {},
    ),
    "16 at once": _at_once(16),
    "16 at once, Retry-After 1": _at_once(16, **{"retry-after": "1"}),
    "16 at once, Retry-After 5": _at_once(16, **{"retry-after": "5"}),
    "16 at once, 503": _at_once(16, 503),
    "16 at once, 503, Retry-After 1": _at_once(16, 503, **{"retry-after": "1"}),
    "4 at once": (lambda: AtOnce(4), 600, 600 / 4 * LATENCY, {}),
    "1 at once": (lambda: AtOnce(1), 200, 200 * LATENCY, {}),
    "16 at once, answers of 5 s": (lambda: AtOnce(16), 400, 400 / 16 * 5, {"seconds": 5.0}),
    "4 at once, answers of 20 s": (lambda: AtOnce(4), 80, 80 / 4 * 20, {"seconds": 20.0}),
    "50 at once": _at_once(50),
    "16 at once and 50 a second": (lambda: Each(AtOnce(16), Bucket(50, 10)), 2000, 1990 / 50, {}),
    "16 at once and 100 a second": (lambda: Each(AtOnce(16), Bucket(100, 10)), 3000, 3000 / 80, {}),
    "32, then 8, then 64 at once": (
        lambda: AtOnce(lambda now: 32 if now < 10 else 8 if now < 30 else 64),
        8000,
        30 + (8000 - 1600 - 800) / 320,
        {},
    ),
    "100, then 50, then 200 a second": (
        lambda: Later((0, Bucket(100, 10)), (10, Bucket(50, 10)), (20, Bucket(200, 20))),
        5500,
        20 + 4000 / 200,
        {},
    ),
    "one each 10 ms, then each 40 ms, then each 5 ms": (
        lambda: Later((0, Bucket(100)), (10, Bucket(25)), (30, Bucket(200))),
        5500,
        30 + 4000 / 200,
        {},
    ),
    "5 % at random": _at_random(0.05),
    "5 % at random, Retry-After 5": _at_random(0.05, **{"retry-after": "5"}),
    "20 % at random": _at_random(0.2),
    "20 % at random, Retry-After 1": _at_random(0.2, **{"retry-after": "1"}),
    "20 % at random, 10,000": _at_random(0.2, 10_000),
    "20 % at random, 503": _at_random(0.2, status=503),
    "50 % at random": _at_random(0.5),
    "80 % at random": _at_random(0.8),
    "90 % at random": _at_random(0.9),
    "90 % at random, Retry-After 5": _at_random(0.9, **{"retry-after": "5"}),
    "90 % at random, 503": _at_random(0.9, status=503),
    "one each 10 ms, 5 % at random": (lambda: Each(AtRandom(0.05), Bucket(100)), 3000, 30, {}),
    "100 a second, 10 % at random": (lambda: Each(AtRandom(0.1), Bucket(100, 10)), 3000, 30, {}),
    "answers slower with more than 16": (
        lambda: Each(),
        3000,
        3000 / 80,
        {"seconds": lambda busy: LATENCY * max(1, busy / 16)},
    ),
    "the same, auto": (
        lambda: Each(),
        3000,
        3000 / 80,
        {"seconds": lambda busy: LATENCY * max(1, busy / 16), "num_concurrent": "auto"},
    ),
    "1 % never answered, timeout 30": (lambda: Each(), 5000, 35, {"seconds": _stalls(0.01), "timeout": 30}),
    "two of 50 and 100 a second": (lambda: [Bucket(50, 5), Bucket(100, 10)], 3000, 20, {}),
    "two, one each 10 ms": (lambda: [Bucket(100), Bucket(100)], 4000, 20, {}),
    "two, one each 10 ms and one without": (lambda: [Bucket(100), Each()], 6000, 6000 / 420, {}),
    "two, 16 at once and one without": (lambda: [AtOnce(16), Each()], 6000, 6000 / 400, {}),
    "two, one refuses 20 %": (lambda: [AtRandom(0.2), Each()], 6000, 6000 / 640, {}),
    "1,024 at once, 1,000 a second": (lambda: Bucket(1000, 100), 20_000, 19.9, {"num_concurrent": 1024}),
    "1,024 at once, one each ms": (lambda: Bucket(1000), 20_000, 20, {"num_concurrent": 1024}),
}


def measure(name: str) -> str:
    made, number, least, args = KINDS[name]
    server = made()
    with pytest.MonkeyPatch.context() as patch:
        found = asked(patch, server, number, **{"seconds": LATENCY, **args})
    share, each = (least or (server.used - server.burst) / server.rate) / found.seconds, found.sent / number
    return f"{name:48} {found.seconds:8.1f} {share:6.2f} {each:6.2f} {len(found.errors):6}"


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{'':48} {'seconds':>8} {'share':>6} {'sent':>6} failed")
    with ProcessPoolExecutor(2) as pool:
        for line in pool.map(measure, [name for name in KINDS if wanted in name]):
            print(line, flush=True)
