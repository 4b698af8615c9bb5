"""Decides whether two parsed values are equal. Runs in a process of its own, which `equality.py` starts and may kill.

Equality is proved or refuted, never approximated: numbers are exact, expressions are compared by simplification and by
evaluation at points with 60 digits. What comes to no end within its processor time ends this process: undecided.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import sympy  # type: ignore[import-untyped]

from harness.limited import serve
from harness.quick import dataclass
from harness.scoring.math.parser import OTHERWISE, Bracketed, Collection, Relation, parse

_DIGITS = 60
_DEGREE = sympy.Symbol("degree", positive=True)
# What \\log stands for: the natural logarithm, or that to base 10 (\\log 100).
_LOG_BASE = sympy.Symbol("log_base", positive=True)
_READINGS = {
    _DEGREE: (sympy.Integer(1), sympy.pi / 180),
    _LOG_BASE: (sympy.Integer(1), sympy.log(10)),
}
# Points at which expressions with letters are evaluated: on both sides of zero, and of no special form.
_POINTS = (sympy.Rational(17, 23), sympy.Rational(-31, 19), sympy.Rational(283, 97))


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest differences of numbers that still count as equal, relative to the second and by themselves."""

    relative: float
    absolute: float

    def of(self, value: Any) -> Any:
        return max(sympy.Rational(self.relative) * abs(value), sympy.Rational(self.absolute))


EXACT = Tolerance(0.0, 0.0)


def equal(first: Any, second: Any, tolerance: Tolerance = EXACT) -> bool:
    """Whether two values of `math_parser.parse` mean the same.

    tolerance: what difference of numbers still counts as equal.
    """
    names = {_named(first), _named(second)} - {None}
    if len(names) > 1:
        return False  # x = 4 is not y = 4
    if _is_equation(first) and _is_equation(second) and not (_is_closed(first) and _is_closed(second)):
        return _relations_equal(first, second, tolerance)
    values = _values_by_name(first), _values_by_name(second)
    if all(values):
        named, others = values
        return named.keys() == others.keys() and all(equal(named[name], others[name], tolerance) for name in named)
    first, second = _as_point(first, values[0], second), _as_point(second, values[1], first)
    first, second = _plain(first), _plain(second)
    if isinstance(first, Relation) or isinstance(second, Relation):
        return _relations_equal(first, second, tolerance)
    if getattr(first, "kind", "") == getattr(second, "kind", "") == "pieces":
        return _pieces_equal(first.items, second.items, tolerance)
    if isinstance(first, Collection) or isinstance(second, Collection):
        if "union" in (getattr(first, "kind", ""), getattr(second, "kind", "")):
            joined = _joined(_members(first)), _joined(_members(second))
            return _unordered_equal(*joined, tolerance)
        return _unordered_equal(_members(first), _members(second), tolerance)
    if isinstance(first, sympy.MatrixBase) or isinstance(second, sympy.MatrixBase):
        return _matrices_equal(first, second, tolerance)
    if isinstance(first, Bracketed) or isinstance(second, Bracketed):
        return _bracketed_equal(first, second, tolerance)
    return _expressions_equal(first, second, tolerance)


def _is_equation(value: Any) -> bool:
    return (
        isinstance(value, Relation)
        and value.operators == ("=",)
        and all(isinstance(side, sympy.Expr) for side in value.sides)
    )


def _is_closed(equation: Relation) -> bool:
    """x = 4, which says what a letter is without others."""
    return any(isinstance(side, sympy.Symbol) for side in equation.sides) and any(
        side.is_number for side in equation.sides
    )


def _values_by_name(value: Any) -> dict[Any, Any]:
    """{x: 2, y: 3} of `x = 2, y = 3`; empty for anything else, also for x = 1, x = 2."""
    items = value.items if isinstance(value, Collection) else ()
    names = [_named(item) for item in items if isinstance(item, Relation) and item.operators == ("=",)]
    if len(names) < 2 or len(names) != len(items) or None in names or len(set(names)) != len(names):
        return {}
    return {name: _plain(item) for name, item in zip(names, items, strict=True)}


def _as_point(value: Any, values: dict[Any, Any], other: Any) -> Any:
    """`x = 2, y = 3` against a point is the point (2, 3), where the letters stand in their order."""
    if isinstance(other, Bracketed) and values and list(values) == sorted(values, key=str):
        return Bracketed(other.opening, other.closing, tuple(values.values()))
    return value


def _named(value: Any) -> Any:
    """The letter that a relation is about: x in `x = 4`, `x > 3`, `0 < x < 1`."""
    if not isinstance(value, Relation) or "!=" in value.operators:
        return None
    letters = {side for side in value.sides if isinstance(side, sympy.Symbol)}
    return letters.pop() if len(letters) == 1 else None


def _plain(value: Any) -> Any:
    """`x = 4`, `x \\in [0, 1]`, `0 < x \\le 1` and `x > 3` name what the letter is: compare that."""
    if isinstance(value, Collection):
        return _between(value) or Collection(value.kind, tuple(_plain(item) for item in value.items))
    if not isinstance(value, Relation):
        return value
    sides, operators = value.sides, value.operators
    symbols = [isinstance(side, sympy.Symbol) for side in sides]
    point = sides[0].items if len(sides) == 2 and operators == ("=",) and isinstance(sides[0], Bracketed) else None
    if point is not None and all(isinstance(item, sympy.Symbol) for item in point):
        return _plain(sides[1])  # (x, y) = (2, 3)
    if len(sides) == 2 and operators == ("!=",) and symbols == [True, False]:
        ends = Bracketed("(", ")", (-sympy.oo, sides[1])), Bracketed("(", ")", (sides[1], sympy.oo))
        return Collection("union", ends)
    if len(sides) == 2 and symbols[0] and operators[0] in ("=", "in") and not symbols[1]:
        return _plain(sides[1])
    if operators == ("=",) and _names_a_value(*sides):
        return sides[1]
    if len(sides) == 2 and symbols[1] and operators == ("=",) and not symbols[0]:
        return _plain(sides[0])
    if len(sides) == 2 and set(operators) <= {"<", "<="} and symbols != [True, True] and any(symbols):
        if symbols[0]:
            return Bracketed("(", "]" if operators[0] == "<=" else ")", (-sympy.oo, sides[1]))
        return Bracketed("[" if operators[0] == "<=" else "(", ")", (sides[0], sympy.oo))
    if len(sides) == 3 and symbols[1] and set(operators) <= {"<", "<="}:
        opening, closing = "[" if operators[0] == "<=" else "(", "]" if operators[1] == "<=" else ")"
        return Bracketed(opening, closing, (sides[0], sides[2]))
    if len(sides) > 2 and symbols[0] and set(operators) == {"="}:
        return _plain(sides[-1])
    return value


def _names_a_value(left: Any, right: Any) -> bool:
    """AB = 5, a + b = 5, \\sin A = 1/2, 2 + 3 = 5: what is 5 has a name that is no single letter. 2x = 10 has none."""
    if not (isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr) and right.free_symbols <= {_DEGREE}):
        return False
    return len(left.free_symbols) > 1 or isinstance(left, sympy.Function) or left == right


def _between(value: Any) -> Any:
    """The interval of `x > 1, x < 3`, and the union of `x != 1, x != 2`; None for other lists.

    As alternatives they would be all numbers, which nobody means without an or.
    """
    if value.kind != "list" or not all(isinstance(item, Relation) for item in value.items):
        return None
    if len({_named(item) for item in value.items}) != 1:
        return None
    if all(item.operators == ("!=",) and isinstance(item.sides[0], sympy.Symbol) for item in value.items):
        sides = [item.sides for item in value.items]
        if len({letter for letter, _ in sides}) != 1 or not all(x.is_number and x.is_real for _, x in sides):
            return None
        places = (-sympy.oo, *sorted(number for _, number in sides), sympy.oo)
        return Collection("union", tuple(Bracketed("(", ")", each) for each in itertools.pairwise(places)))
    parts = [_plain(item) for item in value.items]
    if len(parts) != 2 or not all(isinstance(part, Bracketed) and len(part.items) == 2 for part in parts):
        return None
    above, below = sorted(parts, key=lambda part: part.items[0] == -sympy.oo)
    start, end = above.items[0], below.items[1]
    if above.items[1] != sympy.oo or below.items[0] != -sympy.oo or not (start.is_number and end.is_number):
        return None
    return Bracketed(above.opening, below.closing, (start, end)) if bool(start < end) else None


def _members(value: Any) -> tuple[Any, ...]:
    return value.items if isinstance(value, Collection) else (value,)


def _joined(parts: Sequence[Any]) -> list[Any]:
    """The intervals of a union, joined where they meet: [1,2] and (2,3] are [1,3]. Other parts as they stand."""
    if not all(
        isinstance(part, Bracketed)
        and (len(part.items) == 2 and all(item.is_extended_real and item.is_number for item in part.items))
        for part in parts
    ):
        return list(parts)
    joined: list[Any] = []
    for part in sorted(parts, key=lambda part: (part.items[0], part.opening != "[")):
        last = joined[-1] if joined else None
        start = part.items[0]
        if last is None or not (
            start < last.items[1] or (start == last.items[1] and (last.closing == "]" or part.opening == "["))
        ):
            joined.append(part)
        elif last.items[1] < part.items[1] or (last.items[1] == part.items[1] and part.closing == "]"):
            joined[-1] = Bracketed(last.opening, part.closing, (last.items[0], part.items[1]))
    return joined


def _pieces_equal(first: Sequence[Any], second: Sequence[Any], tolerance: Tolerance) -> bool:
    """Whether two functions in pieces have the same ones. `otherwise` is what the others leave of the real line."""
    if _unordered_equal(first, second, tolerance):
        return True
    left = [piece for piece in first if not any(equal(piece, other, tolerance) for other in second)]
    right = [piece for piece in second if not any(equal(piece, other, tolerance) for other in first)]
    if len(first) != len(second) or len(left) != 1 or len(right) != 1:
        return False
    (one,), (other,) = left, right
    if (one.items[1] == OTHERWISE) == (other.items[1] == OTHERWISE):
        return False
    conditions = [_plain(piece.items[1]) for piece in (second if one.items[1] == OTHERWISE else first)]
    whole = _joined(conditions)
    covers = len(whole) == 1 and isinstance(whole[0], Bracketed) and whole[0].items == (-sympy.oo, sympy.oo)
    return covers and equal(one.items[0], other.items[0], tolerance)


def _unordered_equal(first: Sequence[Any], second: Sequence[Any], tolerance: Tolerance) -> bool:
    """As sets: each item of one has its equal in the other, and there are as many."""
    if len(first) != len(second):
        return False
    left = list(second)
    for item in first:
        match = next((i for i, other in enumerate(left) if equal(item, other, tolerance)), None)
        if match is None:
            return False
        del left[match]
    return True


def _bracketed_equal(first: Any, second: Any, tolerance: Tolerance) -> bool:
    if not (isinstance(first, Bracketed) and isinstance(second, Bracketed)):
        return False
    if len(first.items) != len(second.items):
        return False
    low, high = first.opening == second.opening, first.closing == second.closing
    if len(first.items) == 2:  # an infinite end is written with either bracket: [0, +\\infty]
        low = low or first.items[0] == second.items[0] == -sympy.oo
        high = high or first.items[1] == second.items[1] == sympy.oo
    return low and high and all(equal(a, b, tolerance) for a, b in zip(first.items, second.items, strict=True))


def _matrices_equal(first: Any, second: Any, tolerance: Tolerance) -> bool:
    """Matrices entry by entry; a vector, of a row or a column, may be written in brackets."""
    brackets = isinstance(first, Bracketed) or isinstance(second, Bracketed)
    first, second = _as_matrix(first), _as_matrix(second)
    if first is None or second is None:
        return False
    vectors = brackets and 1 in first.shape and 1 in second.shape and len(first) == len(second)
    if first.shape != second.shape and not vectors:
        return False
    return all(_expressions_equal(a, b, tolerance) for a, b in zip(first, second, strict=True))


def _as_matrix(value: Any) -> Any:
    if isinstance(value, Bracketed) and all(isinstance(item, sympy.Expr) for item in value.items):
        return sympy.ImmutableMatrix([list(value.items)])
    rows = value.items if isinstance(value, Bracketed) else ()
    if len(rows) > 1 and all(isinstance(row, Bracketed) and len(row.items) == len(rows[0].items) for row in rows):
        if all(isinstance(item, sympy.Expr) for row in rows for item in row.items):
            return sympy.ImmutableMatrix([list(row.items) for row in rows])  # [[1, 2], [3, 4]]
        return None
    return value if isinstance(value, sympy.MatrixBase) else None


def _relations_equal(first: Any, second: Any, tolerance: Tolerance) -> bool:
    if isinstance(second, Relation) and not isinstance(first, Relation):
        first, second = second, first
    if not isinstance(second, Relation):
        # y = 2x + 1 against 2x + 1
        is_definition = len(first.sides) == 2 and first.operators == ("=",) and isinstance(first.sides[0], sympy.Symbol)
        return is_definition and equal(first.sides[1], second, tolerance)
    if first.operators != second.operators:
        return False
    if first.operators != ("=",):
        return all(equal(a, b, tolerance) for a, b in zip(first.sides, second.sides, strict=True))
    if not all(isinstance(side, sympy.Expr) for side in (*first.sides, *second.sides)):
        return all(equal(a, b, tolerance) for a, b in zip(first.sides, second.sides, strict=True))
    # Equations are equal when their differences of sides are multiples of each other.
    left, right = first.sides[0] - first.sides[1], second.sides[0] - second.sides[1]
    if left == 0 or right == 0:
        return bool(left == right)
    ratio = sympy.simplify(left / right)
    return bool(ratio.is_number and ratio != 0 and ratio.is_finite)


def _expressions_equal(first: Any, second: Any, tolerance: Tolerance) -> bool:
    if not (isinstance(first, sympy.Basic) and isinstance(second, sympy.Basic)):
        return False
    for symbol, readings in _READINGS.items():
        if symbol in first.free_symbols | second.free_symbols:
            return any(_expressions_equal(first.subs(symbol, x), second.subs(symbol, x), tolerance) for x in readings)
    if first.has(sympy.nan, sympy.zoo) or second.has(sympy.nan, sympy.zoo):
        return False  # the logarithm of 0 is not that and 1, though sympy has one word for both
    if first == second:
        return True
    if first.is_infinite or second.is_infinite:
        return False
    first, second = _with_real_roots(first), _with_real_roots(second)
    if first.is_Rational and second.is_Rational:
        return bool(abs(first - second) <= tolerance.of(second))
    difference = first - second
    if not _vanishes(difference, first, second, tolerance):
        return False
    if tolerance != EXACT or (difference.free_symbols and difference.has(sympy.Abs, sympy.sign, sympy.log)):
        return True  # letters stand for real numbers, and sympy would try complex ones, where log(x^2) is not 2 log |x|
    return difference.equals(0) is not False


def _with_real_roots(value: Any) -> Any:
    """Odd roots of what has letters as the real ones, also where it is negative: \\sqrt[3]{x^3} is x."""

    def is_odd_root(part: Any) -> bool:
        exponent = part.exp if part.is_Pow else None
        return bool(exponent is not None and exponent.is_Rational and exponent.q > 1 and exponent.q % 2)

    def real(part: Any) -> Any:
        base, exponent = part.args
        return sympy.sign(base) ** exponent.p * sympy.Abs(base) ** exponent if base.free_symbols else part

    return value.replace(is_odd_root, real)


def _vanishes(difference: Any, first: Any, second: Any, tolerance: Tolerance) -> bool:
    """Whether the difference is 0 to 50 digits (or within the tolerance) at every point where it can be evaluated."""
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    evaluated = 0
    for shift in range(len(_POINTS) if symbols else 1):
        point = {symbol: _POINTS[(shift + i) % len(_POINTS)] + i for i, symbol in enumerate(symbols)}
        left, value = (part.subs(point).evalf(_DIGITS) for part in (difference, second))
        if not (left.is_number and value.is_number) or left.has(sympy.nan, sympy.zoo, sympy.oo):
            continue
        evaluated += 1
        allowed = tolerance if not symbols else Tolerance(tolerance.relative, 0.0)  # of a number, not of a function
        limit = max(allowed.of(abs(value)), (1 + abs(value)) * sympy.Float(10) ** -50)
        if not bool(abs(left) <= limit):
            return False
    return evaluated > 0


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Handle one request of `equality.py`: {"first", "second", "ratio", "tolerance", "absolute"} -> {"equal"}."""
    try:
        first, second = parse(request["first"]), parse(request["second"])
        if request["ratio"] != "1":
            first = first * sympy.Rational(request["ratio"])
    except MemoryError:
        raise
    except Exception:  # no mathematics that can be read, and as text they differ
        return {"equal": False}
    return {"equal": equal(first, second, Tolerance(request["tolerance"], request["absolute"]))}


if __name__ == "__main__":
    serve(answer)
