"""Programs that do not solve their task and try to pass all the same, each in a way of its own. None may.

And right programs of the kinds that a sandbox may get wrong: all of them pass.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from sandboxed import needs_sandbox

from harness.scoring import sandbox
from harness.scoring.sandbox import Limits, Program, execute

FAKES = yaml.safe_load((Path(__file__).parent / "fakes.yaml").read_text(encoding="utf-8"))
RIGHT = yaml.safe_load((Path(__file__).parent / "right_programs.yaml").read_text(encoding="utf-8"))

PROMPT = 'import math\n\ndef f(number):\n    """Return what nobody can guess."""\n'
# As the tests of public benchmarks are written: bare, in a function that gets the candidate, in a class.
TESTS = {
    "bare": "assert f(3) == 871\nassert abs(f(4) - 872.5) < 1e-6\nassert f(5) == [1, (2, 'x'), {'y': 873}]\n",
    "close": "assert abs(f(4) - 872.5) < 1e-6\nassert math.isclose(f(6), 1e9 + 0.5)\n",
    "check": "def check(candidate):\n    for given, wanted in [(3, 871), (7, 'an answer'), (8, None), (9, True)]:\n"
    "        assert candidate(given) == wanted, (given, wanted)\n\ncheck(f)\n",
    "unittest": "import unittest\n\nclass T(unittest.TestCase):\n    def test_it(self):\n"
    "        self.assertEqual(f(3), 871)\n        self.assertAlmostEqual(f(4), 872.5)\n"
    "        self.assertIn(4711, f(5))\n        self.assertTrue(f(6) == 12)\n\nunittest.main()\n",
}

ALWAYS = """
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return 0.0
    __rsub__ = __add__ = __radd__ = __sub__
    def __abs__(self): return 0.0
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __bool__(self): return True
    def __hash__(self): return 0
    def __contains__(self, item): return True
    def __float__(self): return 872.5
    def __round__(self, n=0): return Always()
    def __getattr__(self, name): return Always()
    def __call__(self, *a, **k): return Always()
    def __instancecheck__(self, other): return True
    def __subclasscheck__(self, other): return True
"""

# What of the tests or of the verdict a program might find, once it has a text, a number or an object of them.
SPEAK = """
import os
def speak(word="passed"):
    for number in range(0, 64):
        for text in (f"{word}\\n", f"ready\\n{word} 0\\n", "passed \\n"):
            try: os.write(number, text.encode())
            except OSError: pass
"""


# Every sixth of those that do not wait until their time is over.
OFTEN = [name for name in FAKES if name not in ("the signal of no time", "stop the parent", "files of the tests")][::6]


@needs_sandbox
@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in FAKES]
)
def test_no_fake_passes(name):
    text = FAKES[name].replace("SPEAK\n", SPEAK)
    if always := re.match(r"ALWAYS\((\w*)\)\n", text):
        text = ALWAYS.replace("class Always:", f"class Always({always[1]}):") + text[always.end() :]
    program = f"{PROMPT}    return None\n\n{text}"
    limits = Limits(seconds=1, patience=2)
    outcomes = sandbox.run_programs([Program(program, tests, PROMPT) for tests in TESTS.values()], limits)
    for form, outcome in zip(TESTS, outcomes, strict=True):
        assert (outcome.passed, outcome.decided) == (False, True), (form, outcome)


@needs_sandbox
@pytest.mark.parametrize("name", RIGHT)
def test_right_programs_pass(name):
    text = RIGHT[name]["program"]
    setup = text.split("\ndef f(")[0] + "\n" if RIGHT[name].get("setup") else ""
    outcome = sandbox.run_program(Program(text, RIGHT[name]["tests"], setup), Limits(seconds=5))
    assert outcome.passed, outcome


@needs_sandbox
def test_a_numpy_array_is_compared_by_its_values():
    text = "import numpy as np\ndef f(n): return np.arange(n) * 2.5, np.int64(3), np.float64(0.5)"
    tests = "import numpy as np\na, b, c = f(3)\nassert (a == np.array([0, 2.5, 5])).all() and a.shape == (3,)\n"
    assert sandbox.run_program(Program(text, f"{tests}assert b == 3 and c == 0.5"), Limits(seconds=20)).passed


EAT = """
import os, time
def f():
    for _ in range(4):
        if os.fork() == 0:
            mine = bytearray(b'x' * (200 << 20))
            time.sleep(9)
            os._exit(0)
    time.sleep(9)
    return 1
"""
KEEP = """
def f():
    with open('/dev/shm/x', 'wb') as out:
        for _ in range(600):
            out.write(bytes(1 << 20))
    return 1
"""
SHARE = """
import os, time
shared = bytearray(b'x' * (200 << 20))
def f():
    for _ in range(4):
        if os.fork() == 0:
            time.sleep(0.5)
            os._exit(0)
    for _ in range(4):
        os.wait()
    return 1
"""


@needs_sandbox
def test_memory_is_that_of_all_processes_together():
    limits = Limits(seconds=20, memory=512 << 20)
    eaten = sandbox.run_program(Program(EAT, "assert f() == 1"), limits)
    assert (eaten.passed, eaten.decided, eaten.reason) == (False, True, "out of memory")
    assert not sandbox.run_program(Program(KEEP, "assert f() == 1"), limits).passed
    assert sandbox.run_program(Program(SHARE, "assert f() == 1"), limits).passed


@needs_sandbox
def test_what_tests_cannot_hand_over_is_undecided():
    outcome = sandbox.run_program(Program("def f(x): return 1", "import threading\nassert f(threading.Lock()) == 1"))
    assert (outcome.passed, outcome.decided) == (False, False)
    assert "the tests hand a value of type lock to the program" in outcome.reason


@needs_sandbox
def test_a_program_cannot_make_itself_undecided():
    for text in ("async def f(x): return 1", "def f(x): return ValueError(1)", "def f(x): return 'x' * (40 << 20)"):
        outcome = sandbox.run_program(Program(text, "assert f([f(1), f(2)]) == 7"), Limits(seconds=5))
        assert (outcome.passed, outcome.decided) == (False, True), outcome


SCRIPT = """
import sys
n = int(input())
print(sum(map(int, sys.stdin.read().split())) * n)
if n == 0: sys.exit(3)
if n < 0: 1 / 0
"""


@needs_sandbox
def test_scripts_get_their_input_and_say_what_they_print():
    outcomes = list(sandbox.run_script(SCRIPT, ["2\n1 2\n3", "0\n", "-1\n", "x\n"]))
    assert [(outcome.printed, outcome.code, outcome.reason) for outcome in outcomes] == [
        ("12\n", 0, ""), ("0\n", 3, ""), ("0\n", 1, "an exception"), ("", 1, "an exception")
    ]  # fmt: skip
    assert all(outcome.decided for outcome in outcomes)
    loop, after = sandbox.run_script("n = input()\nwhile n == '1': pass\nprint('你好')", ["1", "2"], Limits(seconds=1))
    assert (loop.reason, after.printed) == ("out of time", "你好\n")
    main = "if __name__ == '__main__':\n    import sys\n    sys.stdout.buffer.write(sys.stdin.buffer.read())"
    assert [outcome.printed for outcome in sandbox.run_script(main, ["a\nb"])] == ["a\nb"]


@pytest.mark.slow
@needs_sandbox
def test_a_busy_machine_fails_no_program(monkeypatch):
    """Time for which it waits for a processor is not counted; where it never gets one, nothing is known of it."""
    program, limits = (
        Program("import time\ntime.sleep(1.5)\ndef f(): return 1", "assert f() == 1"),
        Limits(1, patience=1),
    )
    assert sandbox.run_program(program, limits).reason == "out of time"
    monkeypatch.setattr(execute, "_times_of", lambda root, elapsed: (0.1, elapsed))
    assert sandbox.run_program(program, limits).passed
    monkeypatch.setattr(execute, "_MOST_WAITING", 0.5)
    outcome = sandbox.run_program(program, limits)
    assert (outcome.passed, outcome.decided) == (False, False)
    assert outcome.reason == "the machine is too busy to run it"
