"""Log-likelihoods over a plan: each distinct token goes through the model once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
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

_SMALL = 4
"""The last batches of a run hold such a part of what others do."""


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
class _Chain:
    """Batches that are computed one after another; is_alone: while no other is."""

    planned: PlannedScores
    batches: Sequence[list[PlanRow]]
    is_alone: bool = False

    @property
    def rows(self) -> list[PlanRow]:
        return [row for batch in self.batches for row in batch]


@dataclass(frozen=True, slots=True, eq=False)
class _UnderWay:
    """Batches that were begun: what they will have given, and the shared prefixes that they compute."""

    planned: PlannedScores
    passes: Future[list[_Pass]]
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
        self._under_way: list[_UnderWay] = []

    def run(self, portions: Iterable[Sequence[ScoreSequence]]) -> Iterator[Piece]:
        """Score sequences that come a portion at a time, each planned by itself."""
        with Lanes(self.lanes, self.attention) as lanes:
            for chain in self._chains(portions):
                yield from self._begin(chain, lanes)
            while self._under_way:
                yield from self._collect(self._first_done(), lanes)

    def _chains(self, portions: Iterable[Sequence[ScoreSequence]]) -> Iterator[_Chain]:
        """The batches of all portions, in the order in which they are computed.

        The first ones are of one row, and alone: an answer comes soon, and is checked while nobody waits for that. With
        several lanes the first shared prefixes of a portion come before the last batches of the portion before it, and
        the very last batches are small: lanes end at about the same time.
        """
        held: list[_Chain] = []
        is_first = True
        for sequences in portions:
            with self.attention.clock.phase("plan"):
                planned = PlannedScores(sequences, self.plan_limits)
                self.decoder.place(planned.rows)
                rows = self._in_order(planned.rows)
                stem = _stem(rows, self.limits.tokens)
                early = [_Chain(planned, list(fill_batches(stem, self.limits.tokens, self.limits.rows)), is_first)]
                rows = rows[len(stem) :]
                if is_first and self.verify is not None:
                    checked = _one_of_each_kind(rows, {row.index for row in stem})
                    early += [_Chain(planned, [[row]], is_alone=True) for row in checked]
                    alone = {row.index for row in checked}
                    rows = [row for row in rows if row.index not in alone]
                chains = [
                    _Chain(planned, [batch]) for batch in fill_batches(rows, self.limits.tokens, self.limits.rows)
                ]
            yield from (chain for chain in early if chain.batches)
            yield from held
            last = max(0, len(chains) - self.lanes) if self.lanes > 1 else len(chains)
            yield from chains[:last]
            held, is_first = chains[last:], False
        if held:
            rows = [row for chain in held for row in chain.rows]
            for batch in fill_batches(rows, self.limits.tokens // _SMALL, self.limits.rows):
                yield _Chain(held[0].planned, [batch])

    def _in_order(self, rows: Sequence[PlanRow]) -> Sequence[PlanRow]:
        """With several lanes a shared prefix comes so early that what continues it need not wait for it."""
        return in_time(rows, (self.lanes + 1) * self.limits.tokens) if self.lanes > 1 else rows

    def _begin(self, chain: _Chain, lanes: Lanes) -> Iterator[Piece]:
        """Have batches computed, once the shared prefixes are there that they continue."""
        rows = chain.rows
        above = {row.parent for row in rows}
        for each in list(self._under_way):
            if each.planned is chain.planned and not above.isdisjoint(each.prefixes):
                yield from self._collect(each, lanes)
        work = functools.partial(self._launched, chain)
        passes = lanes.do(work) if chain.is_alone else lanes.begin(work)
        self._under_way.append(_UnderWay(chain.planned, passes, {row.index for row in rows if row.children}))
        while len(self._under_way) > (0 if chain.is_alone else self.ahead):
            yield from self._collect(self._first_done(), lanes)

    def _first_done(self) -> _UnderWay:
        wait([each.passes for each in self._under_way], return_when=FIRST_COMPLETED)
        return next(each for each in self._under_way if each.passes.done())

    def _collect(self, begun: _UnderWay, lanes: Lanes) -> Iterator[Piece]:
        """Wait for batches, and hand out what they finished."""
        self._under_way.remove(begun)
        for done in begun.passes.result():
            yield from self._pieces(begun.planned, done)
        lanes.tell()

    def _launched(self, chain: _Chain) -> list[_Pass]:
        def fail(row: PlanRow, reason: str) -> Iterator[_Pass]:
            yield _Pass([row], failed=list(chain.planned.failed(row, reason)))

        launch = functools.partial(self._launch, chain.planned)
        passes: list[_Pass] = []
        for batch in chain.batches:
            alive = [row for row in batch if chain.planned.has_above(row)]
            # What continues a shared prefix that did not fit cannot be computed either.
            for row in batch:
                if not chain.planned.has_above(row):
                    passes += fail(row, "the shared part of this request did not fit into memory")
            if alive:
                passes += run_halving(alive, launch, fail, self.decoder.device)
        return passes

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

    def _pieces(self, planned: PlannedScores, done: _Pass) -> list[Piece]:
        """What a batch finished, once the device is done with it."""
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
            kind = _kind(row)
            ended = [each for each in planned.ended(row) if (each.request, each.part) in scored]
            if ended and kind not in self._verified:
                self._verified.add(kind)
                longest = max(ended, key=len)
                with self.attention.inactive():
                    self.verify(longest, scored[longest.request, longest.part])


def _kind(row: PlanRow) -> tuple[bool, bool]:
    """What of each kind is checked: rows below a prefix or not, trees or paths."""
    return row.parent is not None, row.is_path


def _one_of_each_kind(rows: Sequence[PlanRow], computed: set[int]) -> list[PlanRow]:
    """The first row of each kind that is to be checked, of those that continue nothing but what is computed."""
    kinds: dict[tuple[bool, bool], PlanRow] = {}
    for row in rows:
        if row.ends and (row.parent is None or row.parent in computed):
            kinds.setdefault(_kind(row), row)
    return list(kinds.values())


def _stem(rows: Sequence[PlanRow], most: int) -> Sequence[PlanRow]:
    """The shared prefixes that rows begin with, of so many tokens in all."""
    count = tokens = 0
    while count < len(rows) and rows[count].children and tokens + len(rows[count].tokens) <= most:
        tokens += len(rows[count].tokens)
        count += 1
    return rows[:count]
