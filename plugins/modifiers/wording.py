"""A modifier that asks the same question in several wordings: does the answer follow the question, or its wording?"""

from __future__ import annotations

from collections.abc import Sequence

from harness import Asked, Modifier, RowScore, ScoreKey, View, hookimpl
from harness.scoring import MOST_VIEWS, Contradiction, Spread, averaged, per_view


class Paraphrase(Modifier):
    """Each question in all wordings of the task's `paraphrases`, its own first; `paraphrase=3` takes the first three.

    Reported for each score: `mean_` over the wordings, `worst_` (right in all of them), `vanilla_` (the task's own
    wording) and `spread_` (between the best and the worst wording). `contradiction` is the share of rows that were
    answered differently in two wordings; rows with answers that could not be read count only where the others differ.
    """

    name = "paraphrase"
    needs = frozenset({"paraphrases"})
    several = True

    def __init__(self, most: int = MOST_VIEWS) -> None:
        if not isinstance(most, int) or not 2 <= most <= MOST_VIEWS:
            raise ValueError(f"'{most}' is not a number of wordings from 2 to {MOST_VIEWS}")
        self._most = most

    def views(self, asked: Asked) -> list[View]:
        worded = [View(wording=index) for index in range(1, asked.wordings)]
        return [View(), *worded, *(View(question=text) for text in asked.rewordings)][: self._most]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        scores: list[RowScore] = []
        for key in averaged(keys):
            own = per_view(key, worst="worst")
            spread = RowScore(f"spread_{key.name}", key.name, Spread(), higher_is_better=False)
            scores += [own["mean"], own["worst"], own["vanilla"], spread]
        if not scores:
            return []
        return [*scores, RowScore("contradiction", keys[0].name, Contradiction(), higher_is_better=False)]


@hookimpl
def harness_modifiers() -> list[type[Modifier]]:
    return [Paraphrase]
