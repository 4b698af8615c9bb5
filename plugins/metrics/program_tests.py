"""Whether a program passes test cases: an input and the output that it must give, or a call and what it must return.

    metric_list:
      - metric: passes_tests                 # the share of replies that pass all tests of their row
        tests: [public_test_cases, private_test_cases]
        function: metadata.func_name
      - {metric: pass_at_k, k: [1, 5], of: passes_tests}

Programs run in the sandbox of `harness.scoring.sandbox`, all tests of a row in one process, by the rules of
LiveCodeBench (LiveCodeBench/LiveCodeBench, lcb_runner/evaluation/testing_util.py): output is compared line by line
without outer blanks, and a line that differs as text may be equal as numbers; a tuple that is returned counts as a
list; the standard library's names need not be imported. What differs: a program is run as it is and not wrapped into a
function, so that it can end with `if __name__ == "__main__"` or use `global`, and its time is processor time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import pickle
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from harness import Metric, MetricOptions, Observation, hookimpl
from harness.scoring import sandbox

Case = tuple[str, str]


class PassesTests(Metric):
    """1 where the program in the reply passes every test of the row; the mean over the replies.

    tests: the columns that hold tests: lists of {input, output}, or {inputs: [...], outputs: [...]}, as they are, as
        JSON, or as JSON that is pickled, compressed and in base 64 (LiveCodeBench's hidden tests).
    function: the name of the function to call, or the column that holds it (`metadata.func_name` reaches into JSON); a
        class `Solution` has it as a method. An input is then one argument a line, as JSON, and so is the output. Empty,
        or null in the row: the program reads standard input and prints.
    timeout: seconds of processor time a test; memory: MB.
    A row without tests is not scored.
    """

    name = "passes_tests"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(
        self, tests: str | Sequence[str] = "tests", function: str = "", timeout: float = 6.0, memory: int = 4096
    ) -> None:
        self._columns = (tests,) if isinstance(tests, str) else tuple(tests)
        self._function = function
        self._timeout = timeout
        self._memory = memory << 20
        self._mode: str | None = None
        self._known: OrderedDict[bytes, bool] = OrderedDict()  # pass@k asks again for what was run already
        self._lock = Lock()

    def prepare(self, options: MetricOptions) -> None:
        self._mode = sandbox.usable(options.sandbox)  # refused here, and not after the model has answered

    def score(self, seen: Observation) -> float | None:
        cases = [case for column in self._columns for case in cases_of(seen.sample.doc.get(column))]
        if not cases or not seen.predictions:
            return None
        function = self._function and _named(seen.sample.doc, self._function)
        packed = base64.b64encode(zlib.compress(json.dumps(cases).encode())).decode()
        programs = {
            reply: DRIVER.format(program=reply, function=function or "", cases=packed, seconds=self._timeout)
            for reply in dict.fromkeys(seen.predictions)
            if reply is not None
        }
        passed = dict(zip(programs, self._run(list(programs.values()), len(cases)), strict=True))
        return sum(reply is not None and passed[reply] for reply in seen.predictions) / len(seen.predictions)

    def _run(self, programs: Sequence[str], cases: int) -> list[bool]:
        keys = [hashlib.sha256(program.encode("utf-8", "surrogatepass")).digest() for program in programs]
        with self._lock:
            found = {key: self._known.get(key) for key in keys}
        new = {key: program for key, program in zip(keys, programs, strict=True) if found[key] is None}
        limits = sandbox.Limits(
            seconds=(self._timeout + 1) * cases + 5,  # the script's limit for all tests of a row
            memory=self._memory,
            file_size=256 << 20,
            space=512 << 20,
        )
        outcomes = sandbox.run_programs(list(new.values()), limits, self._mode or sandbox.usable())
        for key, outcome in zip(new, outcomes, strict=True):
            if not outcome.started:  # says nothing about the program: the sample fails, and is tried again
                raise RuntimeError(outcome.reason)
            found[key] = outcome.passed
        with self._lock:
            self._known.update({key: bool(found[key]) for key in new})
            while len(self._known) > 4096:
                self._known.popitem(last=False)
        return [bool(found[key]) for key in keys]


def cases_of(value: Any) -> list[Case]:
    """The tests in a column, as (input, output). Raises `ValueError` for what is none."""
    if value is None or value == "":
        return []
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip()[:1] in ("[", "{") else _unpacked(value)
    if isinstance(value, Mapping):
        pairs = list(zip(value["inputs"], value["outputs"], strict=True))
    else:
        pairs = [(case["input"], case["output"]) for case in value]
    return [(_text(given), _text(wanted)) for given, wanted in pairs]


def _text(value: Any) -> str:
    """APPS and its heirs hold an input as a list of lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _unpacked(text: str) -> Any:
    try:
        return json.loads(_TextUnpickler(io.BytesIO(zlib.decompress(base64.b64decode(text)))).load())
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"the tests are neither JSON nor compressed JSON ({error})") from None


class _TextUnpickler(pickle.Unpickler):
    """Reads a pickled text and refuses all else: a pickle that names a function could run it."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds a {module}.{name} and not a text")


def _named(doc: Mapping[str, Any], path: str) -> str:
    """The function's name: `path` itself, or what the row has there."""
    column, _, key = path.partition(".")
    if not key and column not in doc:
        return path
    value = doc.get(column)
    if key:
        value = (json.loads(value) if isinstance(value, str) and value else value) or {}
        value = value.get(key)
    return str(value or "")


# Runs in the sandbox. It ends where all tests have passed, and raises where one has not.
DRIVER = '''
import base64, decimal, io, json, os, signal, sys, types, zlib

PROGRAM, FUNCTION, SECONDS = {program!r}, {function!r}, {seconds!r}
CASES = json.loads(zlib.decompress(base64.b64decode({cases!r})))
MODULES = """string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys
json builtins typing""".split()
PREAMBLE = "".join(f"from {{name}} import *\\n" for name in MODULES)
PREAMBLE += "".join(f"import {{name}}\\n" for name in MODULES)


class OutOfTime(BaseException):
    pass


def out_of_time(number, frame):
    raise OutOfTime


def timed(work, *given):
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 3 * SECONDS)
    try:
        return work(*given)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def fresh():
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(PREAMBLE, module.__dict__)
    module.__dict__.update(__name__="solution" if FUNCTION else "__main__", exit=sys.exit, quit=sys.exit)
    return module.__dict__


def numbers(line):
    try:
        return [decimal.Decimal(part) for part in line.split()]
    except decimal.InvalidOperation:
        return None


def same(printed, wanted):
    found, right = ([line.strip() for line in text.strip().split("\\n")] for text in (printed, wanted))
    if len(found) != len(right):
        return False
    for mine, theirs in zip(found, right):
        if mine != theirs and (numbers(mine) is None or numbers(mine) != numbers(theirs)):
            return False
    return True


def run(code, given):
    with open("input.txt", "w", encoding="utf-8", newline="") as handle:
        handle.write(given)
    source = os.open("input.txt", os.O_RDONLY)
    if source != 0:  # a program that opened and closed it has left the number free
        os.dup2(source, 0)
        os.close(source)
    sys.stdin = open(0, encoding="utf-8", closefd=False)
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    written = sys.stdout
    try:
        timed(exec, code, fresh())
    except SystemExit:
        pass
    finally:
        sys.stdout = sys.__stdout__
    return written.buffer.getvalue().decode("utf-8", "replace")


signal.signal(signal.SIGPROF, out_of_time)
signal.signal(signal.SIGALRM, out_of_time)
sys.setrecursionlimit(50000)
sys.set_int_max_str_digits(50000)
os.chdir("/tmp" if os.access("/tmp", os.W_OK) else ".")
code = compile(PROGRAM, "solution.py", "exec", dont_inherit=True)
if FUNCTION:
    names = fresh()
    timed(exec, code, names)
    method = getattr(names["Solution"](), FUNCTION) if "Solution" in names else names[FUNCTION]
for number, (given, wanted) in enumerate(CASES, 1):
    if FUNCTION:
        result = timed(method, *[json.loads(line) for line in given.split("\\n")])
        passed = (list(result) if isinstance(result, tuple) else result) == json.loads(wanted)
    else:
        passed = same(run(code, given), wanted)
    if not passed:
        raise AssertionError(f"test {{number}} of {{len(CASES)}}: another result")
'''


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [PassesTests]
