"""Patterns of task files: what they find is what `re` finds, and none of them holds up a run."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Observation, Sample, Undecided, patterns
from harness.patterns import find_all, replace_all
from harness.scoring import Scorer
from harness.types import FilterPipeline, FilterStep, MetricSpec, Response, ScoringSpec
from harness_plugins.filters.patterns import FindAll, FirstPattern
from harness_plugins.filters.text import Regex
from harness_plugins.metrics.text import ExactMatch

SAMPLE = Sample("t", "", 0, {}, (), "x")
ENDLESS = ["(a+)+b", "(a|aa)+$", "(a*)*c", r"(\w+\s?)*;", "(.*)*x", r"^(([a-z])+.)+[A-Z]([a-z])+$"]


@pytest.mark.parametrize(
    "pattern", [*ENDLESS[:2], *(pytest.param(each, marks=pytest.mark.slow) for each in ENDLESS[2:])]
)
def test_a_search_without_end_is_undecided_and_names_its_limit(pattern, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.4)
    began = time.monotonic()
    with pytest.raises(Undecided, match=r"pattern '.*' on a text of 60 characters: no result within 0\.4 s"):
        find_all(re.compile(pattern), "a" * 59 + "!")
    with pytest.raises(Undecided):
        replace_all(re.compile(pattern), "", "a" * 59 + "!")
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        r"#### (\-?[0-9\.\,]+)",
        "(-?[$0-9.,]{2,})|(-?[0-9]+)",
        "(?s).*#### ",
        r"a*b*c*d*",
        r"(?i:x)+",
        "[]a]+",
        r"\(+",
    ],
)
@pytest.mark.parametrize("text", ["", "aab ab", "#### 12,5 and $3.00", "xX((a]", "b" * 400])
def test_what_is_found_is_what_re_finds(pattern, text):
    compiled = re.compile(pattern)
    assert find_all(compiled, text) == compiled.findall(text)
    assert replace_all(compiled, "<>", text, 1) == compiled.sub("<>", text, 1)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.text(st.sampled_from(list("ab()|*+?[]\\{2,}^$.")), max_size=8), st.text("ab(", max_size=12))
def test_any_pattern_is_searched_alike(pattern, text):
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError):
        return
    assert find_all(compiled, text) == compiled.findall(text)


def test_a_quick_pattern_needs_no_process(monkeypatch):
    monkeypatch.setattr(patterns, "_ask", lambda *_: pytest.fail("a process was asked"))
    assert find_all(re.compile(r"#### (\-?[0-9\.\,]+)"), "x" * 5000 + "#### 12") == ["12"]
    assert find_all(re.compile("(-?[$0-9.,]{2,})|(-?[0-9]+)"), "$12.50 " * 500)[0] == ("$12.50", "")


@pytest.mark.parametrize("step", [Regex("(a+)+b"), FirstPattern(["((?:a+)+)b"]), FindAll("(?:a+)+b")])
def test_a_filter_without_end_fails_its_sample(step, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.3)
    with pytest.raises(Undecided):
        step.apply(["a" * 60], SAMPLE)
    assert step.apply(["nothing"], SAMPLE) == [None]


def test_the_sample_is_an_error_and_no_zero(monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.3)
    spec = ScoringSpec(
        "generate_until",
        (MetricSpec("exact_match"),),
        (FilterPipeline("p", (FilterStep("regex", {"regex_pattern": "(a+)+b"}),)),),
    )
    scorer = Scorer(spec, lambda name: ExactMatch, lambda name: Regex)
    scored = scorer.score(SAMPLE, [Response(text="a" * 60)])
    assert scored.scores == {"exact_match": None}
    assert "filter regex: Undecided: pattern '(a+)+b'" in scored.error
    with pytest.raises(Undecided):
        ExactMatch(regexes_to_ignore="(a+)+b").score(Observation(SAMPLE, (), (), ("a" * 60,)))


@pytest.mark.parametrize(
    ("pattern", "replacement"), [("", "b" * 99_999), ("a", "b" * 99_999), ("(?=(a*))", r"\1"), ("a", r"\g<0>" * 99_999)]
)
def test_a_replacement_that_grows_without_end_is_not_made(pattern, replacement):
    with pytest.raises(Undecided, match="may give more than 100,000,000 characters"):
        replace_all(re.compile(pattern), replacement, "a" * 20_000)


def test_a_replacement_in_a_long_text_is_made():
    assert replace_all(re.compile("(a)(b)"), r"\2\1", "ab" * 50_000) == "ba" * 50_000
    assert replace_all(re.compile(""), "b" * 99_999, "a" * 20_000, count=1) == "b" * 99_999 + "a" * 20_000
