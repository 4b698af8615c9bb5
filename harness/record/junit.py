"""What a gate found, for the two readers that a CI has: a JUnit file for its tables, Markdown for its people.

checks = [GateCheck("ceval", "acc", 0.62, 0.58, (-0.06, -0.02), 0.001, 1346, "failed", "drop of 0.0400")]
Path("gate.xml").write_text(junit_xml(checks), encoding="utf-8")
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from harness.quick import dataclass
from harness.record.result_rows import number
from harness.words import Translate, english

# Characters that XML 1.0 does not have, not even as references (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUITE = "harness gate"


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One metric of one task in two runs.

    interval: 95 % interval of current - baseline, paired by sample. outcome: `skipped` where the two cannot be
    compared, `warned` where a failure stops nothing. reason: why, one line. tier: of the policy's rule, where there is
    one. against: which baseline, where there are several. steps: how the outcome came about, a line each.
    """

    task: str
    metric: str
    baseline: float | None
    current: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    n: int
    outcome: Literal["passed", "failed", "warned", "skipped"]
    reason: str = ""
    tier: str = ""
    against: str = ""
    steps: tuple[str, ...] = ()

    def label(self, t: Translate = english) -> str:
        """What was checked, in words: `critical: ceval: acc, against runs/A`."""
        return ": ".join(filter(None, (self.tier, self.task, self.metric_against(t))))

    def metric_against(self, t: Translate = english) -> str:
        """The metric, and which baseline it is of where there are several."""
        return self.metric + (t(", against {run}", run=self.against) if self.against else "")

    @property
    def difference(self) -> float | None:
        return None if self.baseline is None or self.current is None else self.current - self.baseline


def junit_xml(checks: Sequence[GateCheck], t: Translate = english) -> str:
    """A JUnit file: a test case a check, a failure for each that failed, the numbers in its text."""
    count = Counter[str](check.outcome for check in checks)
    totals = {"name": _SUITE, "tests": str(len(checks)), "failures": str(count["failed"]), "errors": "0"}
    suites = ET.Element("testsuites", totals)
    suite = ET.SubElement(suites, "testsuite", {**totals, "skipped": str(count["skipped"] + count["warned"])})
    for check in checks:
        against = t("against {run}", run=check.against) if check.against else ""
        name = ", ".join(filter(None, (check.metric, check.tier, against)))
        case = ET.SubElement(suite, "testcase", classname=_xml(check.task), name=_xml(name), time="0")
        if check.outcome == "failed":
            ET.SubElement(case, "failure", message=_xml(check.reason), type="regression").text = _xml(
                _numbers(check, t)
            )
        elif check.outcome in ("skipped", "warned"):  # a CI takes any failure for one that stops
            said = check.reason if check.outcome == "skipped" else t("warning: {reason}", reason=check.reason)
            ET.SubElement(case, "skipped", message=_xml(said))
        else:
            ET.SubElement(case, "system-out").text = _xml(_numbers(check, t))
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def markdown(checks: Sequence[GateCheck], baseline: str, current: str, t: Translate = english) -> str:
    """A summary for a pull request: the verdict, then a table with what failed first."""
    count = Counter[str](check.outcome for check in checks)
    order = ("failed", "warned", "skipped", "passed")
    tally = t(", ").join(f"{count[outcome]} {t(outcome)}" for outcome in order if count[outcome])
    tally = tally or t("nothing to check")
    verdict = t("Gate failed: {tally}", tally=tally) if count["failed"] else t("Gate passed: {tally}", tally=tally)
    has_tiers = any(check.tier for check in checks)
    rows = [_row(check, t, tier=has_tiers) for check in sorted(checks, key=lambda check: order.index(check.outcome))]
    named = [t("task"), t("metric"), t("baseline"), t("current"), t("difference"), t("95% interval"), "p", "n"]
    return "\n".join(
        [
            f"## {verdict}",
            "",
            t("Baseline {baseline}, current {current}.", baseline=_code(baseline), current=_code(current)),
            "",
            f"| | {' | '.join([*([t('tier')] if has_tiers else []), *named])} | |",
            f"|---|{'---|' if has_tiers else ''}---|---|---:|---:|---:|---:|---:|---:|---|",
            *rows,
            "",
        ]
    )


def github_annotations(checks: Sequence[GateCheck], t: Translate = english) -> Iterator[str]:
    """Workflow commands of GitHub Actions: an error for what failed, a warning for what stops nothing.

    https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    """
    for check in checks:
        if check.outcome in ("failed", "warned"):
            kind = "error" if check.outcome == "failed" else "warning"
            yield f"::{kind} title={_property(f'gate: {check.label(t)}')}::{_command_text(check.reason)}"


def _command_text(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _command_text(text).replace(":", "%3A").replace(",", "%2C")


def _row(check: GateCheck, t: Translate, *, tier: bool) -> str:
    cells = [
        f"**{t(check.outcome)}**" if check.outcome == "failed" else t(check.outcome),
        *([_cell(check.tier)] if tier else []),
        _cell(check.task),
        _cell(check.metric_against(t)),
        number(check.baseline),
        number(check.current),
        _signed(check.difference),
        _interval(check),
        p_value(check.p_value),
        str(check.n),
        _cell(check.reason),
    ]
    return f"| {' | '.join(cells)} |"


def _numbers(check: GateCheck, t: Translate) -> str:
    return t(
        "baseline {baseline}, current {current}, difference {difference}, 95% interval {interval}, p {p}, n {n}",
        baseline=number(check.baseline), current=number(check.current), difference=_signed(check.difference),
        interval=_interval(check), p=p_value(check.p_value), n=check.n,
    )  # fmt: skip


def _signed(value: float | None) -> str:
    return number(value) if value is None or value < 0 else f"+{number(value)}"


def _interval(check: GateCheck) -> str:
    return f"{_signed(check.interval[0])} .. {_signed(check.interval[1])}" if check.interval else "-"


def p_value(value: float | None) -> str:
    """A p-value as text. It is never 0, so a small one is not shown as that."""
    return "-" if value is None else "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _cell(text: str) -> str:
    """Text that can neither end a cell of a Markdown table nor become HTML."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|`*_\[\]~])", r"\\\1", plain)


def _code(text: str) -> str:
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"
