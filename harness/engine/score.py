"""Log-likelihoods over a plan: each distinct token goes through the model once."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from harness.engine.attention import SharedAttention
from harness.engine.batches import KeyValues, PackLayout
from harness.engine.decoder import Decoder, score_positions
from harness.engine.devices import upload
from harness.engine.lanes import Lanes
from harness.engine.limits import PlanLimits
from harness.engine.outcomes import Failed, Scored
from harness.engine.plain import BatchLimits, Piece, ScoreRow, run_halving, score_rows
from harness.engine.plan import Plan, PlanItem, PlanRow, fill_batches, in_time, make_plan
from harness.engine.sampling import check_finite
from harness.engine.tokens import ScoreSequence


def plan_scores(sequences: Sequence[ScoreSequence], limits: PlanLimits | None = None) -> tuple[list[ScoreRow], Plan]:
    """The inputs of the sequences, and the plan over them."""
    inputs = score_rows(sequences)
    return inputs, make_plan([PlanItem(row.tokens, row.first) for row in inputs], limits)


@dataclass(slots=True)
class _Sum:
    """What is known of an input's sequences so far."""

    logprobs: list[float]
    missed: list[int]
    seconds: float = 0.0


@dataclass(slots=True)
class _Pass:
    """A batch on its way: rows, and what the device will have found of them. `failed` are pieces without a pass.

    owners: (input, number of the sequence) of each value. seconds: spent on it so far.
    """

    rows: list[PlanRow]
    seconds: float = 0.0
    values: torch.Tensor | None = None
    greedy: torch.Tensor | None = None
    owners: list[tuple[int, int]] = field(default_factory=list)
    failed: list[Piece] = field(default_factory=list)


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

    def run(self, sequences: Sequence[ScoreSequence]) -> Iterator[Piece]:
        with self.attention.clock.phase("plan"):
            self.inputs, self.plan = plan_scores(sequences, self.plan_limits)
        self.decoder.place(self.plan.rows)
        self._left = list(self.plan.reads_left)
        self._sums = [_Sum([0.0] * len(row.sequences), [0] * len(row.sequences)) for row in self.inputs]
        self._prefixes: dict[int, KeyValues] = {}
        self._children = {row.index: row.children for row in self.plan.rows}
        rows = self.plan.rows if self.lanes == 1 else in_time(self.plan.rows, (self.lanes + 1) * self.limits.tokens)
        with Lanes(self.lanes, self.attention) as lanes:
            yield from self._run(rows, lanes)

    def _run(self, rows: Sequence[PlanRow], lanes: Lanes) -> Iterator[Piece]:
        # What waits for a batch that is under way, and the shared prefixes that it computes.
        under_way: deque[tuple[Callable[[], Iterable[_Pass]], set[int]]] = deque()

        def collect() -> Iterator[Piece]:
            wait, _ = under_way.popleft()
            for done in wait():
                yield from self._collect(done)
            lanes.tell()

        for batch in fill_batches(rows, self.limits.tokens, self.limits.rows):
            above = {row.parent for row in batch}
            while any(not above.isdisjoint(computed) for _, computed in under_way):
                yield from collect()
            alive = [row for row in batch if row.parent is None or row.parent in self._prefixes]
            # What continues a shared prefix that did not fit cannot be computed either.
            for row in batch:
                if row not in alive:
                    yield from self._pieces_without(row, "the shared part of this request did not fit into memory")
                    self._leave(row)
            if alive:
                launched = lanes.begin(functools.partial(self._launched, alive))
                under_way.append((launched, {row.index for row in alive if row.children}))
            while len(under_way) > self.ahead:
                yield from collect()
        while under_way:
            yield from collect()

    def _launched(self, rows: list[PlanRow]) -> list[_Pass]:
        return list(run_halving(rows, self._launch, self._fail, self.decoder.device))

    def _leave(self, row: PlanRow) -> None:
        """Forget the shared prefix that a row continues when nothing is left to continue it."""
        if row.parent is not None:
            self._children[row.parent] -= 1
            if self._children[row.parent] == 0:
                self._prefixes.pop(row.parent, None)

    def _check(self, rows: list[PlanRow], pieces: list[Piece]) -> None:
        """Have one sequence of each kind of row compared with a plain pass: below a prefix or not, tree or path."""
        if self.verify is None:
            return
        scored = {(request, part): outcome for request, part, outcome, _ in pieces if isinstance(outcome, Scored)}
        for row in sorted(rows, key=lambda row: -len(row.tokens)):
            kind = (row.parent is not None, row.is_path)
            ended = [s for item, _ in row.ends for s in self.inputs[item].sequences if (s.request, s.part) in scored]
            if ended and kind not in self._verified:
                self._verified.add(kind)
                longest = max(ended, key=len)
                with self.attention.inactive():
                    self.verify(longest, scored[longest.request, longest.part])

    @torch.inference_mode()
    def _launch(self, rows: list[PlanRow]) -> Iterator[_Pass]:
        """Send a batch through the model. Nothing is read back."""
        began = time.perf_counter()
        layout = PackLayout(rows, self._prefixes, self.decoder.device)
        gathered, positions, targets, owners = self._targets(layout)
        picked = upload(gathered, self.decoder.device, torch.long)
        inputs = self.decoder.packed(layout)
        with self.attention.active(layout):
            chosen = self.decoder.hidden_at(picked, layout, **inputs)
        launched = _Pass(rows, owners=owners)
        if gathered:
            launched.values, launched.greedy = score_positions(self.decoder, chosen, positions, targets)
        self._prefixes.update(layout.cached)
        launched.seconds = time.perf_counter() - began
        return iter([launched])

    def _collect(self, done: _Pass) -> list[Piece]:
        """Wait for a batch, and hand out what it finished."""
        began = time.perf_counter()
        if done.values is not None and done.greedy is not None:
            values = done.values.cpu()
            check_finite(values, self.decoder.dtype)
            outcomes = zip(done.owners, values.tolist(), done.greedy.tolist(), strict=True)
            for (item, number), value, greedy in outcomes:
                self._sums[item].logprobs[number] += value
                self._sums[item].missed[number] += not greedy
        for row in done.rows:
            self._leave(row)
        done.seconds += time.perf_counter() - began
        pieces = done.failed or self._finished(done.rows, done.seconds)
        self._check(done.rows, pieces)
        return pieces

    def _targets(self, layout: PackLayout) -> tuple[list[int], torch.Tensor, torch.Tensor, list[tuple[int, int]]]:
        """(places whose predictions are read; for each scored token: index into them, its id, and whose it is)."""
        places: dict[int, int] = {}
        scored: list[tuple[int, int, tuple[int, int]]] = []
        for row, offset in zip(layout.rows, layout.offsets, strict=True):
            for read in row.reads:
                for number, sequence in enumerate(self.inputs[read.item].sequences):
                    first = max(read.depth, sequence.start - 1)
                    for depth in range(first, read.depth + read.count):
                        place = places.setdefault(offset + read.local + depth - read.depth, len(places))
                        scored.append((place, sequence.scored[depth + 1 - sequence.start], (read.item, number)))
        scored.sort(key=lambda entry: entry[0])
        positions = torch.tensor([entry[0] for entry in scored])
        targets = torch.tensor([entry[1] for entry in scored])
        return list(places), positions, targets, [entry[2] for entry in scored]

    def _finished(self, rows: list[PlanRow], seconds: float) -> list[Piece]:
        """Pieces of the inputs whose last positions were read in these rows."""
        pieces: list[Piece] = []
        share = seconds / max(1, sum(len(row.ends) for row in rows))
        for row in rows:
            for item, _ in row.ends:
                self._sums[item].seconds += share
            for read in row.reads:
                self._left[read.item] -= 1
                if self._left[read.item] == 0:
                    pieces += self._pieces(read.item)
        return pieces

    def _pieces(self, item: int) -> list[Piece]:
        sums = self._sums[item]
        share = sums.seconds / len(self.inputs[item].sequences)
        return [
            (
                sequence.request,
                sequence.part,
                Scored(logprob, missed == 0, len(sequence.scored)),
                share,
            )
            for sequence, logprob, missed in zip(self.inputs[item].sequences, sums.logprobs, sums.missed, strict=True)
        ]

    def _fail(self, row: PlanRow, reason: str) -> Iterator[_Pass]:
        yield _Pass([row], failed=list(self._pieces_without(row, reason)))

    def _pieces_without(self, row: PlanRow, reason: str) -> Iterator[Piece]:
        for item, _ in row.ends:
            for sequence in self.inputs[item].sequences:
                yield sequence.request, sequence.part, Failed(reason), 0.0
