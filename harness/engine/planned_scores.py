"""Sequences to score, as the rows of a plan: which positions are read for which of them, and what was found so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from harness.engine.batches import KeyValues, PackLayout
from harness.engine.limits import PlanLimits
from harness.engine.outcomes import Failed, Scored
from harness.engine.plain import Piece, ScoreRow, score_rows
from harness.engine.plan import Plan, PlanItem, PlanRow, make_plan
from harness.engine.tokens import ScoreSequence

Owner = tuple[int, int]
"""(input, number of its sequence)"""


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


class PlannedScores:
    """Sequences that are planned together.

    rows: the plan's. prefixes: keys and values of the shared prefixes that rows still to be computed continue, by row.
    """

    def __init__(self, sequences: Sequence[ScoreSequence], limits: PlanLimits | None = None) -> None:
        self._inputs, plan = plan_scores(sequences, limits)
        self.rows: Sequence[PlanRow] = plan.rows
        self.prefixes: dict[int, KeyValues] = {}
        self._left = list(plan.reads_left)
        self._sums = [_Sum([0.0] * len(row.sequences), [0] * len(row.sequences)) for row in self._inputs]
        self._children = {row.index: row.children for row in plan.rows}

    def targets(self, layout: PackLayout) -> tuple[list[int], torch.Tensor, torch.Tensor, list[Owner]]:
        """(places whose predictions are read; for each scored token: index into them, its id, and whose it is)."""
        places: dict[int, int] = {}
        scored: list[tuple[int, int, Owner]] = []
        for row, offset in zip(layout.rows, layout.offsets, strict=True):
            for read in row.reads:
                for number, sequence in enumerate(self._inputs[read.item].sequences):
                    first = max(read.depth, sequence.start - 1)
                    for depth in range(first, read.depth + read.count):
                        place = places.setdefault(offset + read.local + depth - read.depth, len(places))
                        scored.append((place, sequence.scored[depth + 1 - sequence.start], (read.item, number)))
        scored.sort(key=lambda entry: entry[0])
        positions = torch.tensor([entry[0] for entry in scored])
        targets = torch.tensor([entry[1] for entry in scored])
        return list(places), positions, targets, [entry[2] for entry in scored]

    def add(self, owners: Sequence[Owner], values: torch.Tensor, greedy: torch.Tensor) -> None:
        """Take the log-probability of each scored token, and whether it was the most likely; one owner each."""
        for (item, number), value, is_greedy in zip(owners, values.tolist(), greedy.tolist(), strict=True):
            self._sums[item].logprobs[number] += value
            self._sums[item].missed[number] += not is_greedy

    def finished(self, rows: Sequence[PlanRow], seconds: float) -> list[Piece]:
        """Pieces of the inputs whose last positions were read in these rows, which took so long."""
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

    def failed(self, row: PlanRow, reason: str) -> Iterator[Piece]:
        """Pieces of the inputs that end in a row which was not computed."""
        for sequence in self.ended(row):
            yield sequence.request, sequence.part, Failed(reason), 0.0

    def ended(self, row: PlanRow) -> Iterator[ScoreSequence]:
        """The sequences whose input ends in a row."""
        for item, _ in row.ends:
            yield from self._inputs[item].sequences

    def has_above(self, row: PlanRow) -> bool:
        """Whether what a row continues is there."""
        return row.parent is None or row.parent in self.prefixes

    def leave(self, row: PlanRow) -> None:
        """Forget the shared prefix that a row continues when nothing is left to continue it."""
        if row.parent is not None:
            self._children[row.parent] -= 1
            if self._children[row.parent] == 0:
                self.prefixes.pop(row.parent, None)

    def _pieces(self, item: int) -> list[Piece]:
        sums = self._sums[item]
        share = sums.seconds / len(self._inputs[item].sequences)
        return [
            (sequence.request, sequence.part, Scored(logprob, missed == 0, len(sequence.scored)), share)
            for sequence, logprob, missed in zip(self._inputs[item].sequences, sums.logprobs, sums.missed, strict=True)
        ]
