"""A gate's outcome, as CI systems and people read it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from harness.record.junit import GateCheck, junit_xml, markdown

WORSE = GateCheck("ceval", "acc", 0.62, 0.58, (-0.06, -0.02), 0.00001, 1346, "failed", "drop of 0.0400, 0.0100 allowed")
SAME = GateCheck("cmmlu:lm_eval", "acc_norm", 0.5, 0.51, (-0.01, 0.03), 0.4, 900, "passed")
GONE = GateCheck("gsm8k", "exact_match", 0.3, None, None, None, 0, "skipped", "only in the baseline")


def test_junit_counts_and_tells_each_outcome() -> None:
    root = ET.fromstring(junit_xml([SAME, WORSE, GONE]))
    (suite,) = root
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("skipped")) == (
        "3",
        "1",
        "0",
        "1",
    )
    same, worse, gone = suite
    assert (worse.get("classname"), worse.get("name")) == ("ceval", "acc")
    (failure,) = worse
    assert failure.tag == "failure"
    assert failure.get("message") == "drop of 0.0400, 0.0100 allowed"
    assert failure.text == (
        "baseline 0.6200, current 0.5800, difference -0.0400, 95% interval -0.0600 .. -0.0200, p <0.0001, n 1346"
    )
    assert [child.tag for child in same] == ["system-out"]
    assert [(child.tag, child.get("message")) for child in gone] == [("skipped", "only in the baseline")]


def test_markdown_puts_what_failed_first() -> None:
    lines = markdown([SAME, GONE, WORSE], "runs/old", "runs/new").splitlines()
    assert lines[0] == "## Gate failed: 1 failed, 1 skipped, 1 passed"
    assert lines[2] == "Baseline `runs/old`, current `runs/new`."
    assert lines[6] == (
        "| **failed** | ceval | acc | 0.6200 | 0.5800 | -0.0400 | -0.0600 .. -0.0200 | <0.0001 | 1346 "
        "| drop of 0.0400, 0.0100 allowed |"
    )
    assert lines[7].startswith("| skipped | gsm8k | exact\\_match | 0.3000 | - | - | - | - | 0 |")
    assert lines[8].startswith("| passed | cmmlu:lm\\_eval | acc\\_norm | 0.5000 | 0.5100 | +0.0100 |")


def test_a_gate_without_a_failure_passes() -> None:
    assert markdown([SAME], "a", "b").startswith("## Gate passed: 1 passed\n")
    assert 'failures="0"' in junit_xml([SAME])


@given(st.text(), st.text(), st.text())
def test_no_name_breaks_either_form(task: str, metric: str, reason: str) -> None:
    check = GateCheck(task, metric, 0.5, 0.4, None, None, 3, "failed", reason)
    ((case,),) = ET.fromstring(junit_xml([check]).encode())
    assert case.tag == "testcase"
    table = [line for line in markdown([check], task, metric).split("\n") if line.startswith("| **failed**")]
    assert len(table) == 1
    assert table[0].replace("\\\\", "").replace("\\|", "").count("|") == 11
    assert "<" not in table[0]
