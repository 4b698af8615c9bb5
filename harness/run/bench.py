"""Measures a server: one load after another, with prompts of tasks, until the ladder ends or the server does.

bench(spec, [Load(at_once=1), Load(at_once=2)], registry, progress, limits={"ttft": 0.5}, warmup=1, keep=rungs.append)
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

from harness.errors import ExitCode, ModelError, UsageError
from harness.quick import dataclass
from harness.registry import Registry
from harness.run.answers import plugin_errors, unreadable
from harness.run.load import closed_loop, open_loop, poisson_pauses
from harness.run.prepare import prepare_run
from harness.run.rungs import Rung, rung_of
from harness.run.spec import Progress, RunSpec
from harness.streaming import AskTimed, TimedReply
from harness.types import Request
from harness.words import Phrase, phrase

LEAST_REQUESTS = 20
PER_PLACE = 5


@dataclass(frozen=True, slots=True)
class Load:
    """at_once: requests under way (closed loop), or rate: requests sent a second at random moments (open loop).

    requests: how many; None: five for each that is under way, and 20 at least.
    """

    at_once: int | None = None
    rate: float | None = None
    requests: int | None = None

    @property
    def count(self) -> int:
        return self.requests or max(LEAST_REQUESTS, PER_PLACE * (self.at_once or 0))

    @property
    def text(self) -> Phrase:
        if self.at_once is not None:
            return phrase("{load:g} at once", load=self.at_once)
        return phrase("{load:g} requests a second", load=self.rate)


def bench(
    spec: RunSpec,
    loads: Sequence[Load],
    registry: Registry,
    progress: Progress,
    *,
    limits: Mapping[str, float],
    warmup: int,
    keep: Callable[[Rung], object],
) -> None:
    """Put the server of `spec` under each load in turn; `keep` is given each rung as soon as it is over.

    limits: as for `rung_of`. warmup: requests that are asked first, one after another, and not counted. Raises
    `UsageError` for what cannot be measured, `ModelError` where the server answers nothing any more; what was measured
    before was given to `keep`.
    """
    with prepare_run(spec, [spec.model_args], registry, progress, scoring=False) as prepared:
        (model,) = prepared.models
        asked = [request for request in prepared.requests if unreadable(request) is None]
        requests = list(
            dict.fromkeys(request for request in asked if request.kind == "generate" and not request.repeat)
        )
        if not requests:
            raise UsageError(
                "harness bench: these tasks ask for no answer that a server could stream, as those do that generate "
                "(gsm8k, or the variant `gen` of one with choices)"
            )
        client = model.timed()
        progress.stage(phrase("looking for {model}", model=spec.model))
        with plugin_errors(spec.model, "could not be loaded"):
            model.load()

        async def measure() -> None:
            async with client as ask:
                await _warm(ask, requests[:1] * warmup, progress)
                drawn = _Prompts(requests, spec.seed)
                for number, load in enumerate(loads):
                    progress.stage(phrase("{load}: {n} requests", load=load.text, n=load.count))
                    await _measure(ask, load, drawn, limits, f"bench {spec.seed} {number}", keep)

        with plugin_errors(spec.model, "failed while it was measured"):
            asyncio.run(measure())


class _Prompts:
    """The prompts in random order; each once before any comes again."""

    def __init__(self, requests: Sequence[Request], seed: int) -> None:
        self._order = random.Random(f"bench {seed}").sample(list(requests), len(requests))
        self._given = 0

    def next(self, count: int) -> tuple[list[Request], int]:
        """So many, and how many of them were asked before."""
        first, self._given = self._given, self._given + count
        size = len(self._order)
        return [self._order[number % size] for number in range(first, first + count)], max(
            0, count - max(0, size - first)
        )


async def _warm(ask: AskTimed, requests: Sequence[Request], progress: Progress) -> None:
    for request in requests:
        progress.stage(phrase("the first request, which is not counted"))
        reply = await ask(request)
        if reply.error:
            raise ModelError(f"the first request failed, so nothing was measured: {reply.error}")


async def _measure(
    ask: AskTimed, load: Load, drawn: _Prompts, limits: Mapping[str, float], seed: str, keep: Callable[[Rung], object]
) -> None:
    """Put the server under one load; `keep` is given what came, also where the end came early."""
    requests, before = drawn.next(load.count)
    replies: list[TimedReply] = []
    try:
        if load.at_once is not None:
            await closed_loop(ask, requests, load.at_once, replies)
        else:
            await open_loop(ask, requests, poisson_pauses(load.rate or 1.0, seed), replies)
    finally:
        if replies:
            rung = rung_of(replies, len(requests), limits, at_once=load.at_once, rate=load.rate, asked_before=before)
            keep(rung)
    if rung.sent < rung.asked:
        why = next(iter(rung.errors), "no reply")
        error = ModelError(
            f"at {load.text} the server answered {rung.answered} of {rung.sent} requests, and none any more: {why}; "
            "what was measured is kept"
        )
        error.exit_code = ExitCode.INTERRUPTED
        raise error
