"""Several runs in one order: how strong each is, from what a judge said of every two of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.judging.verdicts import WIN_RATE
from harness.scoring.statistics.bradley_terry import PairOutcome, strengths
from harness.types import Record

ELO = 400 / math.log(10)
"""Points of Elo's scale in one natural log-odd: 400 points are odds of 10 to 1."""


@dataclass(frozen=True, slots=True)
class Strength:
    """One side's strength in Elo points above the first side, whose own is 0, with its 95 % interval.

    run: its folder; empty for the reference answers. elo: None where no number is finite, because it won all, or lost
    all, against the others. wins, losses, ties: of its samples, over all its pairs.
    """

    name: str
    run: str
    elo: float | None
    stderr: float | None
    interval: tuple[float, float] | None
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True, slots=True)
class TaskStrengths:
    """What one judge's verdicts on a task come to. n: verdicts; without: pairs of answers that have none."""

    task: str
    judge: str
    sides: tuple[Strength, ...]
    n: int
    without: int


def task_strengths(
    task: str, judge: str, sides: Mapping[str, str], pairs: Sequence[tuple[str, str, Sequence[Record]]]
) -> TaskStrengths:
    """Fit the model of Bradley and Terry, its errors clustered by question: all pairs share the questions.

    sides: folder -> name, the first is what the others are measured from. pairs: (folder of the first side, of the
    second, judgements).
    """
    place = {run: number for number, run in enumerate(sides)}
    outcomes, without = [], 0
    for first, second, records in pairs:
        for record in records:
            score = record.scores.get(WIN_RATE)
            cluster = (record.subset, record.id) if record.cluster is None else record.cluster
            if isinstance(score, float):
                outcomes.append(PairOutcome(place[first], place[second], score, cluster))
            else:
                without += 1
    found = []
    for (run, name), strength in zip(sides.items(), strengths(outcomes, len(sides)), strict=True):
        own = [each.score if each.second == place[run] else 1 - each.score for each in outcomes
               if place[run] in (each.first, each.second)]  # fmt: skip
        tally = sum(score > 0.5 for score in own), sum(score < 0.5 for score in own), sum(score == 0.5 for score in own)
        elo = stderr = interval = None
        if strength is not None:
            elo = ELO * strength.value
            stderr = None if strength.stderr is None else ELO * strength.stderr
            interval = None if strength.interval is None else (ELO * strength.interval[0], ELO * strength.interval[1])
        found.append(Strength(name, run, elo, stderr, interval, *tally))
    return TaskStrengths(task, judge, tuple(found), len(outcomes), without)
