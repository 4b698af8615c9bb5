"""Whether two mathematical answers are the same: `\\frac{1}{2}` and `0.5`, `[1,2)` and `1 \\le x < 2`, `3个` and `三`.

    math_equal("x = 2\\sqrt{2}", "\\sqrt{8}")      # True
    math_equal("70005", "70000")                 # False

Plain numbers are compared here, exactly. All else goes to a process of its own, which is killed after a limit, so that
`9**9**9` costs two seconds and not the run. Nothing that a model wrote is ever evaluated as code: the grammar is our
own (`parser.py`), because the maintained LaTeX parsers for sympy hand part of their input to `eval`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import queue
import re
import subprocess
import sys
import threading
from fractions import Fraction
from typing import IO, Any

from harness.scoring.extraction.numerals import chinese_value
from harness.scoring.math.normalise import prepare, rational, unit_ratio

SECONDS = 2.0
_LONGEST = 2000  # characters; what is longer is no final answer
_START_SECONDS = 60.0


def math_equal(answer: str, gold: str, tolerance: float = 0.0, percent: bool = False, seconds: float = SECONDS) -> bool:
    """Return whether an answer equals the gold.

    tolerance: largest relative difference of numbers that still counts as equal; 0 means exactly.
    percent: whether `50%` also equals `50`. It always equals `0.5`.
    seconds: after so long a comparison is given up, and the answer is not equal.

    What is no mathematics is compared as text, without case and white space.
    """
    first, first_unit = prepare(answer)
    second, second_unit = prepare(gold)
    if not first or not second or max(len(first), len(second)) > _LONGEST:
        return False
    ratio = unit_ratio(first_unit, second_unit)
    if ratio is None:
        return False
    if _same_text(first, second) and ratio == 1:
        return True
    left, right = _number(first), _number(second)
    if left is not None and right is not None:
        return _numbers_equal(left * ratio, right, tolerance, percent and first.endswith("%") != second.endswith("%"))
    request = {"first": first, "second": second, "ratio": str(ratio), "tolerance": tolerance}
    return bool(_worker.ask(request, seconds).get("equal", False))


def _same_text(first: str, second: str) -> bool:
    return _compact(first) == _compact(second) and first[:1].isupper() == second[:1].isupper()


def _compact(text: str) -> str:
    """Without white space, but for that between two digits: 2 1/2 is not 21/2."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text).casefold()


def _number(text: str) -> Fraction | None:
    value = rational(text)
    return value if value is not None else chinese_value(text)


def _numbers_equal(left: Fraction, right: Fraction, tolerance: float, percent: bool) -> bool:
    candidates = [left, left * 100, left / 100] if percent else [left]
    return any(abs(value - right) <= Fraction(tolerance) * abs(right) for value in candidates)


class _Worker:
    """One process that compares, started at first use and again after it was killed. Serves one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the worker's reply; `{"error": ...}` when it did not reply in time, or died."""
        with self._lock:
            process = self._running()
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                reply: dict[str, Any] = json.loads(self._lines.get(timeout=seconds))
                return reply
            except (queue.Empty, OSError, ValueError):
                self.stop()
                return {"error": f"no answer within {seconds:g} s"}

    def stop(self) -> None:
        """Kill the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    _close(stream)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._lines = queue.Queue()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.scoring.math.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()
            self._lines.get(timeout=_START_SECONDS)
        return self._process


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    with contextlib.suppress(ValueError):  # closed while reading
        for line in stream:
            lines.put(line)
    lines.put("")  # the process has ended: whoever waits sees that this is no reply


def _close(stream: IO[str]) -> None:
    with contextlib.suppress(OSError):  # the pipe of a killed process
        stream.close()


_worker = _Worker()
atexit.register(_worker.stop)
