"""DROP's scores: spans in any order, numbers that have to be there, the best of several gold answers."""

from __future__ import annotations

import pytest

from harness import Observation, Response, Sample
from harness_plugins.metrics.drop import DropExactMatch, DropF1, drop_em, drop_f1

NO_DATE = {"day": "", "month": "", "year": ""}
# reply, gold, exact match, F1: what the official script gives.
CASES = [
    (("The 3 touchdowns",), ("3",), 0.0, 0.67),
    (("three",), ("3",), 0.0, 0.0),
    (("3.0",), ("3",), 1.0, 1.0),
    (("Jones", "Smith"), ("Smith", "Jones"), 1.0, 1.0),
    (("Smith",), ("Smith", "Jones"), 0.0, 0.5),
    (("a 45-yard pass", "x"), ("the 45 yard pass",), 0.0, 0.5),
    (("b c", "a b"), ("a b c", "b c d"), 0.0, 0.75),
    ((", pass U.S. O'Neil", "1990"), ("-4 down O'Neil", "三 $5", "3 O'Neil", "an pass"), 0.0, 0.12),
]  # fmt: skip


def seen(reply, first, others=None):
    row = {"answer": first, "validated_answers": others or {"number": [], "date": [], "spans": []}}
    return Observation(Sample("t", "", 0, row, (), None), (Response(text=reply),), (), (reply,))


def gold(**given):
    return {"number": "", "date": NO_DATE, "spans": [], **given}


@pytest.mark.parametrize(("reply", "wanted", "em", "f1"), CASES)
def test_spans_score_as_in_the_official_script(reply, wanted, em, f1):
    assert (drop_em(reply, wanted), drop_f1(reply, wanted)) == (em, f1)


def test_the_best_gold_answer_counts():
    others = {"number": ["4"], "date": [NO_DATE], "spans": [[]]}
    assert DropExactMatch().score(seen("4", gold(number="3"), others)) == 1.0
    assert DropF1().score(seen("May 1990", gold(date={"day": "5", "month": "May", "year": "1990"}))) == 0.8


def test_a_reply_is_one_span_unless_it_may_be_split():
    two = gold(spans=["Smith", "Jones"])
    assert DropExactMatch().score(seen("Smith and Jones", two)) == 0.0
    assert DropExactMatch(split=True).score(seen("Smith and Jones", two)) == 1.0
    assert DropF1(split=True).score(seen("rock and roll", gold(spans=["rock and roll"]))) == 1.0


def test_no_gold_is_no_score_and_no_answer_is_none():
    assert DropF1().score(seen("3", gold())) is None
    assert DropF1().score(seen(None, gold(number="3"))) == 0.0
