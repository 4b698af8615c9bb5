"""Whether a program passes test cases: an input and the output that it must give, or a call and what it must return.

    metric_list:
      - metric: passes_tests                 # the share of replies that pass all tests of their row
        tests: [public_test_cases, private_test_cases]
        function: metadata.func_name
      - {metric: pass_at_k, k: [1, 5], of: passes_tests}

Programs run in the sandbox of `harness.scoring.sandbox`; what they print or return is compared outside, by the rules of
LiveCodeBench (LiveCodeBench/LiveCodeBench, lcb_runner/evaluation/testing_util.py): output is compared line by line
without outer blanks, and a line that differs as text may be equal as numbers; a tuple that is returned counts as a
list; the standard library's names need not be imported. What differs: a program is run as it is, as a script of its own
for each test, and not wrapped into a function, so that it can end with `if __name__ == "__main__"` or use `global`, and
its time is processor time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import os
import pickle
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal, InvalidOperation
from threading import Lock
from typing import Any

from harness import Metric, MetricOptions, Observation, Undecided, hookimpl
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
        replies = [reply for reply in dict.fromkeys(seen.predictions) if reply is not None]
        with ThreadPoolExecutor(min(len(replies), os.cpu_count() or 1) or 1) as pool:
            passed = dict(
                zip(replies, pool.map(lambda reply: self._passes(reply, function, cases), replies), strict=True)
            )
        return sum(reply is not None and passed[reply] for reply in seen.predictions) / len(seen.predictions)

    def _passes(self, reply: str, function: str, cases: Sequence[Case]) -> bool:
        key = hashlib.sha256(json.dumps([reply, function, cases]).encode()).digest()
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        program = f"{PREAMBLE}\n{reply}"
        known = self._returns(program, function, cases) if function else self._prints(program, cases)
        with self._lock:
            self._known[key] = known
            while len(self._known) > 4096:
                self._known.popitem(last=False)
        return known

    def _prints(self, program: str, cases: Sequence[Case]) -> bool:
        limits = sandbox.Limits(self._timeout, memory=self._memory, file_size=256 << 20, space=512 << 20)
        outcomes = sandbox.run_script(program, [given for given, _ in cases], limits, self._mode or "auto")
        for outcome, (_, wanted) in zip(outcomes, cases, strict=True):
            if not outcome.decided:  # says nothing about the program: the sample fails, and is tried again
                raise Undecided(outcome.reason)
            if outcome.reason or not same_output(outcome.printed, wanted):
                return False
        return True

    def _returns(self, program: str, function: str, cases: Sequence[Case]) -> bool:
        limits = sandbox.Limits(
            seconds=(self._timeout + 1) * len(cases) + 5,  # the script's limit for all tests of a row
            memory=self._memory,
            call_seconds=self._timeout,
        )
        tests = CALLS.format(function=function, cases=json.dumps(cases))
        outcome = sandbox.run_program(sandbox.Program(program, tests), limits, self._mode or "auto")
        if not outcome.decided:
            raise Undecided(outcome.reason)
        return outcome.passed


def same_output(printed: str, wanted: str) -> bool:
    """Whether two outputs are equal line by line, each as text or as numbers."""
    mine, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (printed, wanted))
    return len(mine) == len(theirs) and all(
        one == other or ((numbers := _numbers(one)) is not None and numbers == _numbers(other))
        for one, other in zip(mine, theirs, strict=True)
    )


def _numbers(line: str) -> list[Decimal] | None:
    try:
        numbers = [Decimal(part) for part in line.split()]
    except InvalidOperation:
        return None
    return None if any(number.is_snan() for number in numbers) else numbers  # which cannot be compared


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


# fmt: off
MODULES = [
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "builtins", "typing",
]
# fmt: on
PREAMBLE = "; ".join(
    [f"from {name} import *" for name in MODULES]
    + [f"import {name}" for name in MODULES]
    + ["sys.setrecursionlimit(50000)", "sys.set_int_max_str_digits(50000)"]
)
# The tests of a function, which see no more of a program than what it returns.
CALLS = """\
import json
try:
    called = getattr(Solution(), "{function}")
except NameError:
    called = {function}
for given, wanted in json.loads({cases!r}):
    result = called(*[json.loads(line) for line in given.split("\\n")])
    result = list(result) if isinstance(result, tuple) else result
    assert result == json.loads(wanted)
"""


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [PassesTests]
