"""Calibration, margins and luck: against their definitions, and on models whose luck is known."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.statistics.estimates import BOOTSTRAP_LIMIT, distance_estimate
from harness_plugins.metrics.confidence import Confidence, ExpectedCalibrationError, LuckyGuess, Margin

QUICK = settings(max_examples=40, derandomize=True, deadline=None)
LETTERS = ["A", "B", "C", "D"]


def ece_of(metric, scores):
    table = np.array([metric.statistics(score) for score in scores])
    return distance_estimate(table, metric.from_sums)


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


def draws(rng, count, right):
    """(confidence, hit) of a model that is right with the probability `right(confidence)`."""
    sure = [0.25 + 0.75 * rng.betavariate(2, 2) for _ in range(count)]
    return [(p, float(rng.random() < right(p))) for p in sure]


@pytest.mark.parametrize("count", [60, 400])
def test_the_interval_of_an_honest_model_begins_at_0_however_much_noise_there_is(count):
    rng = random.Random(5)
    estimates = [ece_of(ExpectedCalibrationError(), draws(rng, count, lambda p: p)) for _ in range(40)]

    assert min(estimate.value for estimate in estimates) > 0.02
    assert sum(estimate.interval[0] == 0.0 for estimate in estimates) >= 36
    assert all(estimate.interval[1] >= estimate.value for estimate in estimates)


@pytest.mark.parametrize("count", [300, 1000])
def test_the_interval_of_a_model_that_is_too_sure_holds_its_true_error(count):
    rng = random.Random(6)
    estimates = [ece_of(ExpectedCalibrationError(), draws(rng, count, lambda p: p - 0.2)) for _ in range(40)]

    assert sum(estimate.interval[0] <= 0.2 <= estimate.interval[1] for estimate in estimates) >= 34
    assert all(estimate.interval[0] > 0.0 for estimate in estimates)


def test_many_samples_have_the_same_error_and_interval_by_a_shorter_way(monkeypatch):
    scores = draws(random.Random(7), 3000, lambda p: p - 0.05)
    slow = ece_of(ExpectedCalibrationError(), scores)
    monkeypatch.setattr("harness.scoring.statistics.estimates.BOOTSTRAP_LIMIT", 2999)
    fast = ece_of(ExpectedCalibrationError(), scores)

    assert fast.value == slow.value and BOOTSTRAP_LIMIT > 3000
    assert fast.stderr == pytest.approx(slow.stderr, rel=0.1)
    assert fast.interval == pytest.approx(slow.interval, abs=slow.stderr / 4)


def test_copies_within_a_cluster_add_no_certainty():
    scores = draws(random.Random(8), 200, lambda p: p - 0.2)
    metric = ExpectedCalibrationError()
    table = np.array([metric.statistics(score) for score in scores])
    once = distance_estimate(table, metric.from_sums, np.arange(200))
    copied = distance_estimate(np.repeat(table, 4, axis=0), metric.from_sums, np.repeat(np.arange(200), 4))

    assert copied.stderr == pytest.approx(once.stderr, rel=1e-9)
    assert copied.interval == pytest.approx(once.interval, rel=1e-9)
    assert distance_estimate(table[:1], metric.from_sums).interval is None


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


def test_luck_of_a_calibrated_model_is_the_correction_for_guessing(choice_seen):
    rng = random.Random(4)
    lucky, wrong = 0.0, 0
    for _ in range(6000):
        weights = [rng.random() ** 3 for _ in range(4)]
        shares = [weight / sum(weights) for weight in weights]
        (gold,) = rng.choices(range(4), shares)
        score = LuckyGuess().score(choice_seen(LETTERS, gold, [math.log(share) for share in shares]))
        lucky, wrong = lucky + (score or 0.0), wrong + (score is None)
    assert lucky == pytest.approx(wrong / 3, rel=0.05)


def test_a_guess_among_several_right_choices_is_right_more_often(choice_seen):
    logprobs = [math.log(share) for share in (0.4, 0.3, 0.2, 0.1)]
    # By Bayes' rule: it guesses with probability 4/3 * 0.6 = 0.8, and then is right in two of four cases.
    assert LuckyGuess().score(choice_seen(LETTERS, (0, 2), logprobs)) == pytest.approx(0.8 * 0.5 / (0.2 + 0.8 * 0.5))
    assert LuckyGuess().score(choice_seen(LETTERS, 0, logprobs)) == pytest.approx(0.6 / (3 * 0.4))


def test_the_chosen_option_is_the_one_that_is_judged(choice_seen):
    seen = choice_seen(["yes", "certainly"], 1, [-3.0, -4.5])
    assert (Confidence().chosen(seen), Confidence(per_character=True).chosen(seen)) == (0, 1)


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
