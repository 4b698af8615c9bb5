"""Decides whether a run may replace another: no task worse than allowed, beyond what chance explains.

verdicts = gate(correct_for_many([compare(...), ...]), max_drop=0.01)
passed = all(verdict.passed for verdict in verdicts)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
