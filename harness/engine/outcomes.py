"""From finished pieces back to responses: a request is answered when its last piece is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from harness.engine.stops import Finished
from harness.engine.tokens import Encoded
from harness.quick import dataclass
from harness.types import Response


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probability of one sequence's scored tokens (nats), whether each was the most likely, and how many."""

    logprob: float
    greedy: bool
    count: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a piece has no answer."""

    reason: str


SequenceOutcome = Scored | Finished | Failed


class Assembler:
    """Collects outcomes by request and hands out a response as soon as all parts of a request are there."""

    def __init__(self, *portions: Encoded) -> None:
        self._encoded = Encoded()
        self._begun: list[Encoded] = []
        for portion in portions:
            self.expect(portion)
        self._parts: dict[int, dict[int, SequenceOutcome]] = {}
        self._seconds: dict[int, float] = {}
        self._done: set[int] = set()

    def expect(self, portion: Encoded) -> None:
        """More requests, of which outcomes may come from now on."""
        self._encoded.take_facts(portion)
        self._begun.append(portion)

    def start(self) -> Iterator[tuple[int, Response]]:
        """What is answered before anything ran: requests that failed to encode, and texts without tokens."""
        while self._begun:
            portion = self._begun.pop()
            for index, reason in portion.errors.items():
                yield self._finish(index, Response(error=reason))
            for index, count in portion.parts.items():
                if count == 0 and index not in self._done:
                    yield self._finish(index, Response(logprobs=(0.0,), is_greedy=(True,), token_counts=(0,)))

    def add(self, request: int, part: int, outcome: SequenceOutcome, seconds: float) -> Iterator[tuple[int, Response]]:
        """Take one outcome; yield the response of its request when it was the last missing one."""
        if request in self._done:
            return
        if isinstance(outcome, Failed):
            yield self._finish(request, Response(error=outcome.reason))
            return
        parts = self._parts.setdefault(request, {})
        parts[part] = outcome
        self._seconds[request] = self._seconds.get(request, 0.0) + seconds
        if len(parts) == self._encoded.parts[request]:
            yield self._finish(request, self._respond(request, [parts[part] for part in sorted(parts)]))

    def _respond(self, request: int, outcomes: list[SequenceOutcome]) -> Response:
        seconds = self._seconds.pop(request)
        finished = [outcome for outcome in outcomes if isinstance(outcome, Finished)]
        if finished:
            return Response(
                text=finished[0].text,
                reasoning=finished[0].reasoning,
                finish_reason=finished[0].finish_reason,
                completion_tokens=finished[0].tokens,
                reasoning_tokens=finished[0].reasoning_tokens,
                seconds=seconds,
            )
        scored = [outcome for outcome in outcomes if isinstance(outcome, Scored)]
        if request in self._encoded.rolling:
            # One value out of the windows of a text.
            return Response(
                logprobs=(math.fsum(item.logprob for item in scored),),
                is_greedy=(all(item.greedy for item in scored),),
                token_counts=(sum(item.count for item in scored),),
                seconds=seconds,
            )
        return Response(
            logprobs=tuple(item.logprob for item in scored),
            is_greedy=tuple(item.greedy for item in scored),
            token_counts=tuple(item.count for item in scored),
            seconds=seconds,
        )

    def _finish(self, request: int, response: Response) -> tuple[int, Response]:
        self._done.add(request)
        self._parts.pop(request, None)
        return request, replace(
            response,
            truncated=self._encoded.truncated.get(request, 0),
            prompt_tokens=self._encoded.prompt_tokens.get(request),
        )
