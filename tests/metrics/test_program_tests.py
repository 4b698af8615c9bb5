"""Programs against test cases: what they print for an input, what they return when called."""

from __future__ import annotations

import base64
import json
import pickle
import zlib

import pytest
from sandboxed import needs_sandbox

from harness import Observation, Response, Sample
from harness_plugins.metrics.program_tests import PassesTests, cases_of, same_output

SUM = [{"input": "3\n1 2 3\n", "output": "6\n", "testtype": "stdin"}, {"input": "1\n5", "output": "5"}]
CALL = [{"input": "[1, 2]\n3", "output": "[4, 5]", "testtype": "functional"}]


def packed(value):
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def score(row, *replies, **options):
    seen = Observation(Sample("t", "", 0, row, (), None), tuple(Response(text=reply) for reply in replies), (), replies)
    return PassesTests(**options).score(seen)


@needs_sandbox
@pytest.mark.parametrize(
    "program",
    [
        "n = int(input())\nprint(sum(map(int, input().split())))",
        "import sys\nif __name__ == '__main__':\n    print(sum(map(int, sys.stdin.buffer.read().split()[1:])))",
        "print(sum(map(int, open(0).read().split()[1:])), end='.0  ')",  # equal as a number
        "total = 0\ndef add(x):\n    global total\n    total += int(x)\ninput()\n[add(x) for x in input().split()]\n"
        "sys.stdout.buffer.write(str(total).encode())\nexit()",
    ],
)
def test_a_program_that_prints_what_it_must_passes(program):
    assert score({"tests": SUM}, program) == 1.0


@needs_sandbox
@pytest.mark.parametrize(
    "program",
    ["print(6)", "print(6)\nprint()\nprint(6)", "sum of all", "raise ValueError", "while True: pass", "os._exit(0)"],
)
def test_a_program_that_does_not_fails(program):
    assert score({"tests": SUM}, program, timeout=1) == 0.0


@needs_sandbox
def test_a_function_is_called_with_an_argument_a_line():
    row = {"public": [], "hidden": packed(json.dumps(CALL)), "metadata": '{"func_name": "shift"}'}
    method = "class Solution:\n    def shift(self, xs: List[int], by):\n        return tuple(x + by for x in xs)"
    plain = "def shift(xs, by):\n    return xs"
    options = {"tests": ["public", "hidden"], "function": "metadata.func_name"}
    assert score(row, method, plain, None, method, **options) == 0.5


@needs_sandbox
def test_a_task_without_a_functions_name_prints():
    options = {"tests": "tests", "function": "metadata.func_name"}
    assert (
        score({"tests": json.dumps(SUM), "metadata": "{}"}, "input()\nprint(sum(map(int, input().split())))", **options)
        == 1
    )


def test_tests_come_in_several_forms():
    assert cases_of({"inputs": [["1", "2"]], "outputs": ["3\n"]}) == [("1\n2", "3\n")]
    assert cases_of(json.dumps(CALL)) == cases_of(packed(json.dumps(CALL))) == [("[1, 2]\n3", "[4, 5]")]
    assert cases_of(None) == cases_of("") == []


def test_a_pickle_that_is_no_text_is_not_opened():
    with pytest.raises(ValueError, match=r"builtins\.print"):
        cases_of(packed(print))


def test_what_is_printed_may_be_no_number_at_all():
    # The last kind of NaN raises where it is compared: the script counts it as wrong.
    assert [same_output(printed, "1") for printed in ("1.0", "nan", "sNaN", "１")] == [True, False, False, True]


def test_a_row_without_tests_is_not_scored():
    assert score({"tests": []}, "print(6)") is None
