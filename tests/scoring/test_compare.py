from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Prompt, Record, UsageError
from harness.run.gate import GatePolicy, gate
from harness.scoring.statistics.clusters import cluster_number
from harness.scoring.statistics.paired import Comparison, compare, compare_macro, correct_for_many
from harness.scoring.statistics.pairs import pair, pair_by_subset
from harness.scoring.statistics.significance import (
    detectable_difference,
    holm,
    mcnemar_p,
    normal_p,
    permutation_p,
    samples_needed,
)

QUICK = settings(max_examples=40, derandomize=True, deadline=None)


def record(number, score, subset="", cluster=None, doc=None, target="x"):
    doc = {"question": number} if doc is None else doc
    return Record("t", subset, number, doc, Prompt(), target, (), (), (), {"acc": score}, cluster=cluster)


def records(scores, **more):
    return [record(number, score, **more) for number, score in enumerate(scores)]


def test_clusters_give_the_same_p_value_in_every_process():
    # A process has its own hashes of texts; these are numbers that were found in another one.
    scores = [[float((7 * number + shift) % 3 == 0) for number in range(120)] for shift in (0, 1)]
    rows = [[record(n, score, cluster=f"图{n // 3}") for n, score in enumerate(values[:100])] for values in scores]
    assert cluster_number("图1", "", 3) == -5303179160052829354
    assert (
        compare("t", pair(*rows, "acc")).p_value == compare("t", pair(*map(list, map(reversed, rows)), "acc")).p_value
    )


@QUICK
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test_of_scipy(wins, losses):
    scipy_stats = pytest.importorskip("scipy.stats")
    expected = scipy_stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar_p(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_samples_stays_finite():
    assert 0 < mcnemar_p(50_500, 49_500) < 0.01
    assert mcnemar_p(100_000, 0) == 0.0


@QUICK
@given(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0]), min_size=2, max_size=9))
def test_the_permutation_test_is_that_of_scipy(differences):
    scipy_stats = pytest.importorskip("scipy.stats")
    theirs = scipy_stats.permutation_test(
        (np.array(differences),), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    # scipy doubles the smaller tail, which is the same here because flipping all signs mirrors the distribution.
    assert permutation_p(np.array(differences)) == pytest.approx(min(1.0, theirs.pvalue), abs=1e-9)


def test_random_sign_patterns_agree_with_all_of_them():
    differences = np.random.default_rng(4).normal(0.4, 1.0, 14)
    exact = permutation_p(differences)
    padded = np.concatenate([differences, [1e-9, -1e-9]])
    assert permutation_p(padded) == pytest.approx(exact, abs=0.02)
    assert permutation_p(np.full(100, 0.1)) == pytest.approx(1 / 10_001)


def test_clusters_are_flipped_whole():
    differences = np.array([1.0] * 12)
    assert permutation_p(differences) == pytest.approx(2 / 2**12)
    assert permutation_p(differences, np.repeat(np.arange(3), 4)) == pytest.approx(2 / 2**3)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_power_by_hand():
    # (1.959964 + 0.841621) standard errors
    assert detectable_difference(0.01) == pytest.approx(0.02801585)
    assert samples_needed(0.5, 0.05) == 785
    assert samples_needed(0.5, detectable_difference(0.5 / 28)) == 784
    with pytest.raises(ValueError, match="difference of 0"):
        samples_needed(0.5, 0)


@QUICK
@given(st.floats(-3, 3), st.floats(0.01, 2))
def test_the_normal_test_is_that_of_scipy(difference, stderr):
    scipy_stats = pytest.importorskip("scipy.stats")
    expected = 2 * scipy_stats.norm.sf(abs(difference) / stderr)
    assert normal_p(difference, stderr) == pytest.approx(expected, abs=1e-9)


def test_runs_are_paired_by_sample():
    first = [record(0, 1.0), record(1, 0.0), record(2, 1.0), record(3, None), record(4, 1.0), record(6, 1.0)]
    second = [
        record(2, 0.0),
        record(1, 1.0),
        record(0, 1.0),
        record(3, 1.0),
        record(4, 1.0, target="y"),
        record(5, 1.0),
    ]
    pairs = pair(first, second, "acc")
    assert pairs.keys == (("", 0), ("", 1), ("", 2))
    assert (pairs.first[:, 0].tolist(), pairs.second[:, 0].tolist()) == ([1.0, 0.0, 1.0], [1.0, 1.0, 0.0])
    assert (pairs.unscored, pairs.changed, pairs.only_first, pairs.only_second) == (1, 1, 1, 1)
    result = compare("t", pairs)
    assert (result.wins, result.losses, result.ties) == ((("", 1),), (("", 2),), 1)
    assert result.notes == {"changed": 1, "only in the first run": 1, "only in the second run": 1, "unscored": 1}


def test_scores_of_0_and_1_are_compared_by_mcnemar():
    first = [1.0] * 60 + [0.0] * 40
    second = [1.0] * 50 + [0.0] * 10 + [1.0] * 30 + [0.0] * 10
    result = compare("t", pair(records(first), records(second), "acc"))
    assert (result.first, result.second, result.test) == (0.6, 0.8, "mcnemar")
    assert result.difference == pytest.approx(0.2)
    assert result.p_value == pytest.approx(mcnemar_p(30, 10))
    assert result.interval[0] > 0 and result.interval[0] < 0.2 < result.interval[1]
    assert result.detectable == pytest.approx(2.801585 * result.stderr, rel=1e-4)


def test_equal_runs_are_not_certainly_equal():
    result = compare("t", pair(records([1.0, 0.0] * 10), records([1.0, 0.0] * 10), "acc"))
    assert (result.difference, result.p_value, result.ties) == (0.0, 1.0, 20)
    assert result.interval[0] < 0 < result.interval[1]


def test_other_scores_are_compared_by_permutation():
    generator = np.random.default_rng(0)
    first = generator.uniform(0, 1, 200)
    second = first + generator.normal(0.05, 0.1, 200)
    result = compare("t", pair(records(first.tolist()), records(second.tolist()), "acc"))
    assert result.test == "permutation" and result.p_value < 0.001
    # Pairing takes out what the questions contribute: far less than the errors of two separate means.
    assert result.stderr < 0.01 < np.hypot(first.std(), second.std()) / np.sqrt(200)


def test_clusters_make_a_difference_less_certain():
    first, second = [0.0] * 40, [float(i < 20) for i in range(40)]
    plain = compare("t", pair(records(first), records(second), "acc"))
    clusters = [str(i // 10) for i in range(40)]
    clustered = compare(
        "t",
        pair(
            [record(i, score, cluster=clusters[i]) for i, score in enumerate(first)],
            [record(i, score, cluster=clusters[i]) for i, score in enumerate(second)],
            "acc",
        ),
    )
    assert clustered.test == "permutation" and clustered.p_value > 0.1 > plain.p_value
    assert clustered.stderr > 2 * plain.stderr


def test_values_of_a_whole_set_are_compared_by_a_paired_bootstrap():
    generator = np.random.default_rng(1)
    weights = generator.uniform(1, 3, 300)
    losses = generator.normal(2.0, 0.5, 300)
    first = records([(float(w * x), float(w)) for w, x in zip(weights, losses, strict=True)])
    second = records([(float(w * (x + 0.05)), float(w)) for w, x in zip(weights, losses, strict=True)])
    pairs = pair(first, second, "acc")
    result = compare("t", pairs, higher_is_better=False, from_sums=lambda sums, _n: sums[0] / sums[1])
    assert result.test == "bootstrap" and result.difference == pytest.approx(0.05)
    assert result.stderr < 0.001 and result.p_value == pytest.approx(2 / 1001)
    with pytest.raises(UsageError, match="statistics of a whole set"):
        compare("t", pairs)


def test_runs_without_a_common_sample_show_nothing():
    result = compare("t", pair(records([1.0]), [], "acc"))
    assert (result.n, result.difference, result.p_value) == (0, None, None)


def test_a_macro_difference_of_which_no_sample_differs_is_not_known_exactly():
    part = Comparison("a", 20, 1.0, 1.0, 0.0, 0.0, (-0.09, 0.09))
    joined = compare_macro("all", [part, part, part, part])
    assert joined.interval == pytest.approx((-0.045, 0.045)) and joined.p_value == 1.0


def test_macro_differences_join_independent_errors():
    parts = [Comparison("a", 10, 0.5, 0.6, 0.1, 0.03), Comparison("b", 20, 0.4, 0.2, -0.2, 0.04)]
    joined = compare_macro("all", [*parts, Comparison("c", 0, None, None, None)])
    assert (joined.n, joined.difference, joined.stderr) == (30, pytest.approx(-0.05), pytest.approx(0.025))
    assert joined.p_value == pytest.approx(0.0455, abs=1e-4)
    assert compare_macro("none", []).difference is None


def test_many_tasks_are_corrected():
    comparisons = [
        Comparison("a", 9, 0.0, 0.1, 0.1, p_value=0.02),
        Comparison("b", 0, None, None, None),
        Comparison("c", 9, 0.0, 0.1, 0.1, p_value=0.5),
    ]
    assert [item.adjusted_p for item in correct_for_many(comparisons)] == [0.04, None, 0.5]


def test_the_gate_closes_on_a_significant_drop_only():
    verdicts = gate(
        [
            Comparison("better", 100, 0.5, 0.6, 0.1, p_value=0.001),
            Comparison("within", 100, 0.5, 0.495, -0.005, p_value=0.001),
            Comparison("worse", 100, 0.5, 0.4, -0.1, p_value=0.001),
            Comparison("noisy", 100, 0.5, 0.45, -0.05, p_value=0.3, detectable=0.14),
            Comparison("corrected", 100, 0.5, 0.45, -0.05, p_value=0.03, adjusted_p=0.09),
            Comparison("perplexity", 100, 10.0, 12.0, 2.0, p_value=0.001, higher_is_better=False),
            Comparison("empty", 0, None, None, None),
        ],
        GatePolicy(max_drop=0.01),
    )
    assert [(verdict.finding, verdict.passed) for verdict in verdicts] == [
        ("not worse", True),
        ("not worse", True),
        ("regression", False),
        ("unclear", True),
        ("unclear", True),
        ("regression", False),
        ("no data", False),
    ]
    assert "a drop of 0.14 would have shown" in verdicts[3].reason


@pytest.mark.parametrize(
    ("first", "second", "policy", "finding"),
    [
        ([1.0] * 200, [0.0] * 3, GatePolicy(), "missing samples"),
        ([1.0] * 200, [0.0] * 3, GatePolicy(allow_missing=True), "too few"),
        ([1.0] * 200, [0.0] * 3, GatePolicy(allow_missing=True, min_samples=3), "unclear"),
        ([1.0] * 200, [0.0] * 200, GatePolicy(), "regression"),
        ([1.0] * 3, [0.0] * 3, GatePolicy(), "too few"),
        ([1.0] * 40, [*([1.0] * 38), None, None], GatePolicy(), "missing samples"),
        ([1.0] * 40, [*([1.0] * 38), None, None], GatePolicy(allow_missing=True), "not worse"),
        ([None] * 5 + [1.0] * 40, [None] * 5 + [1.0] * 40, GatePolicy(), "not worse"),
        ([1.0] * 8, [1.0] * 8, GatePolicy(), "not worse"),
        ([1.0] * 8, [1.0] * 8, GatePolicy(min_samples=9), "too few"),
        ([1.0] * 8, [1.0] * 8, GatePolicy(detect=0.1), "too few"),
        ([1.0] * 200, [1.0] * 200, GatePolicy(detect=0.1), "not worse"),
        ([1.0] * 40, [1.0] * 60, GatePolicy(), "not worse"),
    ],
)
def test_what_too_few_or_missing_samples_do_to_a_gate(first, second, policy, finding):
    (verdict,) = gate([compare("t", pair(records(first), records(second), "acc"))], policy)
    assert verdict.finding == finding
    assert verdict.passed == (finding in ("not worse", "unclear"))
    assert "would have shown" in verdict.reason or finding in ("regression", "missing samples")


def test_subsets_are_paired_in_one_reading():
    one = [replace(record, subset=subset) for subset in "ab" for record in records([1.0, 0.0, 1.0])]
    two = [replace(record, subset=subset) for subset in "bc" for record in records([1.0, 1.0, None])]
    pairs = pair_by_subset(iter(one), iter(two), "acc")
    assert {name: (len(found.keys), found.only_first, found.only_second) for name, found in pairs.items()} == {
        "a": (0, 3, 0),
        "b": (2, 0, 0),
        "c": (0, 0, 3),
    }
    assert pairs["b"].lost == 1
    whole = pair(iter(one), iter(two), "acc")
    assert (whole.only_first, whole.only_second, whole.unscored) == (3, 3, 1)


def test_a_task_without_a_common_score_does_not_pass_and_says_what_was_left_out():
    (verdict,) = gate([compare("t", pair(records([1.0, 1.0]), records([None, None]), "acc"))])
    assert not verdict.passed
    assert verdict.reason == "the runs share no scored sample; 2 samples left out: unscored"


@pytest.mark.parametrize(
    ("distance", "p"), [(0.0, 1.0), (1.959964, 0.05), (9.0, 2.2571768e-19), (30.0, 9.8130775e-198)]
)
def test_a_normal_p_value_is_right_far_out(distance, p):
    assert normal_p(-distance * 0.25, 0.25) == pytest.approx(p, rel=1e-5)
