"""The two-parameter logistic model of item response theory, fitted to what several models answered.

    curves = item_curves(correct)        # correct: [rows, models], 0 to 1; gives [rows, 2]: slope and intercept

P(right) = 1 / (1 + exp(-(slope * ability + intercept))), with abilities from a standard normal distribution (A.
Birnbaum, 1968). Fitted by marginal maximum a posteriori, an EM algorithm over a grid of abilities (R. D. Bock and M.
Aitkin, 1981).
Few models tell little of a row, so that slopes are drawn towards 1 and intercepts towards 0.
"""

from __future__ import annotations

import numpy as np

from harness.scoring.statistics.estimates import Floats

ABILITIES = np.linspace(-4, 4, 33)
SLOPE, SLOPE_SPREAD, INTERCEPT_SPREAD = 1.0, 0.5, 2.0
"""Mean of the slopes, and standard deviations of slopes and intercepts, before anything was seen."""
_ROUNDS, _STEPS, _CLOSE = 60, 4, 1e-3


def item_curves(correct: Floats) -> Floats:
    """Slope and intercept of each row, shape [rows, 2], of scores from 0 to 1, shape [rows, models].

    Raises `ValueError` for scores outside 0 to 1.
    """
    if correct.size and not (correct.min() >= 0 and correct.max() <= 1):
        raise ValueError("item response theory needs scores from 0 to 1")
    prior = np.exp(-(ABILITIES**2) / 2)
    prior /= prior.sum()
    curves = np.column_stack([np.full(len(correct), SLOPE), np.zeros(len(correct))])
    for _ in range(_ROUNDS):
        right = _probabilities(curves)
        likelihood = correct.T @ np.log(right) + (1 - correct).T @ np.log(1 - right) + np.log(prior)
        weights = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)  # [models, abilities]: how likely each ability is
        before, curves = curves, _maximised(curves, weights.sum(axis=0), correct @ weights)
        if np.abs(curves - before).max(initial=0.0) < _CLOSE:
            break
    return curves


def _maximised(curves: Floats, models: Floats, right: Floats) -> Floats:
    """Newton's steps for all rows at once. models: how many are expected at each ability; right: of them, for a row."""
    for _ in range(_STEPS):
        expected = _probabilities(curves)
        missing = right - models * expected
        curvature = models * expected * (1 - expected)
        slope = missing @ ABILITIES - (curves[:, 0] - SLOPE) / SLOPE_SPREAD**2
        intercept = missing.sum(axis=1) - curves[:, 1] / INTERCEPT_SPREAD**2
        both = curvature @ ABILITIES
        of_slope = curvature @ ABILITIES**2 + 1 / SLOPE_SPREAD**2
        of_intercept = curvature.sum(axis=1) + 1 / INTERCEPT_SPREAD**2
        determinant = of_slope * of_intercept - both**2
        step = np.column_stack([of_intercept * slope - both * intercept, of_slope * intercept - both * slope])
        curves = curves + np.clip(step / determinant[:, None], -1, 1)
    return np.asarray(curves)


def _probabilities(curves: Floats) -> Floats:
    """How likely each row is answered right at each ability, shape [rows, abilities]."""
    known = 1 / (1 + np.exp(-(curves[:, :1] * ABILITIES + curves[:, 1:])))
    return np.asarray(np.clip(known, 1e-9, 1 - 1e-9))
