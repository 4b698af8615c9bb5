"""Modifiers that move the options of multiple-choice questions: does the answer follow what an option says, or where
it stands?
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness import Asked, Metric, Modifier, Observation, RowScore, ScoreKey, View, hookimpl
from harness.scoring import ZERO_TO_ONE, Consistency, Kept, averaged, per_view


class Circular(Modifier):
    """All rotations of the options; a row is right only if all of them are (CircularEval; Liu et al. 2023, MMBench,
    arXiv 2307.06281, section 4.3).

    Reported for each score: `circular_` (the worst rotation), `vanilla_` (the options as in the row), `mean_`. Of the
    answers: `consistency` (rows whose chosen option is the same in all rotations, wherever it stood), `position_bias`
    (how far the chosen letters are from equally many each: half the sum of the absolute differences) and the share of
    each letter. `kept_order` says how many rows were not rotated, because their options refer to each other by place
    ("A and B", "以上都对"): such a row is asked once.
    """

    name = "circular"
    needs = frozenset({"options"})
    several = True

    def views(self, asked: Asked) -> list[View]:
        places = range(len(asked.options))
        return [View(order=(*places[start:], *places[:start])) for start in places] or [View()]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        of_keys = [per_view(key, worst="circular") for key in averaged(keys)]
        if not of_keys:
            return []
        first = keys[0].name
        letters = [RowScore(f"chose_{letter}", first, ChosenShare(place)) for place, letter in enumerate(labels)]
        return [
            *(score for scores in of_keys for score in scores.values()),
            RowScore("consistency", first, Consistency()),
            RowScore("position_bias", first, PositionBias(len(labels)), higher_is_better=False),
            *letters,
            RowScore("kept_order", first, Kept()),
        ]


class ShuffleOptions(Modifier):
    """The options of each row in an order of its own, drawn from a hash of seed, task and row.

    `kept_order` says how many rows were not shuffled, because their options refer to each other by place.
    """

    name = "shuffle_options"
    needs = frozenset({"options"})

    def views(self, asked: Asked) -> list[View]:
        def rank(place: int) -> bytes:
            return hashlib.sha256(f"{asked.salt}\0{place}".encode("utf-8", "surrogatepass")).digest()

        return [View(order=tuple(sorted(range(len(asked.options)), key=rank)))]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        return [RowScore("kept_order", keys[0].name, Kept())]


class ChosenShare(Metric):
    """In which share of a row's views the option at one place was chosen, among those whose place could be read."""

    name = "chosen_share"
    bounds = ZERO_TO_ONE

    def __init__(self, place: int) -> None:
        self._place = place

    def score(self, seen: Observation) -> float | None:
        places = _places(seen)
        if not places or self._place >= seen.views[0].places:
            return None
        return places.count(self._place) / len(places)


class PositionBias(Metric):
    """Half the sum of the absolute differences between the shares of the chosen places and equal shares, 0 to 1.

    Statistics of a row: the share of each place among its views, then what equal shares would be.
    """

    name = "position_bias"
    aggregation = "self"
    higher_is_better = False
    bounds = ZERO_TO_ONE

    def __init__(self, most: int) -> None:
        self._most = most

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        places, count = _places(seen), seen.views[0].places
        if not places:
            return None
        shares = [places.count(place) / len(places) for place in range(self._most)]
        return (*shares, *(1 / count if place < count else 0.0 for place in range(self._most)))

    def from_means(self, means: tuple[float, ...]) -> float:
        pairs = zip(means[: self._most], means[self._most :], strict=True)
        return sum(abs(share - equal) for share, equal in pairs) / 2


def _places(seen: Observation) -> list[int]:
    """Where the chosen options stood; nothing for a row that was not rotated, whose right answer has one place."""
    return [view.place for view in seen.views if view.place is not None] if len(seen.views) > 1 else []


@hookimpl
def harness_modifiers() -> list[type[Modifier]]:
    return [Circular, ShuffleOptions]
