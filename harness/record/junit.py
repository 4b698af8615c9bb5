"""What a gate found, for the two readers that a CI has: a JUnit file for its tables, Markdown for its people.

checks = [GateCheck("ceval", "acc", 0.62, 0.58, (-0.06, -0.02), 0.001, 1346, "failed", "drop of 0.0400")]
Path("gate.xml").write_text(junit_xml(checks), encoding="utf-8")
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.record.report import number

# Characters that XML 1.0 does not have, not even as references (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUITE = "harness gate"


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One metric of one task in two runs.

    interval: 95 % interval of current - baseline, paired by sample. outcome: `skipped` where the two cannot be
    compared. reason: why it failed or was skipped, one line.
    """

    task: str
    metric: str
    baseline: float | None
    current: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    n: int
    outcome: Literal["passed", "failed", "skipped"]
    reason: str = ""

    @property
    def difference(self) -> float | None:
        return None if self.baseline is None or self.current is None else self.current - self.baseline


def junit_xml(checks: Sequence[GateCheck]) -> str:
    """A JUnit file: a test case a check, a failure for each that failed, the numbers in its text."""
    count = Counter[str](check.outcome for check in checks)
    totals = {"name": _SUITE, "tests": str(len(checks)), "failures": str(count["failed"]), "errors": "0"}
    suites = ET.Element("testsuites", totals)
    suite = ET.SubElement(suites, "testsuite", {**totals, "skipped": str(count["skipped"])})
    for check in checks:
        case = ET.SubElement(suite, "testcase", classname=_xml(check.task), name=_xml(check.metric), time="0")
        if check.outcome == "failed":
            ET.SubElement(case, "failure", message=_xml(check.reason), type="regression").text = _xml(_numbers(check))
        elif check.outcome == "skipped":
            ET.SubElement(case, "skipped", message=_xml(check.reason))
        else:
            ET.SubElement(case, "system-out").text = _xml(_numbers(check))
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def markdown(checks: Sequence[GateCheck], baseline: str, current: str) -> str:
    """A summary for a pull request: the verdict, then a table with what failed first."""
    count = Counter[str](check.outcome for check in checks)
    order = ("failed", "skipped", "passed")
    verdict = "failed" if count["failed"] else "passed"
    tally = ", ".join(f"{count[outcome]} {outcome}" for outcome in order if count[outcome])
    rows = [_row(check) for check in sorted(checks, key=lambda check: order.index(check.outcome))]
    return "\n".join(
        [
            f"## Gate {verdict}: {tally or 'nothing to check'}",
            "",
            f"Baseline {_code(baseline)}, current {_code(current)}.",
            "",
            "| | task | metric | baseline | current | difference | 95% interval | p | n | |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|---|",
            *rows,
            "",
        ]
    )


def _row(check: GateCheck) -> str:
    cells = [
        f"**{check.outcome}**" if check.outcome == "failed" else check.outcome,
        _cell(check.task),
        _cell(check.metric),
        number(check.baseline),
        number(check.current),
        _signed(check.difference),
        _interval(check),
        p_value(check.p_value),
        str(check.n),
        _cell(check.reason),
    ]
    return f"| {' | '.join(cells)} |"


def _numbers(check: GateCheck) -> str:
    return (
        f"baseline {number(check.baseline)}, current {number(check.current)}, difference {_signed(check.difference)}, "
        f"95% interval {_interval(check)}, p {p_value(check.p_value)}, n {check.n}"
    )


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
