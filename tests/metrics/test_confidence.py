"""Calibration, margins and luck: against their definitions, and on models whose luck is known."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.statistics import own_estimate
from harness_plugins.metrics.confidence import Confidence, ExpectedCalibrationError, LuckyGuess, Margin

QUICK = settings(max_examples=40, derandomize=True, deadline=None)
LETTERS = ["A", "B", "C", "D"]


def ece_of(metric, scores):
    table = np.array([metric.statistics(score) for score in scores])
    return own_estimate(table, metric.from_sums)


def ece_by_definition(confidences, hits, bins):
    """Guo et al. 2017, equation 3, bin by bin."""
    confidences, hits = np.array(confidences), np.array(hits)
    total = 0.0
    for index in range(bins):
        inside = (confidences > index / bins) & (confidences <= (index + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(hits[inside].mean() - confidences[inside].mean())
    return total


@QUICK
@given(
    st.lists(st.tuples(st.floats(0.25, 1.0), st.booleans()), min_size=2, max_size=60), st.sampled_from([1, 5, 10, 15])
)
def test_calibration_error_is_that_of_its_definition(scores, bins):
    scores = [(round(confidence, 3), float(hit)) for confidence, hit in scores]
    expected = ece_by_definition([c for c, _ in scores], [h for _, h in scores], bins)
    assert ece_of(ExpectedCalibrationError(bins), scores).value == pytest.approx(expected, abs=1e-9)


def test_calibration_sees_overconfidence_and_its_interval_holds_chance():
    rng = random.Random(1)
    metric = ExpectedCalibrationError()
    honest = [(p, float(rng.random() < p)) for p in (rng.uniform(0.25, 1.0) for _ in range(4000))]
    boastful = [(0.99, float(rng.random() < 0.5)) for _ in range(400)]

    assert ece_of(metric, honest).value < 0.04
    estimate = ece_of(metric, boastful)
    assert estimate.value == pytest.approx(0.49, abs=0.06)
    assert estimate.interval[0] < 0.49 < estimate.interval[1]


def test_confidence_and_margin_are_of_the_softmax(choice_seen):
    logprobs = [math.log(value) - 7 for value in (0.6, 0.3, 0.06, 0.04)]
    seen = choice_seen(LETTERS, 1, logprobs)
    assert Confidence().score(seen) == pytest.approx(0.6)
    assert Margin().score(seen) == pytest.approx(0.3)
    assert ExpectedCalibrationError().score(seen) == pytest.approx((0.6, 0.0))


def test_confidence_by_character(choice_seen):
    seen = choice_seen(["yes", "certainly"], 1, [-3.0, -4.5])
    assert Confidence().score(seen) == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert Confidence(per_character=True).score(seen) == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert ExpectedCalibrationError(per_character=True).score(seen)[1] == 1.0


def simulated(choice_seen, rng, knows, count=4000):
    """Models that know a share of the answers for certain, and say of the rest that all choices are alike."""
    lucky = right = 0
    estimates = []
    for _ in range(count):
        gold, known = rng.randrange(4), rng.random() < knows
        chosen = gold if known else rng.randrange(4)
        share = 0.97 if known else 0.2501
        logprobs = [math.log(share if at == chosen else (1 - share) / 3) for at in range(4)]
        score = LuckyGuess().score(choice_seen(LETTERS, gold, logprobs))
        if score is not None:
            estimates.append(score)
        right += chosen == gold
        lucky += chosen == gold and not known
    assert len(estimates) == right
    return sum(estimates) / len(estimates), lucky / right


def test_luck_is_estimated_where_it_is_known(choice_seen):
    rng = random.Random(3)
    assert simulated(choice_seen, rng, knows=0.0)[0] == pytest.approx(1.0, abs=0.01)
    assert simulated(choice_seen, rng, knows=1.0)[0] == pytest.approx(0.0, abs=0.02)
    estimated, true = simulated(choice_seen, rng, knows=0.5)
    assert estimated == pytest.approx(true, abs=0.03)


def test_a_wrong_answer_a_hidden_gold_and_a_single_choice_have_no_luck(choice_seen):
    assert LuckyGuess().score(choice_seen(LETTERS, 0, [-3.0, -1.0, -2.0, -4.0])) is None
    assert LuckyGuess().score(choice_seen(LETTERS, None, [-3.0, -1.0, -2.0, -4.0])) is None
    assert LuckyGuess().score(choice_seen(["A"], 0, [-1.0])) is None
    assert ExpectedCalibrationError().score(choice_seen(LETTERS, None, [-3.0, -1.0, -2.0, -4.0])) is None
    assert Margin().score(choice_seen(["A"], 0, [-1.0])) == 1.0


@pytest.mark.parametrize("metric", [Confidence, ExpectedCalibrationError, LuckyGuess, Margin])
def test_what_is_no_probability_is_an_error(metric, choice_seen):
    with pytest.raises(ValueError, match="not a number"):
        metric().score(choice_seen(LETTERS, 0, [math.nan, -1.0, -2.0, -4.0]))
    with pytest.raises(ValueError, match="no choice has a probability"):
        metric().score(choice_seen(LETTERS, 0, [-math.inf] * 4))
    with pytest.raises(ValueError, match="2 log-probabilities for 4 choices"):
        metric().score(choice_seen(LETTERS, 0, [-1.0, -2.0]))


def test_impossible_bins_are_refused():
    with pytest.raises(ValueError, match="bins"):
        ExpectedCalibrationError(bins=0)
