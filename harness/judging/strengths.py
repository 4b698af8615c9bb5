"""Several runs in one order: how strong each is, from what judges said of every two of them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from harness.judging.panel import Agreement, agreed
from harness.judging.verdicts import WIN_RATE
from harness.quick import dataclass
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
    """What the verdicts on a task come to, of one judge, or of several together.

    judge: its name; those of several, joined by commas. n: verdicts, one for each two answers; without: pairs of
    answers that have none of one judge or more. agreement: how far several judges agree on the pairs that they were
    asked about.
    """

    task: str
    judge: str
    sides: tuple[Strength, ...]
    n: int
    without: int
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """Two sides, by their folders, and the judgements on their answers: for each judge its records."""

    first: str
    second: str
    judgements: Sequence[Sequence[Record]]


def task_strengths(
    task: str, judges: Sequence[str], sides: Mapping[str, str], pairs: Sequence[JudgedPair]
) -> TaskStrengths:
    """Fit the model of Bradley and Terry, its errors clustered by question: all pairs and judges share the questions.

    sides: folder -> name, the first is what the others are measured from. The verdict of several judges is the mean of
    theirs, where every one of them gave one. The intervals are those of other questions asked of the same judges: what
    all judges prefer wrongly shows in no interval.
    """
    place = {run: number for number, run in enumerate(sides)}
    outcomes: list[PairOutcome] = []
    asked: list[tuple[list[float], Hashable]] = []
    without = 0
    for pair in pairs:
        for scores, record in _verdicts(pair):
            cluster = (record.subset, record.id) if record.cluster is None else record.cluster
            if len(scores) < len(judges):
                without += 1
                continue
            mean = sum(scores) / len(scores)
            outcomes.append(PairOutcome(place[pair.first], place[pair.second], mean, cluster))
            if not (record.judge or {}).get("skipped"):
                asked.append((scores, cluster))
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
    agreement = None
    if len(judges) > 1:
        numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(cluster for _, cluster in asked))}
        questions = np.array([numbers[cluster] for _, cluster in asked], dtype=np.int64)
        agreement = agreed(task, "interval", [scores for scores, _ in asked], questions)
    return TaskStrengths(task, ", ".join(judges), tuple(found), len(outcomes), without, agreement)


def _verdicts(pair: JudgedPair) -> Iterator[tuple[list[float], Record]]:
    """The verdicts on every two answers, of the judges that gave one, and the record of one of them."""
    columns = [{record.key: record for record in records} for records in pair.judgements]
    for key in dict.fromkeys(key for column in columns for key in column):
        records = [column[key] for column in columns if key in column]
        scores = [record.scores.get(WIN_RATE) for record in records]
        yield [score for score in scores if isinstance(score, float)], records[0]
