"""Whether two mathematical answers are the same: `\\frac{1}{2}` and `0.5`, `[1,2)` and `1 \\le x < 2`, `3个` and `三`.

    math_equal("x = 2\\sqrt{2}", "\\sqrt{8}")      # True
    math_equal("70005", "70000")                 # False

Plain numbers are compared here, exactly. All else goes to a process of its own, which has two seconds of processor time
for each pair: `9**9**9` cannot stop the run, and a busy machine changes no verdict. Nothing that a model wrote is ever
evaluated as code: the grammar is our own (`parser.py`), because the maintained LaTeX parsers for sympy hand part of
their input to `eval`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from harness.limited import LimitedWorker
from harness.scoring.extraction.numerals import chinese_value
from harness.scoring.math.normalise import LONGEST, prepare, rational, unit_ratio

SECONDS = 2.0
_FLOAT_DIGITS = 15  # that a floating-point number holds at least
_WORDS = re.compile(r"[^\W\d_]{4,}|(?<=\d)(?:AM|PM)\b")
_GROUPED = re.compile(r"[^,]*(?<!\d)\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_worker = LimitedWorker("harness.scoring.math.worker", "compares mathematics")


def math_equal(
    answer: str,
    gold: str,
    *,
    tolerance: float = 0.0,
    absolute: float = 0.0,
    percent: bool = False,
    seconds: float = SECONDS,
) -> bool:
    """Return whether an answer equals the gold. Raises `Undecided` where that cannot be told in time.

    tolerance: largest relative difference of numbers that still counts as equal; 0 means exactly.
    absolute: the same, whatever the gold number is.
    percent: whether `50%` also equals `50`. It always equals `0.5`.
    seconds: of processor time, after which a comparison is given up.

    What is no mathematics is compared as text, without white space, and words of four letters or more without case.
    """
    allowed = _Allowed(tolerance, absolute, percent)
    if (left := rational(answer)) is not None and (right := rational(gold)) is not None:
        return _numbers_equal(answer.strip(), left, gold.strip(), right, allowed)  # nothing has to be prepared
    first, first_unit = prepare(answer)
    second, second_unit = prepare(gold)
    if _compact(answer) == _compact(gold) and first and len(first) <= LONGEST:
        return True  # 2 N and 2N: whatever the letter is
    if not first or not second or max(len(first), len(second)) > LONGEST:
        return False
    first, second = _like(first, second), _like(second, first)
    ratio = unit_ratio(first_unit, second_unit)
    if ratio is None:
        return False
    if ratio == 1 and _same_text(first, second):
        return True
    left, right = _number(first), _number(second)
    if left is not None and right is not None:
        return _numbers_equal(first, left, second, right, allowed, ratio)
    request = {"first": first, "second": second, "ratio": str(ratio), "tolerance": tolerance, "absolute": absolute}
    return bool(_worker.ask(request, seconds)["equal"])


def _like(text: str, other: str) -> str:
    """2,101 as 2, 101 where the other one has several values: as a number it could not be equal."""
    several = re.search(r",(?!\d{3}(?!\d))|\\lor|\\lbrace", other)
    return text.replace(",", ", ") if several and _GROUPED.fullmatch(text) else text


class _Allowed(NamedTuple):
    tolerance: float
    absolute: float
    percent: bool


def _numbers_equal(
    first: str, left: Fraction, second: str, right: Fraction, allowed: _Allowed, ratio: Fraction = Fraction(1)
) -> bool:
    """Whether two numbers are equal; `first` and `second` are how they are written."""
    if ratio == 1 and (_is_written_out(first, right) or _is_written_out(second, left)):
        return True
    candidates = [left * ratio]
    if allowed.percent and first.endswith("%") != second.endswith("%"):
        candidates += [left * ratio * 100, left * ratio / 100]
    limit = max(Fraction(allowed.tolerance) * abs(right), Fraction(allowed.absolute))
    return any(abs(value - right) <= limit for value in candidates)


def _same_text(first: str, second: str) -> bool:
    """Whether two texts are the same, words without case (no solution, 3:00 PM): x and X are two letters."""
    return _in_lower_case(_compact(first)) == _in_lower_case(_compact(second))


def _in_lower_case(text: str) -> str:
    return _WORDS.sub(lambda match: match.group().casefold(), text)


def _compact(text: str) -> str:
    """Without white space, but for that between two digits: 2 1/2 is not 21/2."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def _number(text: str) -> Fraction | None:
    value = rational(text)
    return value if value is not None else chinese_value(text)


def _is_written_out(text: str, exact: Fraction) -> bool:
    """Whether a decimal is what a floating-point number holds of a fraction without end: 0.0833333333333333 is 1/12."""
    match = re.fullmatch(r"[+-]?(\d*)\.(\d+)", text)
    below = exact.denominator
    for factor in (2, 5):
        while below % factor == 0:
            below //= factor
    if match is None or below == 1 or len((match[1] + match[2]).lstrip("0")) < _FLOAT_DIGITS:
        return False
    places = len(match[2])
    distance = abs(Fraction(text) - exact)
    return distance < Fraction(1, 10**places) or (distance < abs(exact) and float(text) == float(exact))
