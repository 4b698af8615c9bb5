"""An openai model and a server in a clock of their own, so that minutes of waiting take no time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from harness import ModelOptions
from harness_plugins.models.openai import OpenAIModel
from harness_plugins.models.openai.asking import Seat
from harness_plugins.models.openai.connection import Outgoing
from harness_plugins.models.openai.errors import RequestError
from harness_plugins.models.openai.pace import Pace
from harness_plugins.models.openai.received import NoReply, Received


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Waits by moving the clock, and looks at no socket: there is none."""

    def __init__(self) -> None:
        self.now, self._timers, self._number = 0.0, list[tuple[float, int, asyncio.TimerHandle]](), itertools.count()
        super().__init__()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._number), timer))
        return timer

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        if not ready:
            self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now + 1e-9:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()


def simulated(work: Callable[[Callable[[], float]], Any]) -> Any:
    """The result of `work`, a coroutine that is given the clock."""
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(work(loop.time))
    finally:
        loop.close()


Wish = tuple[int, Mapping[str, str]]
"""Status and headers of a refusal."""
Says = Callable[[float], Mapping[str, str]]
"""Headers of a refusal, of one that would be let in after so many seconds."""


class Sliding:
    """Lets in so many in any `span` seconds, and says when the next one may come where it `says` so."""

    def __init__(self, number: int, span: float, *, says: bool = False) -> None:
        self.number, self.span, self.says = number, span, says
        self.let_in: deque[float] = deque()

    def __call__(self, now: float) -> Wish | None:
        while self.let_in and self.let_in[0] <= now - self.span:
            self.let_in.popleft()
        if len(self.let_in) < self.number:
            self.let_in.append(now)
            return None
        until = self.let_in[0] + self.span
        return 429, {"retry-after": str(int(until - now) + 1)} if self.says else {}


class Fixed:
    """Lets in so many between one moment and the next, `span` seconds later; the first is over after `first`."""

    def __init__(self, number: int, span: float, first: float, *, says: bool = False) -> None:
        self.number, self.span, self.first, self.says = number, span, first, says
        self.window, self.left = -1.0, 0

    def __call__(self, now: float) -> Wish | None:
        window, passed = divmod(now + self.span - self.first, self.span)
        if window != self.window:
            self.window, self.left = window, self.number
        self.left -= 1
        if self.left >= 0:
            return None
        return 429, {"retry-after": str(int(self.span - passed) + 1)} if self.says else {}


class Waiting:
    """The sizes of those that wait: one that was refused comes again as large as it was."""

    def __init__(self, size: Callable[[], float], number: int = 64) -> None:
        self.size, self.rng = size, random.Random(2)
        self.there = [size() for _ in range(number)]

    def __call__(self) -> float:
        self.there.append(self.size())
        return self.there.pop(self.rng.randrange(len(self.there) - 1))

    def refused(self, size: float) -> None:
        self.there[-1] = size


class Bucket:
    """Lets in so many a second, with as many saved up at most as `burst`; with a burst of 1 there is one each so many
    seconds (GCRA). takes: how much of it a request takes, such as its tokens; what one takes may be owed."""

    def __init__(
        self, rate: float, burst: float = 1, *, takes: Callable[[], float] = lambda: 1, says: Says = lambda wait: {}
    ) -> None:
        self.rate, self.burst, self.takes, self.says = rate, burst, takes, says
        self.saved, self.filled, self.used = burst, 0.0, 0.0

    def __call__(self, now: float) -> Wish | None:
        self.saved, self.filled = min(self.burst, self.saved + (now - self.filled) * self.rate), now
        takes = min(self.burst, self.takes())
        if self.saved < takes - 1e-9:
            if isinstance(self.takes, Waiting):
                self.takes.refused(takes)
            return 429, self.says((takes - self.saved) / self.rate)
        self.saved -= takes
        self.used += takes
        return None


class AtOnce:
    """Answers so many at once, or what makes them of the moment, and refuses the others."""

    def __init__(self, number: int | Callable[[float], int], status: int = 429, **headers: str) -> None:
        self.number, self.refusal = number, (status, headers)
        self.busy = 0

    def __call__(self, now: float) -> Wish | None:
        if self.busy >= (self.number(now) if callable(self.number) else self.number):
            return self.refusal
        self.busy += 1
        return None

    def done(self) -> None:
        self.busy -= 1


class AtRandom:
    """Refuses a share, however few they are."""

    def __init__(self, share: float, status: int = 429, **headers: str) -> None:
        self.share, self.refusal = share, (status, headers)
        self.rng = random.Random(1)

    def __call__(self, now: float) -> Wish | None:
        return self.refusal if self.rng.random() < self.share else None


class Each:
    """Several limits, each of which has to let a request in."""

    def __init__(self, *limits: Callable[[float], Wish | None]) -> None:
        self.limits = limits
        self.endings = [limit.done for limit in limits if hasattr(limit, "done")]

    def __call__(self, now: float) -> Wish | None:
        for number, limit in enumerate(self.limits):
            if (wish := limit(now)) is not None:
                for before in self.limits[:number]:
                    getattr(before, "done", lambda: None)()
                return wish
        return None

    def done(self) -> None:
        for ending in self.endings:
            ending()


class Later:
    """One limit after another, each from a moment on."""

    def __init__(self, *limits: tuple[float, Callable[[float], Wish | None]]) -> None:
        self.limits = limits

    def __call__(self, now: float) -> Wish | None:
        return next(limit for since, limit in reversed(self.limits) if now >= since)(now)


@dataclass
class Answered:
    """What became of the requests. longest: seconds that one of them took."""

    seconds: float = 0.0
    sent: int = 0
    longest: float = 0.0
    errors: list[str] = field(default_factory=list)


def asked(
    monkeypatch: pytest.MonkeyPatch,
    servers: Callable[[float], Wish | None] | list[Callable[[float], Wish | None]],
    number: int,
    seconds: float | Callable[[int], float] = 0.2,
    on_the_way: Callable[[], float] = lambda: 0.0,
    **args: Any,
) -> Answered:
    """Ask so many questions of servers that answer after so many seconds, unless they refuse.

    seconds: or what makes them of the number that is under way. on_the_way: seconds until a request is there.
    """
    deciders = servers if isinstance(servers, list) else [servers]
    random.seed(1)  # of the pauses
    hosts = [f"http://{place}.test/v1" for place in range(len(deciders))]
    usual = {"model": "m", "api": "chat", "base_url": hosts, "num_concurrent": 64}
    model = OpenAIModel.create({**usual, **args}, ModelOptions())
    found = Answered()
    busy = [0] * len(deciders)

    async def send(sent: Outgoing) -> Received:
        found.sent += 1
        await asyncio.sleep(on_the_way())
        place = int(sent.url.split("/")[2].split(".")[0])
        if (no := deciders[place](asyncio.get_running_loop().time())) is not None:
            await asyncio.sleep(0.003)
            return Received(*no, b'{"error": {"message": "no"}}')
        busy[place] += 1
        took = seconds(busy[place]) if callable(seconds) else seconds
        await asyncio.sleep(min(took, sent.seconds))
        busy[place] -= 1
        if hasattr(deciders[place], "done"):
            deciders[place].done()
        if took > sent.seconds:
            raise NoReply(f"took too long ({sent.seconds:.0f} s)")
        return Received(200, {}, b"")

    async def one(index: int, clock: Callable[[], float]) -> None:
        began = clock()
        try:
            await Seat(index, model.places, model._client).post("chat/completions", {}, lambda content, kind: content)
        except RequestError as error:
            found.errors.append(str(error))
        found.longest = max(found.longest, clock() - began)
        model.places.give()

    async def work(clock: Callable[[], float]) -> None:
        for module in ("client", "servers"):
            monkeypatch.setattr(f"harness_plugins.models.openai.{module}.time", SimpleNamespace(monotonic=clock))
        for server in model.servers.all:
            server.pace = Pace(clock=clock)
        tasks = []
        for index in range(number):
            await model.places.take(index)
            tasks.append(asyncio.create_task(one(index, clock)))
        await asyncio.gather(*tasks)
        found.seconds = clock()

    monkeypatch.setattr(model._client.connection, "send", send)
    simulated(work)
    return found
