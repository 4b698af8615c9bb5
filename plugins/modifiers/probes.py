"""Modifiers that take away what a question cannot be answered without: what is then still right was not understood."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Asked, Metric, Modifier, Observation, RowScore, ScoreKey, View, hookimpl
from harness.scoring import ZERO_TO_ONE, averaged


class NoQuestion(Modifier):
    """The options without their question (and without its passage). A score above chance shows what the options alone
    give away: a shortcut in how they were written, or rows that the model has met in training.

    Reported beside the task's scores: `chance`, the mean of one right guess among a row's options, and `above_chance_`,
    the difference of each score to it, with its own interval.
    """

    name = "no_question"
    needs = frozenset({"options", "question"})

    def views(self, asked: Asked) -> list[View]:
        return [View(question="")]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        return _against_chance(keys)


class NoImage(Modifier):
    """The question without its images (Chen et al. 2024, MMStar, arXiv 2403.20330, section 3.1). A score above chance
    shows what can be told without seeing: from the text alone, or because the rows were in the training.

    Where the task says where its options are, `chance` and `above_chance_` are reported too, as for `no_question`.
    """

    name = "no_image"
    needs = frozenset({"images"})

    def views(self, asked: Asked) -> list[View]:
        return [View(images=False)]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        return _against_chance(keys) if labels else []


class Chance(Metric):
    """What a guess among the options would score on average; not scored where that cannot be told."""

    name = "chance"
    bounds = ZERO_TO_ONE
    is_constant = True

    def score(self, seen: Observation) -> float | None:
        return _chance(seen)


class AboveChance(Metric):
    """The score of a row less what a guess would score on average."""

    name = "above_chance"
    bounds = (-1.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        chance = _chance(seen)
        scores = [view.score for view in seen.views if isinstance(view.score, int | float)]
        return None if chance is None or not scores else sum(scores) / len(scores) - chance


def _against_chance(keys: Sequence[ScoreKey]) -> list[RowScore]:
    usual = averaged(keys)
    shares = [key for key in usual if key.metric.bounds == ZERO_TO_ONE and key.higher_is_better]
    above = [RowScore(f"above_chance_{key.name}", key.name, AboveChance()) for key in shares]
    return [*above, RowScore("chance", usual[0].name, Chance())] if above else []


def _chance(seen: Observation) -> float | None:
    view = seen.views[0]
    return view.right / view.places if view.places and view.right and view.score is not None else None


@hookimpl
def harness_modifiers() -> list[type[Modifier]]:
    return [NoImage, NoQuestion]
