"""Decides whether a run may replace another: no task worse than allowed, beyond what chance explains.

checks = gate_runs("runs/baseline", "runs/current", GatePolicy(max_drop=0.01))
passed = all(check.outcome == "passed" for check in checks)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.record.junit import GateCheck
from harness.run.compare import RunSide, compare_runs, unshared_tasks
from harness.scoring.statistics.paired import Comparison
from harness.words import Translate, english

Finding = Literal["regression", "not worse", "unclear", "too few", "missing samples", "no data"]

_TESTS = {
    "mcnemar": "the exact McNemar test",
    "permutation": "a permutation test",
    "bootstrap": "a paired bootstrap",
    "normal": "a normal test of the mean",
}
_FEWEST_LOSSES, _LOSSES_SHOWN = 6, 7.906
"""Where no sample is won, the exact McNemar test finds a loss of six at 5 %, and of no fewer. Six are reached with a
probability of 80 % where 7.906 are lost on average (Poisson)."""
FEWEST = 30
"""With fewer pairs, a drop that chance could have made is no reason to let a run pass."""


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What a run must show to pass.

    max_drop: how much worse a task may be. alpha: level of the test. allow_missing: whether samples of the baseline may
    be missing or unscored. min_samples: the least number of pairs, for every task; without it, `FEWEST` for those that
    came out worse. detect: a drop that every task must have been able to show, with a power of 80 %.
    """

    max_drop: float = 0.0
    alpha: float = 0.05
    allow_missing: bool = False
    min_samples: int | None = None
    detect: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one comparison means. `unclear`: worse by more than is allowed, but chance alone could do that."""

    comparison: Comparison
    finding: Finding
    reason: str

    @property
    def passed(self) -> bool:
        return self.finding in ("not worse", "unclear")


def gate_runs(
    baseline: str | Path,
    current: str | Path,
    policy: GatePolicy = GatePolicy(),
    message: Callable[[str], None] = lambda text: None,
    t: Translate = english,
) -> list[GateCheck]:
    """Judge every task of the baseline. One that the current run lacks has failed: nothing shows it to be no worse.

    message: is told what of a folder cannot be read. t: the language of the reasons.
    """
    checks = check_gate(compare_runs(baseline, current, message=message), policy, t)
    tasks, (missing, _) = RunSide(baseline, None).tasks, unshared_tasks(baseline, current)
    for name in missing:
        metric = tasks[name]["metrics"][0]
        value = None if metric["value"] is None else float(metric["value"])
        reason = t("the current run has no such task")
        checks.append(GateCheck(name, metric["metric"], value, None, None, None, 0, "failed", reason))
    return checks


def check_gate(
    comparisons: Sequence[Comparison], policy: GatePolicy = GatePolicy(), t: Translate = english
) -> list[GateCheck]:
    """Judge comparisons of a baseline with a current run; `outcome` of each says whether it passed."""
    checks = []
    for verdict in gate(comparisons, policy, t):
        pair = verdict.comparison
        task, _, metric = pair.name.partition(": ")
        p_value = pair.p_value if pair.adjusted_p is None else pair.adjusted_p
        outcome: Literal["passed", "failed"] = "passed" if verdict.passed else "failed"
        values = pair.first, pair.second, pair.interval
        tested = (
            t("no test was possible")
            if p_value is None
            else t(
                "{p} of no difference, corrected for the number of tasks; an alarm: < {alpha:g}, and worse by "
                "more than {drop:g}",
                p=p_words(p_value), alpha=policy.alpha, drop=policy.max_drop,
            )
        )  # fmt: skip
        steps = (*facts(pair, t), tested, outcome_words(verdict.passed, verdict.reason, t))
        checks.append(GateCheck(task, metric, *values, p_value, pair.n, outcome, verdict.reason, steps=steps))
    return checks


def gate(comparisons: Sequence[Comparison], policy: GatePolicy = GatePolicy(), t: Translate = english) -> list[Verdict]:
    """Judge each comparison of a baseline (first) with a current run (second).

    A regression is a drop by more than `max_drop` whose p-value, Holm-adjusted where that was done, is below `alpha`.
    A comparison without a common sample does not pass, nor does one that lacks samples or is too small to show what the
    policy asks for: nothing was shown.
    """
    verdicts = []
    for comparison in comparisons:
        finding, reason = _finding(comparison, policy, t)
        left_out = [
            t("{samples} left out: {what}", samples=_samples(n, t), what=t(what))
            for what, n in comparison.notes.items()
        ]
        verdicts.append(Verdict(comparison, finding, t("; ").join([reason, *left_out])))
    return verdicts


def _finding(comparison: Comparison, policy: GatePolicy, t: Translate) -> tuple[Finding, str]:
    if comparison.difference is None:
        return "no data", t("the runs share no scored sample")
    drop = -comparison.difference if comparison.higher_is_better else comparison.difference
    p_value = comparison.p_value if comparison.adjusted_p is None else comparison.adjusted_p
    chance = t("no test was possible") if p_value is None else p_words(p_value)
    change = change_words(comparison)
    seen = smallest_visible(comparison)
    power = visible_words(comparison, t) or t("what drop would have shown cannot be said")
    if drop > policy.max_drop and p_value is not None and p_value < policy.alpha:
        words = t("{change}, more than {drop:g} worse; {chance}", change=change, drop=policy.max_drop, chance=chance)
        return "regression", words
    if comparison.missing and not policy.allow_missing:
        lacking = missing_words(comparison, t)
        return "missing samples", t(
            "{change}; {lacking} (--allow_missing lets them be)", change=change, lacking=lacking
        )
    least = policy.min_samples if policy.min_samples is not None else FEWEST if drop > policy.max_drop else 0
    if comparison.n < least:
        few = t("{n} samples are the least that says something ({flag})", n=least, flag="--min_samples")
        return "too few", t("; ").join([change, few, power])
    if policy.detect is not None and (seen is None or seen > policy.detect):
        hidden = t("a drop of {drop:g} might not have shown (--detect)", drop=policy.detect)
        return "too few", t("; ").join([change, hidden, power])
    if drop <= policy.max_drop:
        return "not worse", t("; ").join([change, t("a drop of {drop:g} is allowed", drop=policy.max_drop), power])
    by_chance = t("{change}, but chance could do that: {chance}", change=change, chance=chance)
    return "unclear", t("; ").join([by_chance, power])


def p_words(p_value: float) -> str:
    """`p = 0.0412`. One that floats cannot tell from 0 is not 0."""
    return f"p = {p_value:.3g}" if p_value > 0 else "p < 1e-15"


def change_words(comparison: Comparison) -> str:
    """`0.6 -> 0.3 (-0.3, n = 100)`."""
    return f"{comparison.first:.4g} -> {comparison.second:.4g} ({comparison.difference:+.4g}, n = {comparison.n})"


def missing_words(comparison: Comparison, t: Translate = english) -> str:
    """How many samples of the baseline have no pair."""
    if comparison.missing == 1:
        return t("1 sample of the baseline is missing or unscored")
    return t("{n} samples of the baseline are missing or unscored", n=comparison.missing)


def outcome_words(passed: bool, reason: str, t: Translate = english) -> str:
    """What follows from the steps before."""
    return t("so it passes: {reason}", reason=reason) if passed else t("so it fails: {reason}", reason=reason)


def facts(comparison: Comparison, t: Translate = english) -> Iterator[str]:
    """What a comparison rests on, a line each."""
    if comparison.difference is None:
        yield t("no pair: the runs share no scored sample")
        return
    won, lost = len(comparison.wins), len(comparison.losses)
    up, down = (won, lost) if comparison.higher_is_better else (lost, won)
    pairs = t("1 pair") if comparison.n == 1 else t("{n} pairs", n=comparison.n)
    if 0 < comparison.units < comparison.n:
        pairs = t("{pairs} in {n} clusters", pairs=pairs, n=comparison.units)
    if up or down or comparison.ties:  # of a mean over tasks nobody counts them
        pairs = t(
            "{pairs}: {up} better, {down} worse, {ties} the same",
            pairs=pairs, up=up, down=down, ties=comparison.ties,
        )  # fmt: skip
    missing = t("{n} missing", n=comparison.missing)
    better = t("higher is better") if comparison.higher_is_better else t("lower is better")
    yield t("; ").join([pairs, missing, better])
    interval = t("no interval")
    if comparison.interval is not None:
        low, high = comparison.interval
        interval = t("95 % interval {low:+.4g} .. {high:+.4g}", low=low, high=high)
    test = t(_TESTS.get(comparison.test or "", "no test"))
    yield t("difference {value:+.4g}, {interval}, by {test}", value=comparison.difference, interval=interval, test=test)


def smallest_visible(comparison: Comparison) -> float | None:
    """The smallest drop that this many samples would have shown; infinite where none would, None where nothing says it.

    Where no sample differs, no spread is left to say it from: then it is how far the interval reaches, and what the
    exact test can see at all.
    """
    reach = None
    if comparison.interval is not None and comparison.difference is not None:
        low, high = comparison.interval
        reach = comparison.difference - low if comparison.higher_is_better else high - comparison.difference
    exact = None
    if comparison.test == "mcnemar":
        exact = min(1.0, _LOSSES_SHOWN / comparison.n) if comparison.n >= _FEWEST_LOSSES else math.inf
    known = [value for value in (comparison.detectable, reach, exact) if value]
    return max(known) if known else None


def visible_words(comparison: Comparison, t: Translate = english) -> str:
    """What drop would have shown, in words; empty where nothing says it."""
    seen = smallest_visible(comparison)
    if seen is None:
        return ""
    if math.isinf(seen):
        return t("no drop would have shown")
    return t("a drop of {drop:.3g} would have shown", drop=seen)


def _samples(n: int, t: Translate) -> str:
    return t("1 sample") if n == 1 else t("{n} samples", n=n)
