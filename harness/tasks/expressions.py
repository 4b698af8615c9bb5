"""Arithmetic that task files and rows bring along: exact, and with none of Python's reach.

    Expression("n * (100 - p) / 100").value({"n": 40, "p": Fraction(25)})      # 30

Numbers are whole or exact fractions (0.1 is a tenth), so that an answer never ends in 0.30000000000000004. Names,
arithmetic, comparisons, `and or not`, `a if b else c`, lists, and the functions of `FUNCTIONS`; nothing else.
"""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from harness.errors import suggest

Value = Any
"""int, Fraction, bool, str, or a sequence of these."""
_Evaluate = Callable[[Mapping[str, Value]], Value]
MOST_CHARACTERS = 2000
MOST_VALUES = 10_000
_MOST_BITS = 512
_MOST_EXPONENT = 64


class ExpressionError(ValueError):
    """What is no expression, or has no value."""


def shown_number(value: Value) -> str:
    """A value as a question writes it: `40`, `2.5`, and `1/3` where no decimals end."""
    if not isinstance(value, Fraction):
        return str(value)
    if value.denominator == 1:
        return str(value.numerator)
    rest, places = value.denominator, 0
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    while (value * 10**places).denominator != 1:
        places += 1
    digits = f"{abs(int(value * 10**places)):0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def number_in(text: str) -> Value:
    """The number that a text is (`40`, `1,200`, `0.25`, `3/4`, `25%` is 25, `４０`); None where it is none."""
    plain = unicodedata.normalize("NFKC", text[:80]).strip().replace(",", "").removesuffix("%").strip()
    try:
        return _plain(Fraction(plain)) if len(plain) <= 40 and plain.isascii() and "e" not in plain.lower() else None
    except (ValueError, ZeroDivisionError):
        return None


class Expression:
    """An expression that was read. Raises `ExpressionError` for a text that is none."""

    __slots__ = ("_evaluate", "function", "names", "source")

    def __init__(self, source: str) -> None:
        self.source = source.strip()
        if len(self.source) > MOST_CHARACTERS:
            raise ExpressionError(f"an expression of {len(self.source):,} characters; {MOST_CHARACTERS:,} are the most")
        try:
            body = ast.parse(self.source, mode="eval").body
            self._evaluate = _compiled(body)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if isinstance(error, ExpressionError):
                raise
            raise ExpressionError(f"'{_start(self.source)}' is no arithmetic expression") from None
        self.function = ("", 0)
        if isinstance(body, ast.Call) and isinstance(body.func, ast.Name):
            self.function = (body.func.id, len(body.args))
        """The function that the whole expression calls, and with how many arguments."""
        called = {id(node.func) for node in ast.walk(body) if isinstance(node, ast.Call)}
        self.names = frozenset(
            node.id for node in ast.walk(body) if isinstance(node, ast.Name) and id(node) not in called
        )

    def value(self, names: Mapping[str, Value]) -> Value:
        """Its value. Raises `ExpressionError`, also for a number that is too large."""
        try:
            return self._evaluate(names)
        except ExpressionError as error:
            raise ExpressionError(f"{_start(self.source)}: {error}") from None
        except ZeroDivisionError:
            raise ExpressionError(f"{_start(self.source)}: division by zero") from None
        except (TypeError, ValueError, IndexError, OverflowError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"{_start(self.source)}: {error}") from None


def _start(text: str) -> str:
    """As much of a text as a line of a message bears."""
    return text if len(text) <= 80 else f"{text[:80]} ..."


def _plain(value: Fraction) -> Value:
    return value.numerator if value.denominator == 1 else value


def _bounded(value: Value) -> Value:
    """The value, with a whole fraction as an integer. Raises for what grows without bounds."""
    if isinstance(value, Fraction):
        value = _plain(value)
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
            raise ExpressionError("a number of too many digits")
    elif isinstance(value, int):
        if value.bit_length() > _MOST_BITS:
            raise ExpressionError("a number of too many digits")
    elif isinstance(value, str | list | tuple) and _size(value) > MOST_VALUES:
        raise ExpressionError(f"more than {MOST_VALUES:,} values")
    return value


def _size(value: Value) -> int:
    """How many values a list holds, those of lists in it too; characters of a text; 1 of a number."""
    if isinstance(value, list | tuple):
        return sum(_size(item) if isinstance(item, list | tuple | range) else 1 for item in value)
    return len(value) if isinstance(value, str | range) else 1


def _number(value: Value) -> Value:
    if isinstance(value, int | Fraction):
        return value
    raise ExpressionError(f"{_start(repr(value))} is no number")


def _divided(left: Value, right: Value) -> Value:
    return Fraction(_number(left)) / _number(right)


def _power(left: Value, right: Value) -> Value:
    if not isinstance(right, int) or abs(right) > _MOST_EXPONENT:
        raise ExpressionError(f"an exponent is a whole number up to {_MOST_EXPONENT}")
    _bounded(_number(left))
    return Fraction(left) ** right


def _added(left: Value, right: Value) -> Value:
    if isinstance(left, list | tuple | range) and isinstance(right, list | tuple | range):
        if _size(left) + _size(right) > MOST_VALUES:
            raise ExpressionError(f"more than {MOST_VALUES:,} values")
        return [*left, *right]
    return _number(left) + _number(right)


def _times(left: Value, right: Value) -> Value:
    if isinstance(left, list | tuple | range) and isinstance(right, int):
        if right > MOST_VALUES // max(1, _size(left)):
            raise ExpressionError(f"more than {MOST_VALUES:,} values")
        return list(left) * right
    return _number(left) * _number(right)


def _on_numbers(function: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    return lambda left, right: function(_number(left), _number(right))


def _range(*ends: Value) -> Sequence[Value]:
    """As Python's, with steps that need not be whole."""
    if not 1 <= len(ends) <= 3:
        raise ExpressionError("range takes one to three numbers")
    if all(isinstance(end, int) for end in ends):
        found = range(*ends)
        if len(found) > 10**9:
            raise ExpressionError("a range of more than a thousand million numbers")
        return found
    start, stop, step = (0, ends[0], 1) if len(ends) == 1 else (*ends, 1)[:3]
    count = max(0, -(-(_number(stop) - _number(start)) // _number(step)))
    if count > MOST_VALUES:
        raise ExpressionError(f"a range of more than {MOST_VALUES:,} numbers")
    return [_bounded(start + Fraction(step) * place) for place in range(count)]


def _rounded(value: Value, places: int = 0) -> Value:
    """As Python rounds, halves to even digits."""
    if not isinstance(places, int) or abs(places) > _MOST_EXPONENT:
        raise ExpressionError("round takes a number of places")
    return round(Fraction(_number(value)) * Fraction(10) ** places) / Fraction(10) ** places


def _sequence(values: Value, *_: Value) -> Value:
    if not isinstance(values, list | tuple | range):
        raise ExpressionError(f"{_start(repr(values))} is no list to draw from")
    return values


def _is_in(item: Value, items: Value) -> bool:
    """As Python's `in`, which would go through a range one by one for what is no whole number."""
    if not isinstance(items, range):
        return item in items
    return isinstance(item, int | Fraction) and item == int(item) and int(item) in items


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "abs": lambda value: abs(_number(value)),
    "divides": lambda value, by: _number(value) % _number(by) == 0,
    "float": _number,
    "int": lambda value: int(_number(value)),
    "is_int": lambda value: Fraction(_number(value)).denominator == 1,
    "len": len,
    "list": _sequence,
    "max": lambda *values: max(map(_number, values)),
    "min": lambda *values: min(map(_number, values)),
    "randint": lambda low, high: _range(low, _number(high) + 1),
    "range": _range,
    "round": _rounded,
    "sample": _sequence,
    "Fraction": lambda value, by=1: _divided(value, by),
}
"""`divides(a, b)`: whether b goes into a without rest. `sample` and `randint` are lists, of which one is drawn."""
_OPERATORS: Mapping[type[ast.operator], Callable[[Value, Value], Value]] = {
    ast.Add: _added,
    ast.Sub: _on_numbers(operator.sub),
    ast.Mult: _times,
    ast.Div: _divided,
    ast.FloorDiv: _on_numbers(operator.floordiv),
    ast.Mod: _on_numbers(operator.mod),
    ast.Pow: _power,
}
_COMPARED: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _is_in,
    ast.NotIn: lambda item, items: not _is_in(item, items),
}


@functools.singledispatch
def _compiled(node: ast.AST) -> _Evaluate:
    raise ExpressionError(f"{type(node).__name__} is not part of arithmetic")


@_compiled.register
def _(node: ast.Constant) -> _Evaluate:
    value: Value = node.value
    if isinstance(value, float):
        value = Fraction(repr(value)) if abs(value) < 1e300 else None
    if not isinstance(value, int | Fraction | str):
        raise ExpressionError(f"{node.value!r} is no number")
    return lambda names: value


@_compiled.register
def _(node: ast.Name) -> _Evaluate:
    name = node.id

    def look_up(names: Mapping[str, Value]) -> Value:
        if name not in names:
            raise ExpressionError(f"there is no '{name}'")
        return names[name]

    return look_up


@_compiled.register
def _(node: ast.BinOp) -> _Evaluate:
    if type(node.op) not in _OPERATORS:
        raise ExpressionError(f"{type(node.op).__name__} is not part of arithmetic")
    function, left, right = _OPERATORS[type(node.op)], _compiled(node.left), _compiled(node.right)
    return lambda names: _bounded(function(left(names), right(names)))


@_compiled.register
def _(node: ast.UnaryOp) -> _Evaluate:
    inner = _compiled(node.operand)
    if isinstance(node.op, ast.Not):
        return lambda names: not inner(names)
    if isinstance(node.op, ast.USub):
        return lambda names: -_number(inner(names))
    if isinstance(node.op, ast.UAdd):
        return lambda names: _number(inner(names))
    raise ExpressionError(f"{type(node.op).__name__} is not part of arithmetic")


@_compiled.register
def _(node: ast.BoolOp) -> _Evaluate:
    parts, whole = [_compiled(part) for part in node.values], all if isinstance(node.op, ast.And) else any
    return lambda names: whole(part(names) for part in parts)


@_compiled.register
def _(node: ast.Compare) -> _Evaluate:
    if unknown := next((op for op in node.ops if type(op) not in _COMPARED), None):
        raise ExpressionError(f"{type(unknown).__name__} is not part of arithmetic")
    first, parts = _compiled(node.left), [_compiled(part) for part in node.comparators]
    functions = [_COMPARED[type(op)] for op in node.ops]

    def holds(names: Mapping[str, Value]) -> bool:
        left = first(names)
        for function, part in zip(functions, parts, strict=True):
            right = part(names)
            if not function(left, right):
                return False
            left = right
        return True

    return holds


@_compiled.register
def _(node: ast.IfExp) -> _Evaluate:
    test, yes, no = _compiled(node.test), _compiled(node.body), _compiled(node.orelse)
    return lambda names: yes(names) if test(names) else no(names)


@_compiled.register(ast.List)
@_compiled.register(ast.Tuple)
def _(node: ast.List | ast.Tuple) -> _Evaluate:
    parts = [_compiled(part) for part in node.elts]
    return lambda names: _bounded([part(names) for part in parts])


@_compiled.register
def _(node: ast.Subscript) -> _Evaluate:
    whole, index = _compiled(node.value), _compiled(node.slice)
    return lambda names: _sequence(whole(names))[index(names)]


@_compiled.register
def _(node: ast.Call) -> _Evaluate:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in FUNCTIONS or node.keywords:
        called = name or ast.unparse(node.func)
        raise ExpressionError(f"there is no function '{called}'{suggest(called, FUNCTIONS)}")
    function, parts = FUNCTIONS[name], [_compiled(argument) for argument in node.args]
    try:
        inspect.signature(function).bind(*parts)
    except TypeError as error:
        raise ExpressionError(f"{name}: {error}") from None
    return lambda names: _bounded(function(*(part(names) for part in parts)))
