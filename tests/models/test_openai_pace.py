"""A server's limit is met and not overrun: simulated in a clock of its own, so that minutes take no time."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from typing import Any

import pytest
from openai_clock import AtRandom, Bucket, Fixed, Sliding, Waiting, Wish, asked, simulated

from harness_plugins.models.openai.pace import AUTO_FIRST, AUTO_MOST, Pace, Places


class Limited:
    """A server that lets so many in a second, with as many saved up at most as `burst`."""

    def __init__(self, clock: Callable[[], float], rate: float, burst: float) -> None:
        self.clock, self.rate, self.burst = clock, rate, burst
        self.saved, self.filled = burst, clock()

    def lets_in(self) -> bool:
        now = self.clock()
        self.saved, self.filled = min(self.burst, self.saved + (now - self.filled) * self.rate), now
        if self.saved < 1:
            return False
        self.saved -= 1
        return True


async def served(
    clock: Callable[[], float], server: Limited | Unlucky, number: int, at_once: int, pause: float
) -> dict[str, Any]:
    """How long a server takes for so many requests, each of 200 ms, and how many of them it refused."""
    pace, places = Pace(clock=clock), Places(at_once, adapts=False)
    refused = 0

    async def one(index: int) -> None:
        nonlocal refused
        while True:
            start = await pace.turn()
            if server.lets_in():
                await asyncio.sleep(0.2)
                return places.give()
            refused += 1
            pace.refused(start, pause)
            places.give()
            await asyncio.sleep(pause * (1 + 0.1 * (index % 10) / 10))
            await places.take(index)

    tasks = []
    for index in range(number):
        await places.take(index)
        tasks.append(asyncio.create_task(one(index)))
    await asyncio.gather(*tasks)
    return {"seconds": clock(), "refused": refused}


@pytest.mark.parametrize(("burst", "pause"), [(100.0, 1.0), (10.0, 1.0), (100.0, 0.5)])
def test_a_server_that_allows_100_requests_a_second_is_served_at_its_rate(burst: float, pause: float) -> None:
    found = simulated(lambda clock: served(clock, Limited(clock, 100, burst), 4000, 64, pause))
    assert (4000 - burst) / 100 / found["seconds"] >= 0.95
    assert found["refused"] < 800


def test_three_requests_a_minute_are_waited_for_and_few_are_refused() -> None:
    found = simulated(lambda clock: served(clock, Limited(clock, 3 / 60, 3), 20, 8, 30.0))
    assert 17 * 20 * 0.95 <= found["seconds"] < 17 * 20 * 1.6
    assert found["refused"] < 150


def test_a_few_refusals_at_random_slow_nothing_down() -> None:
    class EveryTwentieth(Limited):
        count = 0

        def lets_in(self) -> bool:
            self.count += 1
            return self.count % 20 != 0

    found = simulated(lambda clock: served(clock, EveryTwentieth(clock, 0, 0), 2000, 64, 1.0))
    assert found["seconds"] < 2000 / 64 * 0.2 + 2.5


class Unlucky:
    """Refuses a share of the requests at random, however few they are, and those beyond a limit, if it has one; each
    of them may change with time."""

    def __init__(
        self, clock: Callable[[], float], share: Callable[[float], float], rate: Callable[[float], float], seed: int = 1
    ) -> None:
        self.clock, self.share, self.rate = clock, share, rate
        self.limit, self.rng = Limited(clock, rate(0.0), rate(0.0) / 10), random.Random(seed)
        self.asked: list[float] = []

    def lets_in(self) -> bool:
        now = self.clock()
        self.asked.append(now)
        self.limit.rate = self.rate(now)
        self.limit.burst = self.limit.rate / 10
        return self.rng.random() >= self.share(now) and self.limit.lets_in()

    def asked_between(self, since: float, until: float) -> int:
        return sum(since <= moment < until for moment in self.asked)


ALL = 1e6


@pytest.mark.parametrize(("share", "part"), [(0.1, 0.9), (0.2, 0.88), (0.3, 0.78), (0.4, 0.7)])
def test_refusals_however_few_are_asked_slow_nothing_down(share: float, part: float) -> None:
    """Only the first seconds are lost, until it is known that fewer requests are refused as often."""

    def work(clock: Callable[[], float]) -> Any:
        return served(clock, Unlucky(clock, lambda now: share, lambda now: ALL, 4), 6000, 64, 0.25)

    assert 6000 / 64 * 0.2 / simulated(work)["seconds"] > part


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.7])
def test_windows_of_a_second_are_no_refusals_at_random(phase: float) -> None:
    class Windows(Limited):
        window = -1

        def lets_in(self) -> bool:
            window = int(self.clock() + phase)
            if window != self.window:
                self.window, self.saved = window, self.rate
            self.saved -= 1
            return self.saved >= 0

    found = simulated(lambda clock: served(clock, Windows(clock, 100, 100), 8000, 64, 1.0))
    assert 7900 / 100 / found["seconds"] >= 0.95
    assert found["refused"] < 1600


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_a_limit_is_used_up_though_some_are_refused_at_random(share: float, seed: int) -> None:
    def work(clock: Callable[[], float]) -> Any:
        return served(clock, Unlucky(clock, lambda now: share, lambda now: 100.0, seed), 4000, 64, 1.0)

    found = simulated(work)
    assert 40 / found["seconds"] > 0.85
    assert found["refused"] < 4000 * (share / (1 - share) + 0.35)


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_few_refusals_at_random_do_not_make_a_limit_seem_lower(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Who asks less for them is let in less, and as many are refused again: so the rate would fall and fall."""
    clock, rng = [0.0], random.Random(seed)
    limit = Limited(lambda: clock[0], 100, 10)

    def decide(now: float) -> Wish | None:
        clock[0] = now
        return (429, {"retry-after": "1"}) if rng.random() < 0.1 or not limit.lets_in() else None

    found = asked(monkeypatch, decide, 2000)
    assert not found.errors and 19.9 / found.seconds > 0.9
    assert found.sent < 2000 * 1.4


def test_a_limit_after_refusals_at_random_is_met_and_not_overrun() -> None:
    made: list[Unlucky] = []

    def work(clock: Callable[[], float]) -> Any:
        server = Unlucky(clock, lambda now: 0.2 if now < 10 else 0.0, lambda now: ALL if now < 10 else 100.0)
        made.append(server)
        return served(clock, server, 5000, 64, 1.0)

    assert simulated(work)["seconds"] < 10 + 2000 / 100 + 4
    assert made[0].asked_between(20, 25) < 5 * 100 * 1.3


def test_a_limit_that_changes_is_followed() -> None:
    def work(clock: Callable[[], float]) -> Any:
        limits = Unlucky(clock, lambda now: 0.0, lambda now: 100.0 if now < 10 else 50.0 if now < 20 else 200.0)
        return served(clock, limits, 5500, 64, 1.0)

    assert simulated(work)["seconds"] < (20 + 4000 / 200) / 0.9


def test_who_refused_some_at_random_and_now_refuses_all_is_left_in_peace() -> None:
    made: list[Unlucky] = []

    def work(clock: Callable[[], float]) -> Any:
        made.append(Unlucky(clock, lambda now: 1.0 if 10 < now < 40 else 0.2, lambda now: ALL))
        return served(clock, made[0], 6000, 64, 1.0)

    assert simulated(work)["seconds"] < 90
    assert made[0].asked_between(5, 10) > 5 * 300
    assert made[0].asked_between(15, 40) < 25 * 20


def test_a_free_place_goes_to_the_first_question() -> None:
    async def work(clock: Callable[[], float]) -> list[int]:
        places, order = Places(1, adapts=False), []

        async def wait(rank: int) -> None:
            await places.take(rank)
            order.append(rank)
            places.give()

        await places.take(0)
        tasks = [asyncio.create_task(wait(rank)) for rank in (5, 2, 9)]
        await asyncio.sleep(0)
        places.give()
        await asyncio.gather(*tasks)
        return order

    assert simulated(work) == [2, 5, 9]


def test_auto_grows_while_replies_stay_quick_and_no_further() -> None:
    quick = Places(AUTO_MOST, adapts=True)
    for _ in range(2000):
        quick.answered(0.2)
    assert int(quick.size) == AUTO_MOST
    # Sixteen are answered at once; more of them wait in the server's line.
    busy = Places(AUTO_MOST, adapts=True)
    for _ in range(5000):
        busy.answered(0.2 * max(1.0, busy.size / 16))
    assert AUTO_FIRST <= busy.size <= 48


@pytest.mark.parametrize(
    ("seconds", "least"),
    [
        (lambda rng, number: rng.lognormvariate(0, 1), 48),
        (lambda rng, number: 0.1 if rng.random() < 0.5 else 3.0, 48),
        (lambda rng, number: (0.2 if number < 500 else 3.0) * rng.lognormvariate(0, 0.3), 60),
    ],
)
def test_auto_takes_long_answers_for_no_line(seconds: Callable[[random.Random, int], float], least: int) -> None:
    """A few long answers among short ones, or long ones after a task of short ones, are no sign of too many at once."""
    in_use = []
    for seed in range(4):
        rng, places, clock, area = random.Random(seed), Places(AUTO_MOST, adapts=True), 0.0, 0.0
        under_way: list[tuple[float, float]] = []
        for number in range(4000):
            while len(under_way) < int(places.size):
                heapq.heappush(under_way, (clock + seconds(rng, number), clock))
            end, begun = heapq.heappop(under_way)
            area, clock = area + (end - clock) * (len(under_way) + 1), end
            places.answered(end - begun)
        in_use.append(area / clock)
    assert sum(in_use) / 4 > least


async def away(clock: Callable[[], float], *, unavailable: bool) -> float:
    """How long 4,000 requests of 50 ms take, 64 at once, with a server that lets nobody in from 1 to 3 s."""
    pace, places = Pace(clock=clock), Places(64, adapts=False)

    async def one(index: int) -> None:
        while True:
            start = await pace.turn()
            if not 1 < clock() < 3:
                await asyncio.sleep(0.05)
                pace.answered(start)
                return places.give()
            pace.refused(start, 1.0, unavailable=unavailable)
            await asyncio.sleep(1 + 0.1 * (index % 10) / 10)

    tasks = []
    for index in range(4000):
        await places.take(index)
        tasks.append(asyncio.create_task(one(index)))
    await asyncio.gather(*tasks)
    return clock()


def test_a_server_that_was_away_is_asked_as_before_when_it_is_back() -> None:
    """Nothing was learnt about its limit, whether it was not there or its window was used up."""
    limit = 4000 / 64 * 0.05 + 2
    for unavailable in (True, False):
        assert limit < simulated(lambda clock, how=unavailable: away(clock, unavailable=how)) < limit + 2


def test_a_server_that_starts_again_within_half_a_minute_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(monkeypatch, lambda now: (502, {}) if 2 < now < 32 else None, 2000)
    assert not found.errors and found.seconds < 70


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize(
    ("windows", "number", "seconds"),
    [
        (lambda says: Sliding(600, 60, says=says), 3000, 4 * 60),
        (lambda says: Fixed(600, 60, 20, says=says), 3000, 20 + 3 * 60),
        (lambda says: Sliding(60, 60, says=says), 300, 4 * 60),
        (lambda says: Fixed(100, 10, 5, says=says), 1200, 5 + 10 * 10),
        (lambda says: Fixed(10, 60, 20, says=says), 60, 20 + 4 * 60),
    ],
)
def test_a_window_is_used_up_soon_after_it_opens(
    monkeypatch: pytest.MonkeyPatch, windows: Callable[[bool], Any], number: int, seconds: float, says: bool
) -> None:
    found = asked(monkeypatch, windows(says), number)
    assert not found.errors and seconds < found.seconds < seconds / 0.94


@pytest.mark.parametrize(
    ("status", "share", "seconds", "part"),
    [
        (429, 0.2, 0.2, 0.88),
        (503, 0.4, 0.2, 0.8),
        (429, 0.7, 0.2, 0.5),
        (503, 0.7, 0.2, 0.45),
        (429, 0.1, 5.0, 0.8),
        (503, 0.3, 20.0, 0.9),
    ],
)
def test_a_sample_that_is_refused_at_random_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch, status: int, share: float, seconds: float, part: float
) -> None:
    """Of those that answer others a 503 is no failure of this request: six of them in a row are chance."""
    rng, number = random.Random(1), 3000 if seconds < 1 else 1500
    found = asked(monkeypatch, lambda now: (status, {}) if rng.random() < share else None, number, seconds)
    assert not found.errors and number / 64 * seconds / found.seconds > part


@pytest.mark.parametrize("status", [429, 503])
def test_a_rate_is_not_lowered_for_ever_where_that_is_in_vain(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Four of five are refused, of however few: so few are let in after a while that no trial could tell."""
    rng = random.Random(1)
    found = asked(monkeypatch, lambda now: (status, {}) if rng.random() < 0.8 else None, 500)
    assert not found.errors and found.seconds < 30


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize(("number", "span", "most"), [(100, 1.0, 1.6), (100, 2.0, 2.2), (100, 5.0, 3.5)])
def test_a_window_that_is_used_up_is_never_taken_for_chance(
    monkeypatch: pytest.MonkeyPatch, number: int, span: float, most: float, says: bool
) -> None:
    for phase in (0.1, 0.4, 0.7, 0.9):
        found = asked(monkeypatch, Fixed(number, span, span * phase, says=says), 1000)
        assert not found.errors and found.sent < most * 1000


@pytest.mark.parametrize("seconds", [5.0, 20.0])
def test_a_low_limit_is_told_from_chance_where_answers_take_long(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    clock = [0.0]
    limit = Limited(lambda: clock[0], 5, 5)

    def decide(now: float) -> Wish | None:
        clock[0] = now
        return None if limit.lets_in() else (429, {})

    found = asked(monkeypatch, decide, 600, seconds)
    assert not found.errors and max(595 / 5, 600 / 64 * seconds) / found.seconds > 0.88
    assert found.sent < 600 * 2.5


def test_a_window_is_used_up_for_as_long_as_a_run_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was let in while the window was closed is no reason to take a rate for far above what is asked."""
    found = asked(monkeypatch, Sliding(60, 60, says=True), 900)
    assert not found.errors and 14 * 60 / found.seconds > 0.92


def test_who_was_refused_when_a_window_closed_comes_first_when_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    """None waits for a second window: its patience would not last for many."""
    assert asked(monkeypatch, Sliding(600, 60, says=True), 1800).longest < 90


def test_two_servers_whose_limit_is_lifted_are_soon_asked_as_fast_as_they_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def server() -> Callable[[float], Wish | None]:
        clock = [0.0]
        limit = Limited(lambda: clock[0], 5, 5)

        def decide(now: float) -> Wish | None:
            clock[0] = now
            return None if now > 20 or limit.lets_in() else (429, {})

        return decide

    found = asked(monkeypatch, [server(), server()], 12000)
    assert not found.errors and found.seconds < (20 + 11800 / 640) / 0.8


def test_two_servers_with_limits_end_their_work_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions wait for whichever server has a turn first, and not in the line of the slower one."""
    clock = [0.0]
    limits = [Limited(lambda: clock[0], 50, 5), Limited(lambda: clock[0], 100, 10)]

    def server(limit: Limited) -> Callable[[float], Wish | None]:
        def decide(now: float) -> Wish | None:
            clock[0] = now
            return None if limit.lets_in() else (429, {})

        return decide

    found = asked(monkeypatch, [server(limit) for limit in limits], 2000)
    assert not found.errors and 2000 / 150 / found.seconds > 0.95


@pytest.mark.parametrize(("rate", "burst", "part"), [(100, 1, 0.8), (200, 1, 0.7), (100, 2, 0.9), (100, 5, 0.95)])
def test_a_limit_that_saves_up_nothing_is_used_up(
    monkeypatch: pytest.MonkeyPatch, rate: float, burst: float, part: float
) -> None:
    """It refuses every second one of those that come a little too fast."""
    found = asked(monkeypatch, Bucket(rate, burst), 3000)
    assert not found.errors and 3000 / rate / found.seconds > part
    assert found.sent < 3000 * 1.2


def test_a_limit_of_tokens_is_not_taken_for_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large requests are refused again and again while small ones are let in: that was taken for refusals at random,
    and each answer cost 200 requests."""
    rng = random.Random(2)
    limit = Bucket(1000, 60_000, takes=Waiting(lambda: 500 * rng.lognormvariate(-0.5, 1)))
    found = asked(monkeypatch, limit, 600)
    assert not found.errors and (limit.used - limit.burst) / limit.rate / found.seconds > 0.9
    assert found.sent < 600 * 20


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_who_refuses_nine_of_ten_is_not_taken_for_closed(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    server = AtRandom(0.9)
    server.rng = random.Random(seed)
    found = asked(monkeypatch, server, 1000)
    assert not found.errors and found.seconds < 300
