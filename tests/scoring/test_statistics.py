from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.groups import mean_of
from harness.scoring.statistics import estimates as statistics
from harness.types import MetricResult

QUICK = settings(max_examples=40, derandomize=True, deadline=None)
SCORES = st.lists(st.floats(-10, 10), min_size=2, max_size=60)


def array(values):
    return np.array(values, dtype=np.float64)


@QUICK
@given(SCORES)
def test_standard_error_of_the_mean_is_that_of_scipy(values):
    scipy_stats = pytest.importorskip("scipy.stats")
    estimate = statistics.mean_estimate(array(values))
    assert estimate.value == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert estimate.stderr == pytest.approx(scipy_stats.sem(values), abs=1e-9)


@QUICK
@given(st.floats(0.6, 0.9999), st.integers(1, 3000))
def test_student_t_quantile_is_that_of_scipy(probability, freedom):
    scipy_stats = pytest.importorskip("scipy.stats")
    ours = statistics.student_t_quantile(probability, freedom)
    assert ours == pytest.approx(scipy_stats.t.ppf(probability, freedom), rel=1e-5)


@QUICK
@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_interval_is_that_of_scipy(hits, misses):
    scipy_stats = pytest.importorskip("scipy.stats")
    n = hits + misses
    theirs = scipy_stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert statistics.wilson_interval(hits / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_interval_of_a_proportion_stays_within_0_and_1_and_is_never_empty():
    estimate = statistics.mean_estimate(array([1.0] * 20))
    assert estimate.stderr == 0.0
    assert estimate.interval[1] == 1.0 and 0.8 < estimate.interval[0] < 1.0


def test_one_sample_has_no_error():
    assert statistics.mean_estimate(array([0.5])) == statistics.Estimate(0.5)
    assert statistics.median_estimate(array([0.5])) == statistics.Estimate(0.5)


def test_clusters_of_one_change_nothing():
    values = array([0.0, 1.0, 1.0, 0.25, 3.0])
    assert statistics.mean_stderr(values, np.arange(5)) == pytest.approx(statistics.mean_stderr(values))


def test_copies_within_a_cluster_add_no_certainty():
    values, clusters = array([0.0, 1.0, 1.0, 0.5]), np.arange(4)
    once = statistics.mean_stderr(values)
    assert statistics.mean_stderr(np.repeat(values, 10), np.repeat(clusters, 10)) == pytest.approx(once)
    assert statistics.mean_stderr(np.repeat(values, 10)) < once / 2


def test_clustered_error_by_hand():
    # deviations from 0.5: clusters sum to 1, -1 and 0; 3 / 2 * (1 + 1 + 0) / 36
    values, clusters = array([1, 1, 0, 0, 1, 0]), np.array([7, 7, 8, 8, 9, 9])
    assert statistics.mean_stderr(values, clusters) == pytest.approx(math.sqrt(3 / 2 * 2) / 6)


def test_median_error_agrees_with_resampling():
    for n in (31, 40):
        values = np.random.default_rng(n).normal(size=n)
        fast = statistics.median_estimate(values)
        draws = np.median(values[np.random.default_rng(1).integers(0, n, (20_000, n))], axis=1)
        assert fast.value == pytest.approx(np.median(values))
        assert fast.stderr == pytest.approx(draws.std(ddof=1), rel=0.1)
        assert fast.interval == pytest.approx(np.quantile(draws, [0.025, 0.975]).tolist(), abs=fast.stderr)


def test_clustered_median_with_clusters_of_one_is_the_plain_one():
    values = np.random.default_rng(3).normal(size=50)
    clustered = statistics.median_estimate(values, np.arange(50))
    assert clustered.stderr == pytest.approx(statistics.median_estimate(values).stderr, rel=0.15)


def ratio(sums, _n):
    return sums[0] / sums[1]


def test_bootstrap_delta_and_closed_form_of_a_ratio_agree():
    generator = np.random.default_rng(0)
    weights = generator.uniform(1, 5, 3000)
    table = np.column_stack([generator.normal(2, 1, 3000) * weights, weights])
    bootstrap = statistics.own_estimate(table, ratio)
    delta = statistics._delta_estimate(bootstrap.value, table, ratio, None)
    means = table.mean(axis=0)
    influence = (table[:, 0] - bootstrap.value * table[:, 1]) / means[1]
    closed = influence.std(ddof=1) / math.sqrt(3000)
    assert bootstrap.value == pytest.approx(means[0] / means[1])
    assert delta.stderr == pytest.approx(closed, rel=1e-4)
    assert bootstrap.stderr == pytest.approx(closed, rel=0.08)
    assert bootstrap.interval == pytest.approx(delta.interval, abs=closed / 3)


def test_the_bootstrap_gives_the_same_error_each_time():
    table = np.random.default_rng(0).uniform(1, 2, (50, 2))
    assert statistics.own_estimate(table, ratio) == statistics.own_estimate(table, ratio)


def test_the_bootstrap_resamples_clusters_whole():
    generator = np.random.default_rng(5)
    table = generator.uniform(1, 2, (60, 2))
    clusters = np.arange(60)
    plain = statistics.own_estimate(table, ratio, clusters)
    repeated = statistics.own_estimate(np.repeat(table, 5, axis=0), ratio, np.repeat(clusters, 5))
    assert repeated.stderr == pytest.approx(plain.stderr, rel=1e-9)


def test_macro_error_joins_independent_errors():
    parts = [statistics.Estimate(0.5, 0.03), statistics.Estimate(0.7, 0.04)]
    joined = statistics.macro_estimate(parts)
    assert (joined.value, joined.stderr) == (pytest.approx(0.6), pytest.approx(0.025))
    assert statistics.macro_estimate([*parts, statistics.Estimate(0.1)]).stderr is None


@pytest.mark.parametrize("right", [1.0, 0.0])
def test_a_macro_mean_of_subsets_that_are_all_right_or_all_wrong_is_not_known_exactly(right):
    parts = [statistics.mean_estimate(np.full(20, right)) for _ in range(5)]
    low, high = statistics.macro_estimate(parts, (0.0, 1.0)).interval
    assert (low, high) == pytest.approx(statistics.wilson_interval(right, 100)) and 0.03 < high - low < 0.04
    unequal = [statistics.mean_estimate(np.full(n, right)) for n in (10, 1000)]
    low, high = statistics.macro_estimate(unequal, (0.0, 1.0)).interval
    assert (low, high) == pytest.approx(statistics.wilson_interval(right, 4 / (1 / 10 + 1 / 1000)))


def test_a_macro_mean_of_one_subset_all_right_and_one_all_wrong_is_not_known_exactly():
    parts = [statistics.mean_estimate(np.full(20, value)) for value in (0.0, 1.0)]
    low, high = statistics.macro_estimate(parts, (0.0, 1.0)).interval
    assert low < 0.45 and high > 0.55


def test_the_interval_of_a_macro_mean_of_proportions_holds_it_as_often_as_it_says():
    generator = np.random.default_rng(7)
    for true, sizes in [((0.99, 0.99), (20, 20)), ((0.97,) * 67, (12,) * 67), ((0.98, 0.97, 0.95, 0.6), (20,) * 4)]:
        held = 0
        for _ in range(1000):
            drawn = [(generator.random(n) < p).astype(float) for p, n in zip(true, sizes, strict=True)]
            low, high = statistics.macro_estimate(
                [statistics.mean_estimate(each) for each in drawn], (0.0, 1.0)
            ).interval
            held += 0 <= low <= np.mean(true) <= high <= 1
        assert held >= 920


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_a_group_whose_tasks_are_all_right_is_not_known_exactly(average):
    task = MetricResult("acc", 1.0, 20, 0.0, statistics.wilson_interval(1.0, 20), bounds=(0.0, 1.0))
    assert mean_of([task, task], average, (0.0, 1.0)).interval == pytest.approx(statistics.wilson_interval(1.0, 40))


def test_scores_that_are_no_proportions_have_a_normal_interval():
    parts = [statistics.mean_estimate(np.array([3.0, 5.0])), statistics.mean_estimate(np.array([2.0, 2.5]))]
    joined = statistics.macro_estimate(parts, (0.0, 10.0))
    assert joined.interval == pytest.approx(statistics.normal_interval(joined.value, joined.stderr))


def test_a_value_only_its_metric_can_form_is_resampled_too():
    scores = [(float(value),) for value in np.random.default_rng(2).normal(size=80)]
    estimate = statistics.opaque_estimate(scores, lambda rows: sum(row[0] for row in rows) / len(rows))
    plain = statistics.mean_stderr(array([row[0] for row in scores]))
    assert estimate.stderr == pytest.approx(plain, rel=0.1)
