"""What program is read from a reply: a table, and any text."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring import fenced_blocks, program_in

TABLE = yaml.safe_load((Path(__file__).parent / "code_replies.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["say"]) for case in TABLE])
def test_the_program_of_a_reply(case):
    assert program_in(case["reply"], case.get("name", "f")) == case["program"]


@settings(max_examples=80, derandomize=True, deadline=None)
@given(st.text(st.sampled_from(list("`~>-1. \n\tdef:f(x)=#'\"\\éimport")), max_size=200))
def test_any_reply_is_read(reply):
    fenced_blocks(reply)
    program_in(reply, "f")
    program_in(reply)


@pytest.mark.parametrize(
    "reply",
    ["```" * 5000, "`" * 20000, "```\n" * 5000, "def f(x):\n" * 5000, "(" * 20000, "> " * 20000, "x = 1\n" * 20000],
)
def test_a_reply_without_sense_costs_little(reply):
    program_in(reply, "f")
