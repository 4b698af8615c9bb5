"""Metrics that understand what they compare: mathematical answers, sums, and programs as syntax trees.

A sample with several replies scores the mean over its replies; an answer that could not be read scores 0. Of several
gold answers, one is enough.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
from collections.abc import Callable, Sequence

from harness import Metric, Observation, Undecided, hookimpl
from harness.scoring import gold_texts, math_equal, same_code


class MathEqual(Metric):
    """1 where the answer is mathematically equal to a gold answer (`harness.scoring.math_equal`).

    tolerance: largest relative difference of numbers that counts as equal. percent: whether 50% also equals 50.
    seconds: of processor time for a comparison. One that comes to no end fails the sample, and is no wrong answer.
    """

    name = "math_equal"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, tolerance: float = 0.0, percent: bool = False, seconds: float = 2.0) -> None:
        if tolerance < 0 or seconds <= 0:
            raise ValueError("tolerance must not be negative, and seconds must be positive")
        self._equal = functools.partial(math_equal, tolerance=tolerance, percent=percent, seconds=seconds)

    def score(self, seen: Observation) -> float | None:
        return _share(seen, self._equal)


class ArithmeticEqual(Metric):
    """1 where answer and gold have the same value, both rounded to `places` (MathGLM's evaluation_acc.py has 2).

    Either may be a number or a sum still to be worked out: + - * / and ** over decimals, per cent and brackets.
    """

    name = "arithmetic_equal"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, places: int = 2) -> None:
        self._places = places

    def score(self, seen: Observation) -> float | None:
        def same(answer: str, gold: str) -> bool:
            first, second = arithmetic_value(answer), arithmetic_value(gold)
            if first is None or second is None:
                return False
            return round(first, self._places) == round(second, self._places)

        return _share(seen, same)


_SUM = re.compile(r"[0-9eE.+\-*/()% ]+")
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def arithmetic_value(text: str) -> float | None:
    """What a sum comes to, or None where the text is none. `5%` is 5/100; `[` and `×` mean what a reader thinks."""
    plain = text.translate(str.maketrans("[]{}（）×÷−＝", "()()()*/-=")).strip().removesuffix("=").replace(",", "")
    plain = re.sub(r"(\d+(?:\.\d+)?)%", r"(\1/100)", plain)
    if len(plain) > 1000 or not _SUM.fullmatch(plain):
        return None
    try:
        value = _value(ast.parse(plain.strip(), mode="eval").body)
        return value if math.isfinite(value) else None
    except (SyntaxError, ArithmeticError, ValueError, TypeError, RecursionError, MemoryError):
        return None  # TypeError: a root of a negative number


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        power: float = float(_value(node.left)) ** _value(node.right)
        return power
    raise ValueError("no arithmetic")


class CodeEqual(Metric):
    """1 where the answer has the syntax tree of a gold program; `rename: true` where only names may differ (Python)."""

    name = "code_equal"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, rename: bool = False) -> None:
        self._rename = rename

    def score(self, seen: Observation) -> float | None:
        return _share(seen, lambda answer, gold: same_code(answer, gold, rename=self._rename))


def _share(seen: Observation, same: Callable[[str, str], bool]) -> float | None:
    golds = gold_texts(seen.sample)
    if golds is None or not seen.predictions:
        return None
    right = [answer is not None and _any_equal(answer, golds, same) for answer in seen.predictions]
    return sum(right) / len(right)


def _any_equal(answer: str, golds: Sequence[str], same: Callable[[str, str], bool]) -> bool:
    """Whether one of the golds is equal. Raises `Undecided` where none is, and of one it could not be told."""
    undecided = None
    for gold in golds:
        try:
            if same(answer, gold):
                return True
        except Undecided as error:
            undecided = error
    if undecided is not None:
        raise undecided
    return False


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [ArithmeticEqual, CodeEqual, MathEqual]
