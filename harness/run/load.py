"""Puts a server under load: so many requests at once (closed loop), or one after random pauses (open loop).

    replies: list[TimedReply] = []
    await closed_loop(ask, requests, 16, replies)
    await open_loop(ask, requests, pauses, replies)

Replies are added as they end, so that those before an exception are there. A server that answered none of many in a
row is left alone: then fewer come than were to be asked for.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine, Iterable, Iterator, Sequence

from harness.streaming import AskTimed, TimedReply
from harness.types import Request

LEAST_FAILURES = 8
"""So many failures in a row, or as many as there are requests at once: then a server is left alone."""


def poisson_pauses(rate: float, seed: str) -> Iterator[float]:
    """Seconds between requests that come independently of one another, `rate` a second: exponentially distributed."""
    drawn = random.Random(seed)
    while True:
        yield drawn.expovariate(rate)


async def closed_loop(ask: AskTimed, requests: Sequence[Request], at_once: int, replies: list[TimedReply]) -> None:
    """Ask with so many requests under way, a new one as soon as one is over."""
    patience = max(LEAST_FAILURES, at_once)
    left = iter(requests)

    async def one_after_another() -> None:
        for request in left:
            if _is_gone(replies, patience):
                return
            replies.append(await ask(request))

    await _all([one_after_another() for _ in range(min(at_once, len(requests)))])


async def open_loop(
    ask: AskTimed, requests: Sequence[Request], pauses: Iterable[float], replies: list[TimedReply]
) -> None:
    """Send each request after its pause, however many are under way then: a server that is slow gets no fewer."""
    loop = asyncio.get_running_loop()
    due = itertools.accumulate(pauses, initial=loop.time())

    async def one(request: Request, moment: float) -> None:
        await asyncio.sleep(moment - loop.time())
        if not _is_gone(replies, LEAST_FAILURES):
            replies.append(await ask(request))

    await _all([one(request, moment) for request, moment in zip(requests, due, strict=False)])


def _is_gone(replies: Sequence[TimedReply], patience: int) -> bool:
    return len(replies) >= patience and all(reply.error for reply in replies[-patience:])


async def _all(work: Sequence[Coroutine[object, object, None]]) -> None:
    """Wait for all; the first exception ends the others and is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
