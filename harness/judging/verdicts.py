"""From the replies of a judge to the scores of a sample, as metrics like any other.

A sample with one reply that could not be read has no score: the mean of what is left would favour the readable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import ClassVar

from harness.judging.replies import ReplyField
from harness.judging.rubric import FIRST, TIE, Rubric
from harness.metrics import Metric, Observation, ScoreKey
from harness.quick import dataclass

WIN_RATE = "win_rate"


class Rating(Metric):
    """The mean of what the values of one key of the reply are worth, over the replies of a sample."""

    name = "rating"
    output_types: ClassVar = frozenset({"generate_until"})

    def __init__(self, field: ReplyField) -> None:
        self.field = field
        self.bounds = field.bounds

    def score(self, seen: Observation) -> float | None:
        return _mean([None if answer is None else self.field.worth(answer) for answer in seen.predictions])


class Share(Metric):
    """How often one of the choices was made."""

    name = "share"
    output_types: ClassVar = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, choice: str) -> None:
        self.choice = choice

    def score(self, seen: Observation) -> float | None:
        return _mean([None if answer is None else float(answer == self.choice) for answer in seen.predictions])


@dataclass(frozen=True, slots=True)
class Pair:
    """What a judge said of two answers in both orders, each by the run that it preferred: 0, 1, or None for neither."""

    straight: int | None
    swapped: int | None

    @property
    def winner(self) -> int | None:
        """The run that won in both orders. Everything else is a tie."""
        return self.straight if self.straight == self.swapped else None

    @property
    def agrees(self) -> bool:
        return self.straight == self.swapped

    @property
    def first_shown(self) -> float | None:
        """How often the answer that was shown first won, of the orders that had a winner."""
        decided = [self.straight == 0] * (self.straight is not None) + [self.swapped == 1] * (self.swapped is not None)
        return sum(decided) / len(decided) if decided else None


class Paired(Metric):
    """A value of a pair, over the pairs of a sample. `predictions` are winners, two orders for each pair."""

    name = "paired"
    output_types: ClassVar = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, value: Callable[[Pair], float | None]) -> None:
        self.value = value

    def score(self, seen: Observation) -> float | None:
        winners = seen.predictions
        if None in winners:
            return None
        pairs = [
            Pair(_run(a, swapped=False), _run(b, swapped=True))
            for a, b in zip(winners[::2], winners[1::2], strict=True)
        ]
        values = [value for pair in pairs if (value := self.value(pair)) is not None]
        return _mean(values)


@dataclass(frozen=True, slots=True)
class _PairedValue:
    name: str
    value: Callable[[Pair], float | None] = field(repr=False)
    higher_is_better: bool = True


_OF_PAIRS: Sequence[_PairedValue] = (
    _PairedValue(WIN_RATE, lambda pair: 0.5 if pair.winner is None else float(pair.winner)),
    _PairedValue("win", lambda pair: float(pair.winner == 1)),
    _PairedValue("loss", lambda pair: float(pair.winner == 0), higher_is_better=False),
    _PairedValue("tie", lambda pair: float(pair.winner is None)),
    _PairedValue("order_changes_verdict", lambda pair: float(not pair.agrees), higher_is_better=False),
    _PairedValue("first_shown_wins", lambda pair: pair.first_shown),
)


def score_keys(rubric: Rubric) -> tuple[ScoreKey, ...]:
    """The scores of a rubric, the headline first.

    Of a pair: `win_rate` of the second run (a tie is half a win), `win`, `loss` and `tie`, how often the verdict
    changed with the order, and how often the answer that was shown first won (0.5 where the place does not sample).
    """
    if rubric.pairwise:
        return tuple(
            ScoreKey(item.name, rubric.score, Paired(item.value), "mean", item.higher_is_better) for item in _OF_PAIRS
        )
    keys = [
        ScoreKey(each.name, each.name, Rating(each), "mean", rubric.higher_is_better or each.name != rubric.score)
        for each in rubric.values
    ]
    for each in rubric.format.fields:
        keys += [
            ScoreKey(f"{each.name}={choice}", each.name, Share(choice), "mean", higher_is_better=True)
            for choice in each.choices
        ]
    return tuple(keys)


def scale(rubric: Rubric) -> tuple[float, float]:
    """The worst and the best score that the headline can be."""
    least, most = score_keys(rubric)[0].metric.bounds or (0.0, 1.0)
    return (least, most) if rubric.higher_is_better else (most, least)


def _run(winner: str | None, *, swapped: bool) -> int | None:
    if winner == TIE:
        return None
    return int((winner == FIRST) == swapped)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
