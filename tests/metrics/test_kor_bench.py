"""KOR-Bench's rules of equality, on answers for which the authors' script says the same (eval/eval_utils.py)."""

from __future__ import annotations

import pytest

from harness import Observation, Response, Sample
from harness_plugins.metrics.kor_bench import KorBenchAcc, KorBenchAnswer


def score(kind, gold, reply, rule="99", idx="1"):
    sample = Sample("t", "", 0, {"rule_id": rule, "idx": idx}, (), gold, subset_fields={"kind": kind})
    answers = tuple(KorBenchAnswer().apply([reply], sample))
    return KorBenchAcc().score(Observation(sample, (Response(text=reply),), (), answers))


@pytest.mark.parametrize(
    ("kind", "gold", "reply", "right"),
    [
        ("cipher", "[[HELLO]]", "It is [[ H E L L O ]].", 1),
        ("cipher", "[[HELLO]]", "$\\boxed{HELLO}$", 1),
        ("cipher", "[[HELLO]]", "[[hello]]", 0),
        ("cipher", "[[HELLO]]", "HELLO", 0),
        ("counterfactual", "[[C]]", "[C]", 1),
        ("logic", "[[p1&p2];[p3]]", "[[p1 & p2];[p3.]]", 1),
        ("operation", "[[3or4]]", "[[4 or 3]]", 1),
        ("operation", "[[3or4]]", "[[3]]", 0),
        ("puzzle", "[[12 6,8 1]]", "[[12, 6, 8, 1]]", 1),
        ("puzzle", "[[12 6,8 1]]", "[12 6 8 1]", 0),
    ],
)
def test_an_answer_stands_in_brackets_and_white_space_does_not_count(kind, gold, reply, right):
    assert score(kind, gold, reply) == right


@pytest.mark.parametrize(
    ("rule", "gold", "reply", "right"),
    [
        ("1", "[[Apple]]", "[[a-p-p-l-e]]", 1),
        ("2", "[[t,tal]]", "[[tal]]", 1),
        ("3", "[[nine ten]]", "[[ten, Nine]]", 1),
        ("4", "[[scape capes]]", "[[capes]]", 1),
        ("5", "[[a1,b2]]", "[[b2, a1]]", 1),
        ("9", "[[6/2+1=4]]", "[[8/4+2=4]]", 1),
        ("9", "[[6/2+1=4]]", "[[1+6/2=4]]", 0),
        ("9", "[[6/2+1=4]]", "[[__import__('os')/2+1=4]]", 0),
        ("10", "[[4×(7-1)×1=24]]", "[[(7−1)×4×1=24]]", 1),
        ("10", "[[4×(7-1)×1=24]]", "[[4×7-1×1=24]]", 0),
        ("18", "[[[1,2],[3,4]]]", "[[1 2 3 4]]", 1),
    ],
)
def test_puzzles_have_rules_of_their_own(rule, gold, reply, right):
    assert score("puzzle", gold, reply, rule=rule) == right


def test_formulas_are_compared_as_mathematics():
    assert score("operation", "[[5+5i]]", "[[$5i+5$]]", idx="121") == 1
    assert score("operation", "[[-6+\\sqrt{22}or-6-\\sqrt{22}]]", "[[-6-\\sqrt{22} or \\sqrt{22}-6]]", idx="18") == 1
    assert score("operation", "[[{x∣x≤0 or x≥1}]]", "[[x ≥ 1, x ≤ 0]]", idx="178") == 1
