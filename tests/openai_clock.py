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
from harness_plugins.models.openai.received import Received


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
    seconds: float = 0.2,
    **args: Any,
) -> Answered:
    """Ask so many questions of servers that answer after so many seconds, unless they refuse."""
    deciders = servers if isinstance(servers, list) else [servers]
    random.seed(1)  # of the pauses
    hosts = [f"http://{place}.test/v1" for place in range(len(deciders))]
    usual = {"model": "m", "api": "chat", "base_url": hosts, "num_concurrent": 64}
    model = OpenAIModel.create({**usual, **args}, ModelOptions())
    found = Answered()

    async def send(sent: Outgoing) -> Received:
        found.sent += 1
        no = deciders[int(sent.url.split("/")[2].split(".")[0])](asyncio.get_running_loop().time())
        await asyncio.sleep(seconds if no is None else 0.003)
        return Received(200, {}, b"") if no is None else Received(*no, b'{"error": {"message": "no"}}')

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
