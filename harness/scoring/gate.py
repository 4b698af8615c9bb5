"""Decides whether a run may replace another: no task worse than allowed, beyond what chance explains.

verdicts = gate(correct_for_many([compare(...), ...]), max_drop=0.01)
passed = all(verdict.passed for verdict in verdicts)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from harness.scoring.compare import Comparison

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
    if comparison.difference is None:
        return Verdict(comparison, "no data", "the runs share no scored sample")
    drop = -comparison.difference if comparison.higher_is_better else comparison.difference
    p_value = comparison.p_value if comparison.adjusted_p is None else comparison.adjusted_p
    if drop <= max_drop:
        return Verdict(comparison, "not worse", f"{_change(comparison)}; a drop of {max_drop:g} is allowed")
    chance = "no test was possible" if p_value is None else f"p = {p_value:.3g}"
    if p_value is not None and p_value < alpha:
        return Verdict(comparison, "regression", f"{_change(comparison)}, more than {max_drop:g} worse; {chance}")
    seen = "" if comparison.detectable is None else f"; a difference below {comparison.detectable:.3g} would not show"
    return Verdict(comparison, "unclear", f"{_change(comparison)}, but chance could do that: {chance}{seen}")


def _change(comparison: Comparison) -> str:
    return f"{comparison.first:.4g} -> {comparison.second:.4g} ({comparison.difference:+.4g}, n = {comparison.n})"


def junit(verdicts: Sequence[Verdict], suite: str = "harness gate") -> str:
    """The verdicts as JUnit XML: a test case a comparison, a failure a regression."""
    failed = [verdict for verdict in verdicts if not verdict.passed]
    root = ElementTree.Element("testsuite", name=suite, tests=str(len(verdicts)), failures=str(len(failed)))
    for verdict in verdicts:
        case = ElementTree.SubElement(root, "testcase", classname=suite, name=verdict.comparison.name)
        if not verdict.passed:
            ElementTree.SubElement(case, "failure", message=verdict.reason, type=verdict.finding)
        else:
            ElementTree.SubElement(case, "system-out").text = verdict.reason
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table, for a pull request."""
    lines = [
        "| task | baseline | current | difference | 95 % interval | p | n | finding |",
        "|---|---:|---:|---:|---|---:|---:|---|",
    ]
    for verdict in verdicts:
        item = verdict.comparison
        p_value = item.p_value if item.adjusted_p is None else item.adjusted_p
        interval = "" if item.interval is None else f"{item.interval[0]:+.4g} to {item.interval[1]:+.4g}"
        numbers = [_number(item.first), _number(item.second), _number(item.difference, "+"), interval, _number(p_value)]
        name = item.name.replace("|", "\\|")
        lines.append(f"| {name} | {' | '.join(numbers)} | {item.n} | {verdict.finding} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4g}"
