"""What a sum comes to that a reply or a gold answer has left to be worked out. Nothing is run."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable

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
    if len(plain) > 1000:
        return None
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
