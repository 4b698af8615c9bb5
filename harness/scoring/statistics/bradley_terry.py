"""How strong each of several players is, from verdicts on pairs of them: the model of Bradley and Terry.

    strengths([PairOutcome(0, 1, 1.0, "question 1"), PairOutcome(1, 2, 0.5, "question 1"), ...], players=3)

R. A. Bradley and M. E. Terry, Rank Analysis of Incomplete Block Designs (Biometrika 39, 1952): player j wins against i
with the probability 1 / (1 + exp(s_i - s_j)). A tie is half a win, as usual where models are compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from harness.quick import dataclass
from harness.scoring.statistics.estimates import LEVEL, Estimate, Floats, student_t_quantile, sums_by_cluster

_STEPS = 100
_CLOSE = 1e-10


@dataclass(frozen=True, slots=True)
class PairOutcome:
    """What came of one pair. score: 1 where the second player won, 0 where the first did, in between where neither.

    cluster: what its error is shared with, the question that both answered.
    """

    first: int
    second: int
    score: float
    cluster: Hashable


def strengths(outcomes: Sequence[PairOutcome], players: int) -> list[Estimate | None]:
    """The maximum-likelihood strength of each player above the first one, whose own is 0, in natural log-odds.

    Standard errors are cluster-robust (the sandwich of the likelihood), intervals Student's t with as many degrees of
    freedom as there are clusters, less one. A player is None whose strength has no finite estimate: one that is joined
    to the first by no chain of wins (or ties) in both directions, so that any greater, or any smaller, strength
    explains the verdicts better (L. R. Ford, Solution of a Ranking Problem, 1957).
    """
    joined = _joined_with_first(outcomes, players)
    kept = [each for each in outcomes if each.first in joined and each.second in joined]
    places = {player: place for place, player in enumerate(sorted(joined - {0}))}
    found: list[Estimate | None] = [Estimate(0.0)] + [None] * (players - 1)
    if not kept:
        return found
    design = np.zeros((len(kept), len(places)))
    for row, each in zip(design, kept, strict=True):
        for player, sign in ((each.first, -1.0), (each.second, 1.0)):
            if player:
                row[places[player]] += sign
    scores = np.array([each.score for each in kept], dtype=np.float64)
    values, covariance = _fitted(design, scores)
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(each.cluster for each in kept))}
    clusters = np.array([numbers[each.cluster] for each in kept], dtype=np.int64)
    units = sums_by_cluster(design * (scores - _chances(design, values))[:, None], clusters)
    degrees = len(units) - 1
    for player, place in places.items():
        value = float(values[place])
        if degrees < 1:
            found[player] = Estimate(value)
            continue
        robust = covariance @ (units.T @ units) @ covariance * (len(units) / degrees)
        stderr = float(np.sqrt(robust[place, place]))
        margin = student_t_quantile(0.5 + LEVEL / 2, degrees) * stderr
        found[player] = Estimate(value, stderr, (value - margin, value + margin))
    return found


def _joined_with_first(outcomes: Sequence[PairOutcome], players: int) -> set[int]:
    """The first player, and those that a chain of wins or ties leads to from it, and from which one leads to it."""
    beaten: list[set[int]] = [set() for _ in range(players)]
    beaten_by: list[set[int]] = [set() for _ in range(players)]
    for each in outcomes:
        for winner, loser, won in (
            (each.second, each.first, each.score > 0),
            (each.first, each.second, each.score < 1),
        ):
            if won:
                beaten[winner].add(loser)
                beaten_by[loser].add(winner)

    def reached(steps: Sequence[set[int]]) -> set[int]:
        seen, waiting = {0}, [0]
        while waiting:
            new = steps[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    return reached(beaten) & reached(beaten_by)


def _chances(design: Floats, values: Floats) -> Floats:
    # tanh cannot overflow, and is the logistic function up to scale.
    chances: Floats = 0.5 * (1 + np.tanh(0.5 * (design @ values)))
    return chances


def _fitted(design: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """(strengths, inverse of the information) by Newton's method, its steps halved where the likelihood would fall."""

    def likelihood(values: Floats) -> float:
        odds = design @ values
        return float(scores @ odds - np.logaddexp(0.0, odds).sum())

    values = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chances = _chances(design, values)
        information = design.T @ (design * (chances * (1 - chances))[:, None])
        step = np.linalg.solve(information, design.T @ (scores - chances))
        before = likelihood(values)
        while likelihood(values + step) < before - 1e-12 * (1 + abs(before)):
            step = step / 2
        values = values + step
        if float(np.abs(step).max()) < _CLOSE:
            break
    chances = _chances(design, values)
    covariance = np.linalg.inv(design.T @ (design * (chances * (1 - chances))[:, None]))
    return values, covariance.astype(np.float64)
