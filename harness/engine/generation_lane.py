"""Rows that are generated together: a finished one's place is filled at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch

from harness.engine.attention import SharedAttention
from harness.engine.batches import KeyValues, PackLayout
from harness.engine.cuda_graphs import DecodeSteps
from harness.engine.decode_cache import DecodeCache, DecodingRow, better_order
from harness.engine.decoder import Decoder
from harness.engine.devices import upload
from harness.engine.memory import is_out_of_memory, release
from harness.engine.outcomes import Failed
from harness.engine.plain import BatchLimits, GenerateRow, Piece
from harness.engine.plan import PlanRow
from harness.engine.prompt_queue import PromptQueue
from harness.engine.sampling import RowChoice, choose_tokens, random_stream
from harness.stopwatch import Seconds

# New rows enter when this share of the places is free: one by one they would be computed one by one.
_REFILL = 8
Check = Callable[[Sequence[int], torch.Tensor], None]
"""(tokens, logits of what follows them): looks at the first that it is given."""


class GenerationLane:
    """Takes prompts from a queue and continues them, so many at a time.

    steps: how the next token of all its rows is computed. before_step: called before each. taken: steps so far; begun:
    when it took the first one. computed_tokens: in prompts and steps.
    """

    def __init__(
        self,
        decoder: Decoder,
        queue: PromptQueue,
        limits: BatchLimits,
        steps: DecodeSteps,
        cache: DecodeCache,
        check: Check,
        before_step: Callable[[], None],
    ) -> None:
        self.decoder = decoder
        self.attention: SharedAttention = steps.attention
        self.queue = queue
        self.limits = limits
        self.steps = steps
        self.check = check
        self.before_step = before_step
        self.taken = self.computed_tokens = 0
        self.begun: Seconds | None = None
        self._cache = cache
        self._ready: deque[DecodingRow] = deque()
        self._active: list[DecodingRow] = []

    def run(self) -> Iterator[Piece]:
        while self.queue or self._ready or self._active:
            yield from self._fill()
            if self._active:
                self.begun = self.begun or Seconds.now()
                self.before_step()
                yield from self._step()
                self.taken += 1

    def _fill(self) -> Iterator[Piece]:
        """Fill free slots, computing the prompts of new rows when enough slots are free."""
        free = self._cache.size - len(self._active)
        if self._active and free < max(1, self._cache.size // _REFILL):
            return
        while len(self._active) < self._cache.size:
            if not self._ready:
                free = self._cache.size - len(self._active)
                rows = self.queue.take(free, self.limits, wait=not self._active)
                if not rows:
                    return
                yield from self.prefill(rows)
                continue
            entering = self._ready.popleft()
            if entering.own is not None:
                self._cache.put(len(self._active), entering.own, entering.length)
                entering.own = None
            self._active.append(entering)

    def prefill(self, rows: list[PlanRow]) -> Iterator[Piece]:
        """Compute prompts that were taken from the queue."""
        try:
            yield from self._prefill(rows)
        except BaseException:
            self.queue.clear()  # what continues these rows is not to be given up as too large
            raise
        finally:
            self.queue.end(rows)

    def _prefill(self, rows: list[PlanRow]) -> Iterator[Piece]:
        alive = [row for row in rows if self.queue.has(row)]
        for row in rows:
            if row not in alive:
                yield from self._fail(row, "the shared part of this request did not fit into memory")
        if not alive:
            return
        began = time.perf_counter()
        try:
            entering = self._pass_over(alive)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            entering = None
        if entering is None:
            release(self.decoder.device)
            if len(alive) == 1:
                yield from self._fail(alive[0], f"{self.decoder.device} has too little memory for this prompt alone")
            else:
                middle = len(alive) // 2
                yield from self._prefill(alive[:middle])
                yield from self._prefill(alive[middle:])
            return
        share = (time.perf_counter() - began) / max(1, len(entering))
        for active in entering:
            active.seconds += share
            if active.row.stop.ends(active.tokens):
                yield self._finish(active)
            else:
                self._ready.append(active)
        for row in alive:
            self.queue.leave(row.parent)

    @torch.inference_mode()
    def _pass_over(self, rows: list[PlanRow]) -> list[DecodingRow]:
        """Compute prompts; choose the first token of each of their rows."""
        layout = PackLayout(rows, self.queue.prefixes, self.decoder.device, keep_all=True)
        waiting, places = [], []
        for row, offset in zip(rows, layout.offsets, strict=True):
            for item, segment in row.ends:
                for generated in self.queue.prompts[item]:
                    waiting.append((generated, row, segment))
                    places.append(offset + row.segments[segment][1] - 1)
        inputs = self.decoder.packed(layout)
        with self.attention.active(layout):
            hidden = self.decoder.hidden_at(upload(places, self.decoder.device, torch.long), layout, **inputs)
        self.computed_tokens += sum(len(row.tokens) for row in rows)
        entering = [
            self._enter(generated, row, segment, layout.cached[row.index]) for generated, row, segment in waiting
        ]
        if entering:
            # Usually the first step is checked, which needs the prompt's cache too; some rows have no step.
            check = entering[0].row.sequence.max_new_tokens == 1
            self._choose(entering, hidden, check=check)
        for row in rows:
            if row.children:
                self.queue.prefixes[row.index] = layout.cached[row.index]
        for active in entering:
            if active.prefix is not None:
                self.queue.look_up(active.prefix)
        return entering

    def _enter(self, generated: GenerateRow, row: PlanRow, segment: int, cached: KeyValues) -> DecodingRow:
        sequence = generated.sequence
        history = list(sequence.tokens)
        shift = row.shifts[segment] if row.shifts else 0
        choice = RowChoice(generated.rule, random_stream(sequence.params.seed, sequence.repeat), history, len(history))
        if row.children:
            return DecodingRow(generated, choice, history, row.index, len(sequence.tokens), 0, [], None, shift=shift)
        spans = row.path(segment)

        def own(store: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
            return {
                layer: torch.cat([tensor[0, :, start:end] for start, end in spans], dim=1)
                for layer, tensor in store.items()
            }

        length = sum(end - start for start, end in spans)
        return DecodingRow(
            generated,
            choice,
            history,
            row.parent,
            row.start,
            length,
            [],
            KeyValues(own(cached.keys), own(cached.values)),
            shift=shift,
        )

    def _choose(self, rows: Sequence[DecodingRow], hidden: torch.Tensor, *, check: bool) -> None:
        """Append to each row the token that follows, given hidden states [rows, hidden]."""
        chosen: list[int] = []
        for start, end in self.decoder.chunks(len(hidden)):
            logits = self.decoder.logits(hidden[start:end])
            if check and start == 0:
                self.check(rows[0].history, logits[0])
            chosen += choose_tokens(logits, [row.choice for row in rows[start:end]], self.decoder.dtype)
        for row, drawn in zip(rows, chosen, strict=True):
            token = row.row.token_after(row.tokens, drawn)
            row.tokens.append(token)
            row.history.append(token)

    def _step(self) -> Iterator[Piece]:
        """Give each active row its next token; finished rows leave."""
        began = time.perf_counter()
        try:
            self._decode()
            fits = True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        if not fits:
            yield from self._make_room()
            return
        share = (time.perf_counter() - began) / len(self._active)
        for slot in reversed(range(len(self._active))):
            row = self._active[slot]
            row.seconds += share
            if row.row.stop.ends(row.tokens):
                yield self._finish(row)
                last = self._active.pop()
                if last is not row:
                    self._active[slot] = last
                    self._cache.move(len(self._active), slot, last.length)

    @torch.inference_mode()
    def _decode(self) -> None:
        if self.decoder.device == "cpu" and self._cache.padded:
            self._put_in_order()
        hidden = self.steps.hidden(self._active, self._cache, self.queue.prefixes)
        self._choose(self._active, hidden, check=True)
        self.computed_tokens += len(self._active)
        for row in self._active:
            row.length += 1

    def _put_in_order(self) -> None:
        """Have slots of similar length stand together, where that spares enough."""
        lengths = [row.length for row in self._active]
        if (order := better_order(lengths)) is not None:
            self._cache.reorder(order, max(lengths))
            self._active = [self._active[slot] for slot in order]

    def _make_room(self) -> Iterator[Piece]:
        """Memory ran out in a step: half of the rows wait outside, or the only one fails."""
        self.steps.forget()
        release(self.decoder.device)
        if len(self._active) == 1:
            (row,) = self._active
            self._active = []
            self.queue.leave(row.prefix)
            yield row.row.sequence.request, 0, Failed(f"{self.decoder.device} ran out of memory at this answer"), 0.0
            return
        kept = len(self._active) // 2
        for slot in range(kept, len(self._active)):
            row = self._active[slot]
            row.own = self._cache.take(slot, row.length, "cpu")
            self._ready.append(row)
        self._active = self._active[:kept]
        self._cache.shrink(kept)
        release(self.decoder.device)

    def _finish(self, row: DecodingRow) -> Piece:
        self.queue.leave(row.prefix)
        return row.row.sequence.request, 0, row.row.stop.finish(row.tokens), row.seconds

    def _fail(self, row: PlanRow, reason: str) -> Iterator[Piece]:
        self.queue.leave(row.parent)
        for item, _ in row.ends:
            for generated in self.queue.prompts[item]:
                yield generated.sequence.request, 0, Failed(reason), 0.0
