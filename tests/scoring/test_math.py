from __future__ import annotations

import os
import signal
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import Observation, Sample, Undecided, limited
from harness.limited import LimitedWorker
from harness.scoring import math_equal, same_code
from harness.scoring.math import equality
from harness.scoring.math.normalise import prepare, rational
from harness.scoring.math.parser import Bracketed, Collection, MathSyntaxError, Relation, parse
from harness_plugins.metrics.math import CodeEqual, MathEqual

QUICK = settings(max_examples=60, derandomize=True, deadline=None)
TABLE = yaml.safe_load((Path(__file__).parent / "equalities.yaml").read_text(encoding="utf-8"))
MIRROR = Path(__file__).parents[2].parent / "shared" / "mirror"


def test_equal_or_not():
    told = [(row, math_equal(row[0], row[1]), math_equal(row[1], row[0])) for row in TABLE]
    assert [each for each in told if each[1] is not each[0][2] or each[2] is not each[0][2]] == []


@pytest.mark.slow
@pytest.mark.parametrize("bomb", ["9**9**9", "2**(10**10)", "((((((x+y)^9+1)^9+1)^9+1)^9+1)^9+1)^9"])
def test_an_endless_comparison_is_undecided_and_the_next_one_works(bomb):
    with pytest.raises(Undecided, match=r"no result within 0\.5 s of processor time"):
        math_equal(bomb, "x+1", seconds=0.5)
    assert math_equal("(x+1)^2", "x^2+2x+1") is True


def test_a_machine_that_gives_no_time_changes_no_verdict():
    """The process that compares stands still for longer than its limit: what it says afterwards is right."""
    assert math_equal("x", "x+1") is False  # it runs
    worker = equality._worker._process
    os.kill(worker.pid, signal.SIGSTOP)
    threading.Timer(0.6, os.kill, (worker.pid, signal.SIGCONT)).start()
    assert math_equal("|x|", r"\sqrt{x^2}", seconds=0.5) is True


def test_a_process_that_dies_is_started_again():
    assert math_equal("x", "x+1") is False
    os.kill(equality._worker._process.pid, signal.SIGKILL)
    assert math_equal("|x|", r"\sqrt{x^2}") is True


def test_what_cannot_be_told_is_undecided(monkeypatch):
    worker = LimitedWorker("no.such.module", "compares mathematics")
    with pytest.raises(Undecided, match="does not start"):
        worker.ask({}, 1.0)
    monkeypatch.setattr(limited, "_PATIENCE", 1.0)
    monkeypatch.setattr(limited, "_LEAST_PATIENCE", 0.2)
    assert math_equal("x", "x+1") is False
    os.kill(equality._worker._process.pid, signal.SIGSTOP)
    with pytest.raises(Undecided, match="too busy"):
        math_equal("x+x", "2x+1", seconds=0.1)


@pytest.mark.parametrize("part", ["三", "1万", "万", "3个苹果", "分之", "1,", "5 cm ", "⁰", "k\\in", "\\text{", "1'"])
def test_a_long_answer_is_prepared_at_once(part):
    began = time.process_time()
    prepare(part * (2000 // len(part)))
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch pwned')",
        "().__class__",
        "lambda: 0",
        "exec('1')",
        "x=__import__('os')",
        "[i for i in 1]",
    ],
)
def test_code_is_no_mathematics(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert math_equal(text, "1") is False
    assert list(tmp_path.iterdir()) == []


def test_tolerance_and_percent_are_asked_for():
    assert math_equal("3.14", r"\pi") is False
    assert math_equal("3.14", r"\pi", tolerance=1e-3) is True
    assert math_equal("3.2", r"\pi", tolerance=1e-3) is False
    assert math_equal("70005", "70000", tolerance=1e-4) is True
    assert math_equal("3.14", r"\pi", absolute=0.01) is True
    assert math_equal("3.1", r"\pi", absolute=0.01) is False
    assert math_equal("2.95, 10", "10, 3", absolute=0.1) is True
    assert math_equal("15.06", "15.1", absolute=0.05) is True
    assert math_equal("x+0.001", "x", absolute=0.01) is False  # it is of numbers
    assert math_equal("50%", "50") is False
    assert math_equal("50%", "50", percent=True) is True
    assert math_equal("5", "50", percent=True) is False


@QUICK
@given(st.fractions(max_denominator=500), st.fractions(max_denominator=500))
def test_fractions_are_equal_exactly_when_they_are(first, second):
    latex = rf"\frac{{{first.numerator}}}{{{first.denominator}}}"
    assert math_equal(latex, f"{second.numerator}/{second.denominator}") is (first == second)
    assert rational(f"{first.numerator}/{first.denominator}") == first


@QUICK
@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**9), max_value=10**9))
def test_decimals_are_read_exactly(value):
    assert rational(f"{value:,}") == rational(str(value)) == Fraction(value)


@QUICK
@given(st.text(st.sampled_from(list(r"0123456789xyabei+-*/^!%=<>|(){}[]\_&,.; πfracsqt√∞三个")), max_size=25))
def test_any_text_is_read_or_refused(text):
    try:
        assert math_equal(text, "x + 1") in (True, False)
    except Undecided as error:
        assert "processor time" in str(error)  # a tower of powers


def test_what_the_parser_returns():
    assert parse("[1, 2)") == Bracketed("[", ")", (1, 2))
    assert parse(r"\lbrace 1, 2 \rbrace") == Collection("set", (1, 2))
    assert isinstance(parse("1 < x"), Relation)
    assert parse(r"2^{10}") == 1024
    with pytest.raises(MathSyntaxError, match="unknown command"):
        parse(r"\unknown{1}")


def test_all_gold_answers_of_a_hard_benchmark_can_be_read():
    files = sorted((MIRROR / "github" / "RUCAIBox" / "OlymMATH" / "data").glob("*.jsonl"))
    if not files:
        pytest.skip("runs where the rows lie beside the project")
    golds = [yaml.safe_load(line)["answer"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(golds) == 200
    for gold in golds:
        parse(prepare(gold)[0])


def seen(target, *answers):
    return Observation(Sample("t", "", 0, {}, (), target), (), (), answers)


def test_as_metrics():
    assert MathEqual().score(seen(("1/2", "2"), "0.5", "3", None, "2.0")) == 0.5
    assert MathEqual().score(seen(None, "1")) is None
    endless = MathEqual(seconds=0.3)
    assert endless.score(seen(("9**9**9", "2"), "2.0")) == 1.0  # one gold is enough, whatever the others are
    with pytest.raises(Undecided):
        endless.score(seen(("9**9**9", "3"), "2.0 + x"))
    assert MathEqual(tolerance=0.01).score(seen("100", "100.5")) == 1.0
    row = Observation(Sample("t", "", 0, {"error": "1e-2,1e-1"}, (), "3"), (), (), ("3.05", "3.2"))
    assert MathEqual(error="error").score(row) == 0.5
    assert MathEqual(error="none").score(row) == 0.0
    wrong = Observation(Sample("t", "", 0, {"error": "small"}, (), "3"), (), (), ("3",))
    with pytest.raises(ValueError, match="the row's error 'small' is no number"):
        MathEqual(error="error").score(wrong)
    assert CodeEqual().score(seen("x = 1", "x=1  # one")) == 1.0
    assert CodeEqual(rename=True).score(seen("def f(a): return a", "def f(b): return b")) == 1.0
    with pytest.raises(ValueError, match="must be positive"):
        MathEqual(seconds=0)


@pytest.mark.parametrize(
    ("first", "second", "same", "renamed"),
    [
        ("x=1", "x = 1  # one", True, True),
        ('print("a")', "print('a')", True, True),
        ("def f(a):\n  '''doc'''\n  return a+1", "def f(a):\n    return a + 1", True, True),
        ("```python\nx = 1\n```", "x = 1", True, True),
        ("def f(a): return a + k", "def f(b): return b + k", False, True),
        ("a - b", "b - a", False, False),
        ("def f(a): return a", "def g(a): return a", False, False),
        ("x = ", "x = ", False, False),
        ("(" * 5000 + ")" * 5000, "()", False, False),
    ],
)
def test_programs_are_compared_as_trees(first, second, same, renamed):
    assert same_code(first, second) is same
    assert same_code(first, second, rename=True) is renamed
