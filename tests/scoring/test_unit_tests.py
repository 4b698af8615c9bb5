"""Unit tests in the program's own process: right programs pass, and what claims to have passed does not."""

from __future__ import annotations

import random

import pytest
from sandboxed import needs_sandbox

from harness.scoring import sandbox
from harness.scoring.sandbox import Limits, Program, run_program
from harness.scoring.sandbox.unit_tests import altered

TESTS = """
import unittest
from unittest.mock import patch

class TestCases(unittest.TestCase):
    def test_values(self):
        self.assertEqual(task_func([3, 1, 2]), ([1, 2, 3], 6))
        self.assertAlmostEqual(task_func([0.5, 0.25])[1], 0.75, places=6)

    @patch("time.time", return_value=12.5)
    def test_patched(self, clock):
        expected = 12.5
        self.assertEqual(task_func([])[1], expected)
        clock.assert_called_once()

    def test_errors(self):
        with self.assertRaises(TypeError):
            task_func(None)

    def test_kind(self):
        result = task_func([1])
        self.assertIsInstance(result, tuple)
        self.assertTrue(len(result) == 2)
"""
REFERENCE = """
import time

def task_func(numbers):
    if numbers is None:
        raise TypeError("numbers are needed")
    return sorted(numbers), sum(numbers) or time.time()
"""
ALWAYS = """
class Always(tuple):
    def __new__(cls, *a): return tuple.__new__(cls, (1, 2))
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __getitem__(self, place): return Always()
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
    def __round__(self, n=0): return 0.0
    def __abs__(self): return 0.0
"""
EMPTY = """
def task_func(numbers):
    import time
    if numbers is None: raise TypeError
    time.time()
    return [], 0
"""
# Each claims to pass without having sorted or summed anything.
FAKES = {
    "assertions that hold": """
import contextlib, unittest
for name in dir(unittest.TestCase):
    if name.startswith("assert"):
        setattr(unittest.TestCase, name, lambda self, *a, **k: contextlib.nullcontext())
def task_func(numbers):
    import time
    if numbers is not None: return time.time(), 0
""",
    "equal to all": ALWAYS + EMPTY.replace("[], 0", "Always()"),
    "a run that succeeds": """
import unittest
def run(self, result=None):
    result.startTest(self), result.addSuccess(self), result.stopTest(self)
    return result
unittest.TestCase.run = run
""",
    "no failure is noted": """
import unittest
unittest.TestResult.addFailure = unittest.TestResult.addError = lambda self, test, error: None
""",
    "the verdict is printed": """
import json, os, sys
frame = sys._getframe()
while "mark" not in frame.f_globals: frame = frame.f_back
names = ["test_values", "test_patched", "test_errors", "test_kind"]
print("\\n" + frame.f_globals["mark"] + json.dumps([names, 0]), flush=True)
os._exit(0)
""",
    "expected values from the caller": """
import sys, time
def task_func(numbers):
    if numbers is None: raise TypeError
    time.time()
    frame = sys._getframe(1)
    if "expected" in frame.f_locals: return [], frame.f_locals["expected"]
    known = [one for one in frame.f_code.co_consts if isinstance(one, float) and one not in numbers]
    return ([1, 2, 3], 6) if numbers == [3, 1, 2] else ([], known[0] if known else 1)
""",
    "an early end": "raise SystemExit(0)\n",
    "wrong": EMPTY,
}


def outcome(text: str, tests: str = TESTS, reference: str = REFERENCE) -> sandbox.ProgramOutcome:
    return run_program(Program(text, tests, reference=reference), Limits(seconds=20))


@needs_sandbox
@pytest.mark.parametrize("fake", FAKES)
def test_what_claims_to_have_passed_does_not_pass(fake: str) -> None:
    found = outcome(FAKES[fake])
    assert (found.passed, found.decided) == (False, True), fake


@needs_sandbox
def test_a_right_program_of_another_make_passes() -> None:
    text = """
import math
from __future__ import annotations
import time as clock

def task_func(numbers: list[float]):
    total = 0
    for number in numbers: total += number
    return sorted(list(numbers)), total if numbers else clock.time()

if __name__ == "__main__":
    exit(3)
"""
    assert outcome(text).passed


@needs_sandbox
def test_tests_that_their_reference_fails_decide_nothing() -> None:
    found = outcome(REFERENCE, reference="def task_func(numbers): return 1\n")
    assert (found.passed, found.decided) == (False, False)
    assert "the reference solution fails these tests" in found.reason


def test_an_altered_version_says_something_else_in_the_tests_that_it_names_alone() -> None:
    for seed in range(30):
        text, names = altered(TESTS, random.Random(seed))
        changed = {
            name
            for name, old, new in zip(
                ("test_values", "test_patched", "test_errors", "test_kind"),
                TESTS.split("def test_")[1:],
                text.split("def test_")[1:],
                strict=True,
            )
            if "".join(old.split()).replace('"', "'").split("@")[0] != "".join(new.split()).split("@")[0]
        }
        assert names and changed == names


def test_no_test_is_left_alone_in_all_versions() -> None:
    for seed in range(30):
        for name in ("test_values", "test_patched"):
            _, names = altered(TESTS, random.Random(seed), frozenset({name}))
            assert names >= {"test_values", "test_patched", "test_errors", "test_kind"} - {name}
