"""Log-likelihoods over a plan: each distinct token goes through the model once."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from harness.engine.attention import SharedAttention
from harness.engine.batches import PackLayout
from harness.engine.decoder import Decoder, score_positions
from harness.engine.devices import upload
from harness.engine.lanes import Lanes
from harness.engine.limits import PlanLimits
from harness.engine.outcomes import Scored
from harness.engine.plain import BatchLimits, Piece, run_halving
from harness.engine.plan import PlanRow, fill_batches, in_time
from harness.engine.planned_scores import Owner, PlannedScores
from harness.engine.sampling import check_finite
from harness.engine.tokens import ScoreSequence


@dataclass(slots=True)
class _Pass:
    """A batch on its way: rows, and what the device will have found of them. `failed` are pieces without a pass.

    owners: of each value. seconds: spent on it so far.
    """

    rows: list[PlanRow]
    seconds: float = 0.0
    values: torch.Tensor | None = None
    greedy: torch.Tensor | None = None
    owners: list[Owner] = field(default_factory=list)
    failed: list[Piece] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A batch that was begun: what waits for its end, and the shared prefixes that it computes."""

    planned: PlannedScores
    wait: Callable[[], Iterable[_Pass]]
    prefixes: set[int]


class SharedScorer:
    """Scores sequences by a plan. `limits.tokens` counts tokens, of which none is padding.

    lanes: how many batches are computed at once. ahead: how many may be under way while the next one is prepared.
    """

    def __init__(self, decoder: Decoder, attention: SharedAttention, limits: BatchLimits, lanes: int = 1) -> None:
        self.decoder = decoder
        self.attention = attention
        self.limits = limits
        self.lanes = lanes
        self.plan_limits: PlanLimits | None = None
        # A card computes on its own; a processor, with one lane, has nothing to wait for.
        self.ahead = lanes if lanes > 1 else int(decoder.device.startswith("cuda"))
        self.verify: Callable[[ScoreSequence, Scored], None] | None = None
        self._verified: set[tuple[bool, bool]] = set()
        self._under_way: deque[_UnderWay] = deque()

    def run(self, portions: Iterable[Sequence[ScoreSequence]]) -> Iterator[Piece]:
        """Score sequences that come a portion at a time, each planned by itself."""
        with Lanes(self.lanes, self.attention) as lanes:
            for planned, batch in self._batches(portions):
                yield from self._begin(planned, batch, lanes)
            while self._under_way:
                yield from self._collect_next(lanes)

    def _batches(self, portions: Iterable[Sequence[ScoreSequence]]) -> Iterator[tuple[PlannedScores, list[PlanRow]]]:
        """The batches of all portions, in the order in which they are computed.

        With several lanes a shared prefix comes so early that what continues it need not wait for it; the first ones of
        a portion come before the last batches of the portion before it.
        """
        soon = (self.lanes + 1) * self.limits.tokens if self.lanes > 1 else 0
        held: list[tuple[PlannedScores, list[PlanRow]]] = []
        for sequences in portions:
            with self.attention.clock.phase("plan"):
                planned = PlannedScores(sequences, self.plan_limits)
                self.decoder.place(planned.rows)
                rows = in_time(planned.rows, soon) if soon else planned.rows
                batches = [(planned, batch) for batch in fill_batches(rows, self.limits.tokens, self.limits.rows)]
            early = int(bool(held and batches) and any(row.children for row in batches[0][1]))
            yield from batches[:early]
            yield from held
            last = len(batches) - self.lanes if soon else len(batches)
            yield from batches[early : max(early, last)]
            held = batches[max(early, last) :]
        yield from held

    def _begin(self, planned: PlannedScores, batch: list[PlanRow], lanes: Lanes) -> Iterator[Piece]:
        """Have a batch computed, once the shared prefixes are there that it continues."""
        above = {row.parent for row in batch}
        while any(each.planned is planned and not above.isdisjoint(each.prefixes) for each in self._under_way):
            yield from self._collect_next(lanes)
        alive = [row for row in batch if planned.has_above(row)]
        # What continues a shared prefix that did not fit cannot be computed either.
        for row in batch:
            if row not in alive:
                yield from planned.failed(row, "the shared part of this request did not fit into memory")
                planned.leave(row)
        if alive:
            launched = lanes.begin(functools.partial(self._launched, planned, alive))
            self._under_way.append(_UnderWay(planned, launched, {row.index for row in alive if row.children}))
        while len(self._under_way) > self.ahead:
            yield from self._collect_next(lanes)

    def _collect_next(self, lanes: Lanes) -> Iterator[Piece]:
        first = self._under_way.popleft()
        for done in first.wait():
            yield from self._collect(first.planned, done)
        lanes.tell()

    def _launched(self, planned: PlannedScores, rows: list[PlanRow]) -> list[_Pass]:
        def fail(row: PlanRow, reason: str) -> Iterator[_Pass]:
            yield _Pass([row], failed=list(planned.failed(row, reason)))

        return list(run_halving(rows, functools.partial(self._launch, planned), fail, self.decoder.device))

    @torch.inference_mode()
    def _launch(self, planned: PlannedScores, rows: list[PlanRow]) -> Iterator[_Pass]:
        """Send a batch through the model. Nothing is read back."""
        began = time.perf_counter()
        layout = PackLayout(rows, planned.prefixes, self.decoder.device)
        gathered, positions, targets, owners = planned.targets(layout)
        picked = upload(gathered, self.decoder.device, torch.long)
        inputs = self.decoder.packed(layout)
        with self.attention.active(layout):
            chosen = self.decoder.hidden_at(picked, layout, **inputs)
        launched = _Pass(rows, owners=owners)
        if gathered:
            launched.values, launched.greedy = score_positions(self.decoder, chosen, positions, targets)
        planned.prefixes.update(layout.cached)
        launched.seconds = time.perf_counter() - began
        return iter([launched])

    def _collect(self, planned: PlannedScores, done: _Pass) -> list[Piece]:
        """Wait for a batch, and hand out what it finished."""
        began = time.perf_counter()
        if done.values is not None and done.greedy is not None:
            values = done.values.cpu()
            check_finite(values, self.decoder.dtype)
            planned.add(done.owners, values, done.greedy)
        for row in done.rows:
            planned.leave(row)
        done.seconds += time.perf_counter() - began
        pieces = done.failed or planned.finished(done.rows, done.seconds)
        self._check(planned, done.rows, pieces)
        return pieces

    def _check(self, planned: PlannedScores, rows: list[PlanRow], pieces: list[Piece]) -> None:
        """Have one sequence of each kind of row compared with a plain pass: below a prefix or not, tree or path."""
        if self.verify is None:
            return
        scored = {(request, part): outcome for request, part, outcome, _ in pieces if isinstance(outcome, Scored)}
        for row in sorted(rows, key=lambda row: -len(row.tokens)):
            kind = (row.parent is not None, row.is_path)
            ended = [each for each in planned.ended(row) if (each.request, each.part) in scored]
            if ended and kind not in self._verified:
                self._verified.add(kind)
                longest = max(ended, key=len)
                with self.attention.inactive():
                    self.verify(longest, scored[longest.request, longest.part])
