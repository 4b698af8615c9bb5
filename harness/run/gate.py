"""Decides whether a run may replace another: no task worse than allowed, beyond what chance explains.

checks = gate_runs("runs/baseline", "runs/current", max_drop=0.01)
passed = all(check.outcome == "passed" for check in checks)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.record.junit import GateCheck
from harness.run.compare import RunSide, compare_runs, unshared_tasks
from harness.scoring.statistics.paired import Comparison

Finding = Literal["regression", "not worse", "unclear", "no data"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one comparison means. `unclear`: worse by more than is allowed, but chance alone could do that."""

    comparison: Comparison
    finding: Finding
    reason: str

    @property
    def passed(self) -> bool:
        return self.finding in ("not worse", "unclear")


def gate_runs(baseline: str | Path, current: str | Path, max_drop: float = 0.0, alpha: float = 0.05) -> list[GateCheck]:
    """Judge every task of the baseline. One that the current run lacks has failed: nothing shows it to be no worse."""
    checks = check_gate(compare_runs(baseline, current), max_drop, alpha)
    tasks, (missing, _) = RunSide(baseline, None).tasks, unshared_tasks(baseline, current)
    return [*checks, *(_missing_task(tasks[name]) for name in missing)]


def check_gate(comparisons: Sequence[Comparison], max_drop: float = 0.0, alpha: float = 0.05) -> list[GateCheck]:
    """Judge comparisons of a baseline with a current run; `outcome` of each says whether it passed."""
    return [_check_of(verdict) for verdict in gate(comparisons, max_drop, alpha)]


def _missing_task(task: Mapping[str, Any]) -> GateCheck:
    metric = task["metrics"][0]
    value, reason = metric["value"], "the current run has no such task"
    return GateCheck(task["task"], metric["metric"], value, None, None, None, 0, "failed", reason)


def _check_of(verdict: Verdict) -> GateCheck:
    found = verdict.comparison
    task, _, metric = found.name.partition(": ")
    p_value = found.p_value if found.adjusted_p is None else found.adjusted_p
    outcome: Literal["passed", "failed"] = "passed" if verdict.passed else "failed"
    return GateCheck(task, metric, found.first, found.second, found.interval, p_value, found.n, outcome, verdict.reason)


def gate(comparisons: Sequence[Comparison], max_drop: float = 0.0, alpha: float = 0.05) -> list[Verdict]:
    """Judge each comparison of a baseline (first) with a current run (second).

    A regression is a drop by more than `max_drop` whose p-value, Holm-adjusted where that was done, is below `alpha`.
    A comparison without a common sample does not pass: nothing was shown.
    """
    return [_judge(comparison, max_drop, alpha) for comparison in comparisons]


def _judge(comparison: Comparison, max_drop: float, alpha: float) -> Verdict:
    found, reason = _finding(comparison, max_drop, alpha)
    left_out = [f"{n} {'sample' if n == 1 else 'samples'} left out: {what}" for what, n in comparison.notes.items()]
    return Verdict(comparison, found, "; ".join([reason, *left_out]))


def _finding(comparison: Comparison, max_drop: float, alpha: float) -> tuple[Finding, str]:
    if comparison.difference is None:
        return "no data", "the runs share no scored sample"
    drop = -comparison.difference if comparison.higher_is_better else comparison.difference
    p_value = comparison.p_value if comparison.adjusted_p is None else comparison.adjusted_p
    if drop <= max_drop:
        return "not worse", f"{_change(comparison)}; a drop of {max_drop:g} is allowed"
    chance = "no test was possible" if p_value is None else f"p = {p_value:.3g}"
    if p_value is not None and p_value < alpha:
        return "regression", f"{_change(comparison)}, more than {max_drop:g} worse; {chance}"
    # Where all samples differ alike, no spread is left to say it from.
    seen = f"; a difference below {comparison.detectable:.3g} would not show" if comparison.detectable else ""
    return "unclear", f"{_change(comparison)}, but chance could do that: {chance}{seen}"


def _change(comparison: Comparison) -> str:
    return f"{comparison.first:.4g} -> {comparison.second:.4g} ({comparison.difference:+.4g}, n = {comparison.n})"
