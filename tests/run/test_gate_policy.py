"""A gate's policy: how often its alarms and its promises are wrong, and what its rules make of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.run.gate import visible_words
from harness.run.gate_policy import Policy, PolicyConfig, RuleEntry, RuleLine, check_lines
from harness.scoring.statistics.margins import excess_p, power_of, samples_for, shortfall_p, stderr_of_worst, worst_drop
from harness.scoring.statistics.paired import Comparison, compare, compare_macro
from harness.scoring.statistics.pairs import PairedScores
from harness.tasks.yaml_file import Document


def runs_of(n: int, worse: float, better: float, generator: np.random.Generator) -> Comparison:
    """A run that loses a sample that was right with the chance `worse`, and wins one with the chance `better`."""
    drawn = generator.random(n)
    second = np.where(drawn < worse, 0.0, 1.0)
    first = np.where((drawn >= worse) & (drawn < worse + better), 0.0, 1.0)
    keys = tuple(("", number) for number in range(n))
    return compare("task", PairedScores(keys, first[:, None], second[:, None]))


def measured(n: int, drop: float, spread: float, generator: np.random.Generator, clusters: int = 0) -> Comparison:
    """Scores between 0 and 1 that are worse by `drop` on average."""
    first = generator.random(n)
    second = first - drop + generator.normal(0, spread, n)
    groups = np.arange(n) % clusters if clusters else None
    keys = tuple(("", number) for number in range(n))
    return compare("task", PairedScores(keys, first[:, None], second[:, None], groups))


def policy_of(*rules: RuleEntry, may_fail: int = 1) -> Policy:
    return Policy(
        PolicyConfig(rules=list(rules), supporting_may_fail=may_fail), Document({}, {}, (Path("policy.yaml"),))
    )


def stops(policy: Policy, comparisons: list[Comparison]) -> bool:
    lines = [
        RuleLine(number, rule, f"task{number}", "acc", "", comparison)
        for number, (rule, comparison) in enumerate(zip(policy.config.rules, comparisons, strict=True))
    ]
    return any(check.outcome == "failed" for check in check_lines(policy, lines))


def test_tango_s_example() -> None:
    # T. Tango 1998, table II: one of 44 pairs differs, margin 0.1. Without the step Z = -1.709.
    comparison = runs_of(44, 0, 0, np.random.default_rng(0))
    one = compare("lens", PairedScores(tuple(("", k) for k in range(44)), np.ones((44, 1)), np.ones((44, 1))))
    assert shortfall_p(comparison, 0.1) == shortfall_p(one, 0.1)
    scores = np.ones((44, 1))
    scores[0] = 0.0
    lens = compare("lens", PairedScores(tuple(("", k) for k in range(44)), np.ones((44, 1)), scores))
    assert shortfall_p(lens, 0.1) == pytest.approx(0.0725, abs=0.0005)  # Phi(-1.4573): -3.4 + 0.5 over the same error


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [0.0, 0.01])
def test_of_a_thousand_releases_that_are_as_good_as_allowed_one_in_twenty_is_stopped_at_most(allowed: float) -> None:
    generator = np.random.default_rng(7)
    tiers = ("critical", "critical", "critical", "supporting", "supporting", "advisory")
    policy = policy_of(*(RuleEntry(tier=tier, tasks="*", max_drop=allowed) for tier in tiers), may_fail=0)
    alarms = 0
    for _ in range(1_000):
        tasks = [runs_of(n, 0.05 + allowed, 0.05, generator) for n in (60, 100, 150, 200, 300, 200)]
        alarms += stops(policy, tasks)
    assert alarms <= 50


@pytest.mark.slow
def test_other_scores_and_clusters_keep_the_level_too() -> None:
    generator = np.random.default_rng(3)
    alarms = promises = 0
    for number in range(1_000):
        comparison = measured(80, 0.02, 0.2, generator, clusters=20 * (number % 2))
        alarms += (excess_p(comparison, 0.02) or 1.0) < 0.05
        promises += (shortfall_p(comparison, 0.02) or 1.0) < 0.05
    assert alarms <= 64 and promises <= 64


def test_a_release_that_is_worse_than_the_margin_is_seldom_promised_and_a_good_one_often() -> None:
    generator = np.random.default_rng(11)
    policy = policy_of(RuleEntry(tasks="*", margin=0.05))
    worse = sum(not stops(policy, [runs_of(400, 0.10, 0.05, generator)]) for _ in range(400))
    assert worse <= 20 + 9
    equal = sum(not stops(policy, [runs_of(400, 0.05, 0.05, generator)]) for _ in range(400))
    assert equal / 400 == pytest.approx(power_of(runs_of(400, 0.05, 0.05, generator), 0.05, 0.05) or 0, abs=0.1)


@pytest.mark.parametrize(("sizes", "drops"), [((30, 300), (0.04, 0.0)), ((30,) * 5, (0.02,) * 5)])
def test_the_mean_of_tasks_is_promised_no_sooner_because_one_of_them_is_small(
    sizes: tuple[int, ...], drops: tuple[float, ...]
) -> None:
    generator, promises = np.random.default_rng(2), 0
    for _ in range(200):
        parts = [runs_of(n, 0.01 + drop, 0.01, generator) for n, drop in zip(sizes, drops, strict=True)]
        mean = compare_macro("mean", [replace(part, stderr=stderr_of_worst(part, 0.05)) for part in parts])
        promises += (shortfall_p(mean, 0.02) or 0.0) < 0.05
    assert promises <= 10  # by the standard errors of the tasks alone it was 40 of 200


def test_clusters_that_do_not_differ_are_as_many_as_there_are_clusters() -> None:
    keys, scores = tuple(("", number) for number in range(100)), np.full((100, 1), 0.5)
    comparison = compare("task", PairedScores(keys, scores, scores, np.arange(100) % 5))
    assert shortfall_p(comparison, 0.1) == pytest.approx(0.9**5)


def test_of_a_thousand_quantised_models_that_are_worse_nearly_all_are_stopped() -> None:
    generator = np.random.default_rng(5)
    policy = policy_of(RuleEntry(tasks="*", max_drop=0.01), RuleEntry(tier="supporting", tasks="*"))
    stopped = sum(
        stops(policy, [runs_of(1000, 0.09, 0.02, generator), runs_of(200, 0.05, 0.05, generator)]) for _ in range(1_000)
    )
    assert stopped >= 990


def test_too_few_samples_promise_nothing_and_say_how_many_would() -> None:
    comparison = runs_of(60, 0.05, 0.05, np.random.default_rng(1))
    policy = policy_of(RuleEntry(tasks="*", margin=0.02))
    (check,) = check_lines(policy, [RuleLine(0, policy.config.rules[0], "task", "acc", "", comparison)])
    assert check.outcome == "failed" and "n is too small to promise this" in check.reason
    needed = samples_for(comparison, 0.02, 0.05, 0.8)
    assert needed is not None and needed > 600 and f"about {needed:,} samples would do" in check.reason


@pytest.mark.parametrize(("n", "words"), [(5, "no drop"), (7, "a drop of 1"), (200, "a drop of 0.0395")])
def test_what_would_have_shown_is_what_the_exact_test_sees(n: int, words: str) -> None:
    same = runs_of(n, 0, 0, np.random.default_rng(1))
    assert visible_words(same) == f"{words} would have shown"


@pytest.mark.parametrize("n", [3, 60, 500])
def test_no_difference_at_all_promises_no_more_than_its_number_of_samples(n: int) -> None:
    same = np.full((n, 1), 0.37)
    comparison = compare("task", PairedScores(tuple(("", k) for k in range(n)), same, same))
    assert shortfall_p(comparison, 0.02) == pytest.approx(0.98**n)
    right = np.ones((n, 1))
    binary = compare("task", PairedScores(tuple(("", k) for k in range(n)), right, right))
    assert (shortfall_p(binary, 0.02) or 0) < 0.05 if n == 500 else (shortfall_p(binary, 0.02) or 0) > 0.05


def test_the_worst_drop_is_where_the_promise_begins() -> None:
    comparison = runs_of(400, 0.08, 0.05, np.random.default_rng(2))
    worst = worst_drop(comparison, 0.05)
    assert worst is not None
    assert (shortfall_p(comparison, worst + 1e-6) or 1) <= 0.05 < (shortfall_p(comparison, worst - 1e-3) or 0)


def test_where_less_is_better_a_rise_is_the_drop() -> None:
    first, second = np.zeros((50, 1)), np.ones((50, 1))
    keys = tuple(("", number) for number in range(50))
    assert (excess_p(compare("t", PairedScores(keys, first, second), higher_is_better=False), 0.1) or 1) < 1e-6
    assert (shortfall_p(compare("t", PairedScores(keys, second, first), higher_is_better=False), 0.1) or 1) < 1e-6


def test_one_supporting_line_may_fail_and_an_advisory_one_always() -> None:
    generator = np.random.default_rng(0)
    bad, good = runs_of(300, 0.3, 0.0, generator), runs_of(300, 0.0, 0.1, generator)
    supporting, advisory = RuleEntry(tier="supporting", tasks="*"), RuleEntry(tier="advisory", tasks="*")
    assert not stops(policy_of(supporting, supporting, advisory), [bad, good, bad])
    assert stops(policy_of(supporting, supporting, advisory), [bad, bad, good])
    assert stops(policy_of(RuleEntry(tasks="*"), supporting), [bad, good])
