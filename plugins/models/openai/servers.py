"""Several servers of one model: who is asked next. A slow one is asked less, a dead one hardly, and comes back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult

from .pace import Pace

_RECENT = 0.1
"""The weight of the newest reply in a server's mean time."""
_LINE = 0.25
"""Seconds of requests that may wait for their turn at a server which grants so many a second. Those that wait for any
server go to the one that is free first: in the end none has a line left while another has nothing to do."""
_FIRST_ABSENCE, _LONGEST_ABSENCE = 0.5, 30.0
"""Seconds for which a server that broke off is left alone: twice as long each time."""


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address up to `/v1`, to which routes are added, and what follows them (`?api-version=...`)."""

    base: SplitResult
    shown: str
    """Without password and keys."""

    def of(self, route: str) -> str:
        scheme, host, path, query, _ = self.base
        return f"{scheme}://{host}{path.rstrip('/')}/{route}{'?' if query else ''}{query}"


@dataclass
class ModelServer:
    """One server: what it is doing, and how it did lately. seconds: mean time of a reply, 0 where none came yet."""

    address: Address
    pace: Pace = field(default_factory=Pace)
    under_way: int = 0
    seconds: float = 0.0
    answers: int = 0
    breaks: int = 0
    """How often in a row it broke off, or did not answer."""
    away_until: float = 0.0

    def most(self, places: int) -> float:
        """Of so many requests at once, those that it can do with at the rate that it grants."""
        if not self.seconds:
            return places
        return min(places, 1 + self.pace.rate * (self.seconds + _LINE))

    def answered(self, seconds: float) -> None:
        """A reply came after so many seconds."""
        self.answers += 1
        self.breaks = 0
        self.seconds = seconds if not self.seconds else self.seconds + _RECENT * (seconds - self.seconds)

    def broke(self) -> None:
        """It broke off, or nobody was there."""
        if time.monotonic() >= self.away_until:  # those that were under way together broke off together
            self.breaks += 1
            absence = min(_LONGEST_ABSENCE, _FIRST_ABSENCE * 2.0 ** (self.breaks - 1))
            self.away_until = time.monotonic() + absence


class Servers:
    """The servers that share the work. most: requests under way at one of them."""

    def __init__(self, addresses: Sequence[Address], most: int) -> None:
        self.all = [ModelServer(address) for address in addresses]
        self._most = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def shown(self) -> str:
        return ", ".join(server.address.shown for server in self.all)

    async def take(self, but: ModelServer | None = None) -> ModelServer:
        """Who is asked next: where the fewest wait, by how long each takes; once one has a place, if any is there.

        but: who just said no to this request.
        """
        queue = self._waiting.append
        while (server := self._next(but)) is None:
            turn = asyncio.get_running_loop().create_future()
            queue(turn)
            await turn
            queue = self._waiting.appendleft  # it was the first
        server.under_way += 1
        return server

    def give(self, server: ModelServer) -> None:
        """A request to a server is over."""
        server.under_way -= 1
        woken = 0
        while self._waiting and woken < 2:  # the second, since there is room for more where the rate has risen
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                woken += 1

    def _next(self, but: ModelServer | None) -> ModelServer | None:
        if len(self.all) == 1:
            return self.all[0]
        there = [server for server in self._there() if server is not but]
        free = [server for server in there if server.under_way < server.most(self._most)]
        usual = min((server.seconds for server in self.all if server.seconds), default=1.0)
        if free:
            return min(free, key=lambda server: (server.under_way + 1) * (server.seconds or usual))
        return None if there else min(self.all, key=lambda server: (server.away_until, server.under_way))

    def can_hand_over(self, server: ModelServer) -> bool:
        """Whether another one than `server` is there to be asked at once."""
        return any(other is not server for other in self._there())

    def _there(self) -> list[ModelServer]:
        """Those that may be asked now. Where one broke off last time, a single request finds out whether it is back."""
        now = time.monotonic()
        return [each for each in self.all if each.away_until <= now and not (each.breaks and each.under_way)]
