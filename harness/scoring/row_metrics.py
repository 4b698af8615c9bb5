"""Metrics over several answers to one row: right in all its views, the same in all of them.

A row is one sample of its own for the standard error, however many views it has. A row of which a view could not be
scored is not scored.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.metrics import Answered, Metric, Observation, ScoreKey
from harness.modifiers import RowScore

ZERO_TO_ONE = (0.0, 1.0)
MOST_VIEWS = 16
FIRST = "vanilla"


class FirstView(Metric):
    """The score of the first view: what the task itself would say of the row."""

    name = "first_view"

    def __init__(self, bounds: tuple[float, float] | None = None) -> None:
        self.bounds = bounds

    def score(self, seen: Observation) -> float | None:
        return _number(seen.views[0].score)


class MeanOfViews(Metric):
    """The mean score over the views."""

    name = "mean_of_views"

    def __init__(self, bounds: tuple[float, float] | None = None) -> None:
        self.bounds = bounds

    def score(self, seen: Observation) -> float | None:
        scores = _numbers(seen.views)
        return None if scores is None else sum(scores) / len(scores)


class WorstView(Metric):
    """The score of the worst view: for right and wrong, whether every view is right."""

    name = "worst_view"

    def __init__(self, bounds: tuple[float, float] | None = None, higher_is_better: bool = True) -> None:
        self.bounds = bounds
        self._worst = min if higher_is_better else max

    def score(self, seen: Observation) -> float | None:
        scores = _numbers(seen.views)
        return None if scores is None else self._worst(scores)


class Contradiction(Metric):
    """1 where two views were answered differently, 0 where all were answered alike.

    Answers are compared as what they say: the same option, wherever it stood, or the same text that was read. Not
    scored where the row was shown once, or where all answers that could be read agree but some could not be read.
    """

    name = "contradiction"
    bounds = ZERO_TO_ONE

    def score(self, seen: Observation) -> float | None:
        return _differ(seen.views)


class Consistency(Metric):
    """1 where all views were answered alike, 0 where two were answered differently; see `Contradiction`."""

    name = "consistency"
    bounds = ZERO_TO_ONE

    def score(self, seen: Observation) -> float | None:
        differ = _differ(seen.views)
        return None if differ is None else 1.0 - differ


class Spread(Metric):
    """How far apart the mean scores of the views are: that of the best minus that of the worst view.

    Statistics of a row: the score of each view, up to `MOST_VIEWS`, and which views there are.
    """

    name = "spread"
    aggregation = "self"

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        scores = _numbers(seen.views[:MOST_VIEWS])
        if scores is None:
            return None
        missing = [0.0] * (MOST_VIEWS - len(scores))
        return (*scores, *missing, *[1.0] * len(scores), *missing)

    def from_means(self, means: tuple[float, ...]) -> float:
        pairs = zip(means[:MOST_VIEWS], means[MOST_VIEWS:], strict=True)
        own = [score / share for score, share in pairs if share > 0]
        return max(own) - min(own)


class Kept(Metric):
    """1 where the options kept their places, because they refer to each other or are not all there."""

    name = "kept_order"
    is_constant = True
    bounds = ZERO_TO_ONE

    def score(self, seen: Observation) -> float:
        return float(any(view.view.fixed for view in seen.views))


class Chance(Metric):
    """What a guess among the options would score on average; not scored where that cannot be told."""

    name = "chance"
    bounds = ZERO_TO_ONE
    is_constant = True

    def score(self, seen: Observation) -> float | None:
        return chance_of(seen)


class AboveChance(Metric):
    """The score of a row, the mean over its views, less what a guess would score on average."""

    name = "above_chance"
    bounds = (-1.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        chance = chance_of(seen)
        scores = [view.score for view in seen.views if isinstance(view.score, int | float)]
        return None if chance is None or not scores else sum(scores) / len(scores) - chance


def chance_of(seen: Observation) -> float | None:
    """What a guess among a row's options would score on average; None where that cannot be told."""
    view = seen.views[0]
    return view.right / view.places if view.places and view.right and view.score is not None else None


def shares(keys: Sequence[ScoreKey]) -> list[ScoreKey]:
    """The scores that are shares of right answers, which chance can be held against."""
    return [key for key in averaged(keys) if key.metric.bounds == ZERO_TO_ONE and key.higher_is_better]


def against_chance(keys: Sequence[ScoreKey]) -> list[RowScore]:
    """`above_chance_` of each share of right answers, and `chance` itself."""
    above = [RowScore(f"above_chance_{key.name}", key.name, AboveChance()) for key in shares(keys)]
    return [*above, RowScore("chance", above[0].of, Chance())] if above else []


def averaged(keys: Sequence[ScoreKey]) -> list[ScoreKey]:
    """The scores that are one number a sample, averaged over samples: those that views of a row can share."""
    return [key for key in keys if key.aggregation in ("mean", "nanmean")]


def per_view(key: ScoreKey, worst: str) -> dict[str, RowScore]:
    """The worst, the first and the mean of a row's views under one key, by the words that go before its name."""
    bounds, better = key.metric.bounds, key.higher_is_better
    metrics = {worst: WorstView(bounds, better), FIRST: FirstView(bounds), "mean": MeanOfViews(bounds)}
    return {word: RowScore(f"{word}_{key.name}", key.name, metric, better) for word, metric in metrics.items()}


def _differ(views: Sequence[Answered]) -> float | None:
    answers = [view.answer for view in views]
    if len({answer for answer in answers if answer is not None}) > 1:
        return 1.0
    return 0.0 if len(answers) > 1 and None not in answers else None


def _number(score: float | tuple[float, ...] | None) -> float | None:
    return score if isinstance(score, int | float) else None


def _numbers(views: Sequence[Answered]) -> list[float] | None:
    scores = [_number(view.score) for view in views]
    known = [score for score in scores if score is not None]
    return known if known and len(known) == len(scores) else None
