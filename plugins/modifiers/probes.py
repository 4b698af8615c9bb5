"""A modifier that takes the question away: what is then still right was not understood."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Asked, Modifier, RowScore, ScoreKey, View, hookimpl
from harness.scoring import against_chance


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
        return against_chance(keys)


@hookimpl
def harness_modifiers() -> list[type[Modifier]]:
    return [NoQuestion]
