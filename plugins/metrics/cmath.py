"""CMATH's way of reading and comparing numbers (XiaoMi/cmath, `utils.py` and `eval.py`).

Of the numbers that stand between Chinese words, signs or alone on a line, the last two of a reply may be its answer; it
is right when one of them is within a hundredth of the gold number. A reply without one is unparsed, and not right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness import Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import mean_over_predictions

# Digits are taken whole: to give some back would match nothing more, and takes for ever on a long run of them.
_NUMBER = r"\d++(?:[./]\d*+)?%?"
# In the order in which the authors look in a line: at its beginning, inside, as 5分之3, at its end, alone.
_BEGIN = re.compile(rf"^({_NUMBER}) ?(?=[\u4e00-\u9fa5,，。°℃$])")
_MIDDLE = re.compile(rf"(?<=[\u4e00-\u9fa5$:：，＝≈=->{{]) ?({_NUMBER}) ?(?:[\u4e00-\u9fa5,，。°℃$}}（]|\([^\d\s]|\.$)")
_PART_OF = re.compile(r"(?<!\d)(\d++)分之(\d+)")
_END = re.compile(rf"(?<=[\u4e00-\u9fa5$:：＝≈=\->]) ?({_NUMBER})$")
_ALONE = re.compile(rf"^({_NUMBER})$")
_SEPARATOR = re.compile(r"(?<=\d)[, ](?=\d)")


class CmathNumbers(Filter):
    """The last two numbers of a reply that may be its answer, joined by `;`; None where there is none."""

    name = "cmath_numbers"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else ";".join(_candidates(reply)[-2:]) or None for reply in replies]


class CmathMatch(Metric):
    """1 where one of the numbers (`;` between them) is the gold number, or off by less than a hundredth of it."""

    name = "cmath_match"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(seen, _is_right, unread="")


def _is_right(numbers: str, golds: Sequence[str]) -> bool:
    gold = _value(golds[0])
    if gold is None:
        raise ValueError(f"the gold answer {golds[0]!r} is no number")
    return any(_same(gold, _value(number)) for number in numbers.split(";"))


def _candidates(reply: str) -> list[str]:
    reply = _SEPARATOR.sub("", _with_slashes(reply))
    candidates: list[str] = []
    for line in reply.splitlines():
        candidates += _BEGIN.findall(line) + _MIDDLE.findall(line)
        candidates += [f"{above}/{below}" for below, above in _PART_OF.findall(line)]
        candidates += _END.findall(line) + _ALONE.findall(line)
    return [
        number.strip()
        for number in candidates
        if not number.strip().startswith("/") and not number.strip().endswith("/")
    ]


def _with_slashes(reply: str) -> str:
    """`\\frac{3}{4}` written as `3/4`: what the pattern `\\\\frac\\{([^}]+)\\}\\{([^}]+)\\}` finds, in one pass."""
    parts: list[str] = []
    done = at = 0
    middle = end = -1  # the brace that closes the upper part, and the one that closes the lower one
    while (start := reply.find("\\frac{", at)) >= 0:
        at = start + len("\\frac{")
        if middle < at:
            if (middle := reply.find("}", at)) < 0:
                break
            end = reply.find("}", middle + 2) if reply[middle + 1 : middle + 2] == "{" else -1
        if middle > at and end > middle + 2:
            parts += [reply[done:start], reply[at:middle], "/", reply[middle + 2 : end]]
            done = at = end + 1
    return "".join([*parts, reply[done:]])


def _value(text: str) -> int | float | None:
    """A number, a fraction or a percentage; a fraction of nothing is 0, as the authors have it. `12.0` is no int."""
    text = text.strip()
    try:
        if text.endswith("%"):
            return float(text.replace("%", "")) / 100
        if "/" in text:
            parts = [float(part) for part in text.split("/")]
            return parts[0] / parts[1] if len(parts) == 2 and parts[1] else 0.0
        return float(text) if "." in text else int(text)
    except ValueError:
        return None


def _same(gold: int | float, number: int | float | None) -> bool:
    """Whole numbers have to be equal; others may differ by less than a hundredth."""
    if number is None:
        return False
    if isinstance(gold, int) and isinstance(number, int):
        return gold == number
    try:
        return abs(gold - number) / (min(abs(gold), abs(number)) + 1e-6) < 1e-2
    except OverflowError:  # hundreds of digits against a decimal number
        return False


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [CmathNumbers]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CmathMatch]
