"""A modifier that asks the same question with other numbers: does a model calculate, or remember?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness import Asked, Metric, Modifier, Observation, RowScore, ScoreKey, View, hookimpl
from harness.scoring import FIRST, MOST_VIEWS, ZERO_TO_ONE, MeanOfViews, WorstView, averaged


class RenewNumbers(Modifier):
    """Each question with other numbers, drawn as the task's `renewal` says, from a hash of seed, task and row (the form
    of GSM-Symbolic: Mirzadeh et al. 2024, arXiv 2410.05229).

    `renew_numbers` asks each row once, with other numbers; `renew_numbers=3` as it is and three times with other ones.
    Reported for each score: `renewed_`, of the rows whose numbers changed (the mean over their drawings). Where rows
    are asked as they are, too: `vanilla_` of the same rows, `loss_`, the difference, paired row by row, with its
    interval (above 0: the numbers that are known are answered better), and `worst_renewed_` (right in all drawings).
    `kept_numbers` is the share of rows that keep their numbers, because no template fits them: they are asked as they
    are, count in the task's own score and in none of the others.
    """

    name = "renew_numbers"
    needs = frozenset({"renewal"})

    def __init__(self, drawings: int = 0) -> None:
        if not isinstance(drawings, int) or not 0 <= drawings < MOST_VIEWS:
            raise ValueError(f"'{drawings}' is not a number of drawings from 1 to {MOST_VIEWS - 1}")
        self._drawings = drawings
        self.several = drawings > 0

    def views(self, asked: Asked) -> list[View]:
        drawn = [View(renewal=number) for number in range(1, max(1, self._drawings) + 1)]
        return [View(), *drawn] if self.several else drawn

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        scores: list[RowScore] = []
        for key in averaged(keys):
            bounds, better = key.metric.bounds, key.higher_is_better
            metrics: dict[str, Metric] = {"renewed": OfDrawings(MeanOfViews(bounds))}
            if self.several:
                metrics |= {FIRST: AsItIs(bounds), "loss": Loss(bounds)}
            if self._drawings > 1:
                metrics["worst_renewed"] = OfDrawings(WorstView(bounds, better))
            scores += [RowScore(f"{word}_{key.name}", key.name, metric, better) for word, metric in metrics.items()]
        return [*scores, RowScore("kept_numbers", keys[0].name, KeptNumbers())] if scores else []


class OfDrawings(Metric):
    """What another metric says of a row's drawings of other numbers; not scored where there is none."""

    name = "of_drawings"

    def __init__(self, of: Metric) -> None:
        self._of, self.bounds = of, of.bounds

    def score(self, seen: Observation) -> float | tuple[float, ...] | None:
        drawn = tuple(view for view in seen.views if view.view.renewal)
        return self._of.score(replace(seen, views=drawn)) if drawn else None


class AsItIs(Metric):
    """The score of a row with its own numbers, where it was asked with others, too."""

    name = "as_it_is"

    def __init__(self, bounds: tuple[float, float] | None) -> None:
        self.bounds = bounds

    def score(self, seen: Observation) -> float | None:
        score = seen.views[0].score
        return score if len(seen.views) > 1 and isinstance(score, int | float) else None


class Loss(Metric):
    """The score of a row with its own numbers less the mean of its scores with others."""

    name = "loss"

    def __init__(self, bounds: tuple[float, float] | None) -> None:
        self._own, self._renewed = AsItIs(bounds), OfDrawings(MeanOfViews(bounds))
        self.bounds = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])

    def score(self, seen: Observation) -> float | None:
        own, renewed = self._own.score(seen), self._renewed.score(seen)
        return own - renewed if own is not None and isinstance(renewed, int | float) else None


class KeptNumbers(Metric):
    """1 where a row keeps its numbers, because none could be drawn."""

    name = "kept_numbers"
    is_constant = True
    bounds = ZERO_TO_ONE

    def score(self, seen: Observation) -> float:
        return float(not any(view.view.renewal for view in seen.views))


@hookimpl
def harness_modifiers() -> list[type[Modifier]]:
    return [RenewNumbers]
