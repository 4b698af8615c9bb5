"""Generation over a plan: prompts share their prefix, and a finished row's place is filled at once."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import torch

from harness.engine.attention import SharedAttention
from harness.engine.cuda_graphs import DecodeSteps
from harness.engine.decode_cache import DecodeCache
from harness.engine.decoder import Decoder
from harness.engine.generation_lane import GenerationLane
from harness.engine.lanes import Lanes
from harness.engine.limits import PlanLimits
from harness.engine.plain import BatchLimits, GenerateRow, Piece
from harness.engine.plan import Plan
from harness.engine.prompt_queue import PromptQueue, plan_generations

Verify = Callable[[Sequence[int], torch.Tensor], None]
"""(tokens, logits of what follows them): raises when a plain pass gives something else. Called once."""


class _FirstStep:
    """Has the first step of whichever lane compared with a plain pass, if it is to be, while the others wait."""

    def __init__(self, verify: Verify | None, lanes: Lanes, attention: SharedAttention) -> None:
        self.is_over = verify is None
        self._verify = verify
        self._lanes = lanes
        self._attention = attention
        self._one = threading.Lock()

    def __call__(self, tokens: Sequence[int], logits: torch.Tensor) -> None:
        with self._one:
            verify, self._verify = self._verify, None
        if verify is not None:
            with self._attention.inactive(), self._lanes.undivided():
                verify(tokens, logits)
            self.is_over = True


def longest_slot(prompts: Sequence[Sequence[GenerateRow]], plan: Plan) -> int:
    """Tokens that a slot may come to hold: reserved once, since growing would copy all slots."""
    return max(
        sum(end - start for start, end in ([] if row.children else row.path(segment)))
        + max(generated.sequence.max_new_tokens for generated in prompts[item])
        for row in plan.rows
        for item, segment in row.ends
    )


class SharedGenerator:
    """Continues prompts by a plan.

    limits.tokens: tokens of one pass over prompts. slots: how many rows are generated at a time, in all lanes together.
    steps: makes what takes the steps of a lane.
    """

    def __init__(
        self, decoder: Decoder, attention: SharedAttention, limits: BatchLimits, slots: int, lanes: int = 1
    ) -> None:
        self.decoder = decoder
        self.attention = attention
        self.limits = limits
        self.slots = slots
        self.plan_limits: PlanLimits | None = None
        self.steps: Callable[[], DecodeSteps] = lambda: DecodeSteps(decoder, attention)
        self.verify: Verify | None = None
        self.lanes: list[GenerationLane] = []
        self._count = lanes

    @property
    def computed_tokens(self) -> int:
        """Of prompts and answers, so far."""
        return sum(lane.computed_tokens for lane in self.lanes)

    def run(self, rows: Sequence[GenerateRow]) -> Iterator[Piece]:
        with self.attention.clock.phase("plan"):
            prompts, self.plan = plan_generations(rows, self.plan_limits)
        self.decoder.place(self.plan.rows)
        ahead = 0 if self._count == 1 else (self._count + 1) * self.limits.tokens
        waiting = PromptQueue(prompts, self.plan, ahead)
        # Equal parts of the rows, where these are fewer than there is room for.
        size = -(-min(self.slots, len(rows)) // self._count)
        longest = longest_slot(prompts, self.plan)
        verify, self.verify = self.verify, None
        with Lanes(self._count, self.attention) as lanes:
            check = _FirstStep(verify, lanes, self.attention)
            self.lanes = [
                GenerationLane(
                    self.decoder,
                    waiting,
                    self.limits,
                    self.steps(),
                    DecodeCache(size, longest),
                    check,
                    lanes.widen,
                )
                for _ in range(self._count)
            ]
            if self._count == 1:
                yield from self.lanes[0].run()
                return
            while stem := waiting.stem():
                yield from self.lanes[0].prefill(stem)
            yield from self._run_in(lanes, check)

    def _run_in(self, lanes: Lanes, check: _FirstStep) -> Iterator[Piece]:
        """What all lanes give, as it comes; nothing of it before one of their steps was checked."""
        given: queue.SimpleQueue[Piece | int] = queue.SimpleQueue()

        def work(number: int) -> None:
            try:
                for piece in self.lanes[number].run():
                    given.put(piece)
            finally:
                given.put(number)

        ends = [lanes.begin(functools.partial(work, number)) for number in range(len(self.lanes))]
        early: list[Piece] = []
        left = len(ends)
        while left:
            found = given.get()
            lanes.tell()
            if isinstance(found, int):
                ends[found].result()
                left -= 1
            elif check.is_over:
                yield from early
                early.clear()
                yield found
            else:
                early.append(found)
        yield from early
