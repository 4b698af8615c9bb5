from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness import Observation, Response, Sample
from harness_plugins.metrics.choice import (
    Accuracy,
    BrierScore,
    ByteNormAccuracy,
    CharNormAccuracy,
    GoldMass,
    MatthewsCorrelation,
    MutualInformationAccuracy,
    TokenNormAccuracy,
)

QUICK = settings(max_examples=40, derandomize=True, deadline=None)


def test_of_equally_likely_choices_the_first_wins(choice_seen):
    assert Accuracy().score(choice_seen(["A", "B", "C"], 1, [-2.0, -1.0, -1.0])) == 1.0
    assert Accuracy().score(choice_seen(["A", "B", "C"], 2, [-2.0, -1.0, -1.0])) == 0.0


def test_any_of_several_golds_is_right(choice_seen):
    assert Accuracy().score(choice_seen(["A", "B", "C"], (0, 2), [-3.0, -2.0, -1.0])) == 1.0
    assert Accuracy().score(choice_seen(["A", "B", "C"], (0, 1), [-3.0, -2.0, -1.0])) == 0.0


def test_a_gold_may_be_the_text_of_a_choice(choice_seen):
    assert Accuracy().score(choice_seen(["yes", "no"], "no", [-3.0, -2.0])) == 1.0


def test_length_is_counted_in_characters_or_in_bytes(choice_seen):
    # per character -1 and -1.5, per byte -0.333 and -1.5 of "北京" (6 bytes) and "ab" (2 bytes)
    seen = choice_seen(["北京", "ab"], 0, [-2.0, -3.0])
    assert CharNormAccuracy().score(seen) == 1.0
    # plain: -3 wins over -4; per character: -1.5 wins over -2; per byte: -4/6 wins over -3/2
    seen = choice_seen(["北京", "ab"], 0, [-4.0, -3.0])
    assert (Accuracy().score(seen), CharNormAccuracy().score(seen), ByteNormAccuracy().score(seen)) == (0.0, 0.0, 1.0)


def test_length_is_counted_in_tokens_where_the_model_says_them():
    sample = Sample("t", "", 0, {}, (), 1, ("New York", "Oslo"))
    given = Response(logprobs=(-3.0, -4.0), is_greedy=(False, False), token_counts=(1, 2))
    assert TokenNormAccuracy().score(Observation(sample, (given,))) == 1.0  # -3 and -2 a token
    assert TokenNormAccuracy().score(Observation(sample, (Response(logprobs=(-3.0, -4.0)),))) is None


def test_an_empty_choice_never_wins_by_length(choice_seen):
    assert CharNormAccuracy().score(choice_seen(["", "ab"], 1, [-0.1, -9.0])) == 1.0


def test_mutual_information_takes_off_what_a_choice_is_worth_alone(choice_seen):
    seen = choice_seen(["common", "rare"], 1, [-1.0, -2.0], unconditional=[-0.5, -8.0])
    assert Accuracy().score(seen) == 0.0
    assert MutualInformationAccuracy().score(seen) == 1.0


def test_mutual_information_without_the_second_request_is_an_error(choice_seen):
    with pytest.raises(ValueError, match="0 unconditional log-probabilities for 2 choices"):
        MutualInformationAccuracy().score(choice_seen(["a", "b"], 0, [-1.0, -2.0]))


@pytest.mark.parametrize(
    "metric", [Accuracy(), CharNormAccuracy(), ByteNormAccuracy(), BrierScore(), MatthewsCorrelation()]
)
def test_hidden_gold_is_not_scored(metric, choice_seen):
    assert metric.score(choice_seen(["A", "B"], None, [-1.0, -2.0])) is None


def test_a_gold_outside_the_choices_is_an_error(choice_seen):
    with pytest.raises(ValueError, match="gold index 4 is outside the 2 choices"):
        Accuracy().score(choice_seen(["A", "B"], 4, [-1.0, -2.0]))


def test_several_requests_with_one_continuation_each_are_one_row_of_choices():
    sample = Sample("winogrande", "", 0, {}, (), 1, ("Ann", "Bob"))
    seen = Observation(sample, (Response(logprobs=(-3.0,)), Response(logprobs=(-2.0,))))
    assert Accuracy().score(seen) == 1.0


def test_a_single_continuation_is_right_when_greedy_decoding_gives_it():
    sample = Sample("lambada", "", 0, {}, (), " dog")
    assert Accuracy().score(Observation(sample, (Response(logprobs=(-1.0,), is_greedy=(True,)),))) == 1.0
    assert Accuracy().score(Observation(sample, (Response(logprobs=(-1.0,), is_greedy=(False,)),))) == 0.0


@QUICK
@given(
    st.lists(st.tuples(st.lists(st.floats(-30, 0), min_size=3, max_size=3), st.integers(0, 2)), min_size=1, max_size=9)
)
def test_brier_score_is_that_of_scikit_learn(rows):
    sklearn = pytest.importorskip("sklearn.metrics")
    metric = BrierScore()
    ours, probabilities = [], []
    for logprobs, gold in rows:
        sample = Sample("t", "", 0, {}, (), gold, ("a", "b", "c"))
        ours.append(metric.score(Observation(sample, (Response(logprobs=tuple(logprobs)),))))
        weights = [math.exp(value - max(logprobs)) for value in logprobs]
        probabilities.append([weight / sum(weights) for weight in weights])
    theirs = sum(
        sklearn.brier_score_loss([int(gold == k)], [p[k]], pos_label=1)
        for (_, gold), p in zip(rows, probabilities, strict=True)
        for k in range(3)
    )
    assert metric.aggregate([(value,) for value in ours]) == pytest.approx(theirs / len(rows), abs=1e-9)


def test_brier_score_of_several_classes_is_that_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    shares, golds = [(0.7, 0.2, 0.1), (0.1, 0.1, 0.8), (1.0, 0.0, 0.0)], [0, 1, 0]
    logprobs = [tuple(math.log(share) - 3 if share else -math.inf for share in row) for row in shares]
    ours = [
        BrierScore().score(Observation(Sample("t", "", 0, {}, (), gold, ("a", "b", "c")), (Response(logprobs=values),)))
        for gold, values in zip(golds, logprobs, strict=True)
    ]
    # Brier's own form of 1950, between 0 and 2; scikit-learn halves it for two classes only.
    assert sum(ours) / 3 == pytest.approx(sklearn.brier_score_loss(golds, shares, labels=[0, 1, 2]))


@QUICK
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40))
def test_matthews_correlation_is_that_of_scikit_learn(pairs):
    sklearn = pytest.importorskip("sklearn.metrics")
    assume(len({label for pair in pairs for label in pair}) > 1)
    metric = MatthewsCorrelation()
    statistics = []
    for gold, chosen in pairs:
        logprobs = tuple(0.0 if k == chosen else -5.0 for k in range(3))
        sample = Sample("t", "", 0, {}, (), gold, ("a", "b", "c"))
        statistics.append(metric.score(Observation(sample, (Response(logprobs=logprobs),))))
    theirs = sklearn.matthews_corrcoef([gold for gold, _ in pairs], [chosen for _, chosen in pairs])
    assert metric.aggregate(statistics) == pytest.approx(theirs, abs=1e-9)


def test_gold_mass_is_the_share_of_all_right_choices():
    sample = Sample("t", "", 0, {}, (), (0, 2), ("a", "b", "c"))
    seen = Observation(sample, (Response(logprobs=(math.log(0.1), math.log(0.3), math.log(0.1))),))
    assert GoldMass().score(seen) == pytest.approx(0.4)
