"""MATH-Vision (mathllm/MATH-V, `evaluation/evaluate.py` and `evaluation/utils.py`): what a reply answers, and whether
that is the gold letter or the gold option's text.

The script evaluates formulas with `eval`, to two decimals; here a small grammar of numbers does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from harness.scoring.official.floats import is_float

_LETTERS = "ABCDE"
_CUES = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
_MOST_BITS = 100_000
_TOKEN = re.compile(r"\s*(\d+\.\d+|\.\d+|\d+|\\[a-z]+|\S)")
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "\\sin": math.sin,
    "\\cos": math.cos,
    "\\tan": math.tan,
    "\\arcsin": math.asin,
    "\\arccos": math.acos,
    "\\arctan": math.atan,
    "\\ln": math.log,
    "\\log": math.log10,
}


def mathvision_answer(reply: str) -> str:
    """What the script takes to be the answer, in lower case and without LaTeX's trimmings."""
    text = reply.strip()
    for c in _LETTERS:
        if text.endswith((f" {c}.", f" ({c}).")) or text.startswith((f"{c}\n", f"({c})\n", f"({c}) {c}\n")):
            text = c
    last = text.split("is ")[-1].rstrip(".")
    if is_float(last):
        text = last
    if "oxed{" not in text:
        for cue in _CUES:
            for said in (cue, cue.replace("the", "The")):
                tail = text.split(said)[-1].strip()
                text = tail.split("\n")[0].split(". ")[0] if said in text else tail
    elif text.count("oxed{") > 1:
        text = "\\boxed{" + text.split("oxed{")[-1]
    text = _plain(text)
    for letter in _LETTERS.lower():
        text = text.replace(f"({letter})", letter)
    for letter in _LETTERS.lower():
        text = text.replace(f"{{{letter}}}", letter)
    return text.rstrip(".").lstrip(":").strip()


def mathvision_correct(answer: str, gold: str, option: str = "") -> bool:
    """Whether the answer is the gold, or the text of the gold option: as text, or as a number to two decimals."""
    return _equal(gold, answer) or _equal(option, answer)


def _equal(gold: str, answer: str) -> bool:
    gold, answer = gold.lower(), answer.lower()
    if not gold.replace(" ", "") or not answer.replace(" ", ""):
        return False
    if gold.strip() == answer.strip():
        return True
    first, second = _members(gold), _members(answer)
    if first == second:
        return True
    try:
        return round(_value(first), 2) == round(_value(second), 2)
    except (ValueError, ArithmeticError):
        return False


def _members(text: str) -> str:
    """A tuple or list with each number rounded to two decimals; any other text as it is."""
    parts = text[1:-1].split(",")
    if text[0] + text[-1] not in ("()", "[]") or len(parts) < 2:
        return text
    try:
        known = []
        for part in parts:
            if "infty" not in part and part not in ("a", "-a"):
                value = _value(part)
                part = str(round(int(value) if value == int(value) else value, 2))  # a whole number shows no decimals
            known.append(part)
    except (ValueError, ArithmeticError):
        return text
    return f"{text[0]}{','.join(known)}{text[-1]}"


def _plain(text: str) -> str:
    """The last boxed text, or all of it, behind its last equals sign."""
    text = text.lower().replace("{}", "")
    boxed = re.findall(r"oxed{(.*)}", text, re.DOTALL)
    text = boxed[-1] if boxed else text
    if "}" in text and ("{" not in text or text.find("}") < text.find("{")):
        text = text.split("}")[0]
    text = text.split("=")[-1].split("\\approx")[-1]
    for old, new in (
        (" ", ""), ("\\,", ""), ("∞", "\\infty"), ("+\\infty", "\\infty"), ("\\\\", "\\"), ("\n", ""), ("\\text", ""),
        ("\\mbox", ""), ("bmatrix", "pmatrix"), ("\\left", ""), ("\\right", ""), ("^{\\circ}", ""), ("^\\circ", ""),
        ("{m}^3", ""), ("m^3", ""), ("{units}", ""), ("units", ""), ("{km}", ""), ("km", ""),
        # As MATH's own script strips.
        ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
        ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""), ("$", ""),
    ):  # fmt: skip
        text = text.replace(old, new)
    text = text.split("\\text{ ")[0].replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    text = "0" + text if text[0] == "." else text
    for mark in ("=", "\\approx"):
        if text.count(mark) == 1:
            text = text.split(mark)[-1]
    if "sqrt" in text:
        text = re.sub(r"\\sqrt(?!{)(.)", r"\\sqrt{\1}", text)
    text = text.replace(" ", "")
    if "sqrt" in text:
        text = re.sub(r"\\frac(?!{)(.)(?!{)(.)", r"\\frac{\1}{\2}", text)
    text = "\\frac{1}{2}" if text == "0.5" else text
    halves = re.fullmatch(r"(-?\d+)/(-?\d+)", text)
    if halves and all(str(int(half)) == half for half in halves.groups()):
        return f"\\frac{{{halves[1]}}}{{{halves[2]}}}"
    return text


def _value(text: str) -> float:
    """The value of a formula of numbers. Raises `ValueError` for any other text."""
    return _Formula(text).value()


class _Formula:
    """Numbers, sums, products (also without a sign), powers, fractions, roots and functions of LaTeX.

    As in the script, a formula ends at a full stop, and at a brace that closes nothing; what follows is not looked at.
    """

    def __init__(self, text: str) -> None:
        text = re.sub(r"\$|\\(?:left|right)(?![a-z])", " ", text).replace("\\displaystyle", "")
        self._tokens = _TOKEN.findall(text.replace("\\%", "(0.01)").rstrip())
        self._at = 0

    def value(self) -> float:
        value = self._sum()
        if self._next() not in ("", "}", "."):
            raise ValueError(f"what is {self._next()!r} there?")
        return value

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, wanted: str = "") -> str:
        token = self._next()
        if not token or (wanted and token != wanted):
            raise ValueError(f"{wanted or 'a value'} is missing")
        self._at += 1
        return token

    def _sum(self) -> float:
        value = self._product()
        while self._next() in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        return value

    def _product(self) -> float:
        value = self._signed()
        while self._next() not in ("", "+", "-", ")", "}", "]", "|", "."):
            if self._next() in ("/", ":", "\\div"):
                self._take()
                value /= self._signed()
                continue
            if self._next() in ("*", "\\cdot", "\\times"):
                self._take()
            value *= self._signed()
        return value

    def _signed(self) -> float:
        if self._next() in ("+", "-"):
            return -self._signed() if self._take() == "-" else self._signed()
        return self._power()

    def _power(self) -> float:
        value = self._atom()
        while self._next() == "!":
            self._take()
            if value != int(value) or not 0 <= value <= 170:
                raise ValueError("no factorial")
            value = math.factorial(int(value))
        if self._next() == "^":
            self._take()
            value = _raised(value, self._signed() if self._next() == "-" else self._power())
        return value

    def _atom(self) -> float:
        token = self._take()
        if token in ("(", "{", "["):
            value = self._sum()
            self._take({"(": ")", "{": "}", "[": "]"}[token])
            return value
        if token == "|":
            value = abs(self._sum())
            self._take("|")
            return value
        if token == "\\pi":
            return math.pi
        if token == "\\frac":
            return self._atom() / self._atom()
        if token == "\\sqrt":
            degree = 2.0
            if self._next() == "[":
                degree = self._atom()
            if self._next() != "{":
                raise ValueError("a root without braces is not read there")
            return _raised(self._atom(), 1 / degree)
        if token in _FUNCTIONS:
            return _FUNCTIONS[token](self._power())
        return int(token) if token.isdecimal() else float(token)


def _raised(base: float, exponent: float) -> float:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _MOST_BITS:
        raise ValueError("too large a number")
    value = base**exponent
    if isinstance(value, complex):
        raise ValueError("no real number")
    return float(value) if isinstance(value, float) else int(value)
