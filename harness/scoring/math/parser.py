"""Parses mathematical text, LaTeX or plain, into sympy. A small grammar of its own: nothing is ever evaluated as code.

    parse(r"\\frac{1}{2} + \\sqrt{3}")      # Expression
    parse("[1, 2)")                       # Bracketed
    parse(r"\\{1, 2\\}"), parse("1, 2")     # Collection

Decimals are exact fractions. Letters are symbols, `e`, `i` and `\\pi` the constants. `worker.py` runs it.
"""

from __future__ import annotations

import re
from typing import Any

import sympy  # type: ignore[import-untyped]

from harness.quick import dataclass


class MathSyntaxError(ValueError):
    """Text that is no mathematics this grammar knows."""


@dataclass(frozen=True, slots=True)
class Bracketed:
    """Items in brackets, in their order: a point, a vector, an interval. `(1, 2)` may be any of them."""

    opening: str
    closing: str
    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A set, or several answers: the order is nothing. `kind`: `set` (braces), `list`, `alternatives` (with
    an or), `union` or `either` (of ±)."""

    kind: str
    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """`sides[0] operators[0] sides[1] ...`, each operator one of `=`, `<`, `<=`, `!=`, `in`; `>` is turned round."""

    sides: tuple[Any, ...]
    operators: tuple[str, ...]


OTHERWISE = sympy.Symbol("otherwise")
"""The condition of the last piece of a function."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?!\d|,\d)(?:\.\d+)?|(?:\d+\.?\d*|\.\d+)[eE][+-]?\d{1,3}(?![\d.A-Za-z])|\d+\.\d+|\d+|\.\d+)"
    r"|(?P<environment>\\(?:begin|end)\s*\{\s*[A-Za-z]+\*?\s*\})|(?P<command>\\(?:[A-Za-z]+|\\))|(?P<name>[A-Za-z]+)|(?P<operator>\*\*|<=|>=|!=|==|[-+*/^!%=<>|(){}\[\],_&:;']))"
)
_FUNCTIONS = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "asin": sympy.asin, "acos": sympy.acos,
    "atan": sympy.atan, "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "ln": sympy.log, "exp": sympy.exp,
    "log": None, "lg": None, "sqrt": sympy.sqrt, "abs": sympy.Abs, "max": sympy.Max, "min": sympy.Min,
}  # fmt: skip
# C_5^2 and A_5^2 (or P_5^2): combinations and permutations.
_COUNTS = {"C": sympy.binomial, "A": sympy.ff, "P": sympy.ff}
_BOTH_INDICES = r"_(?:\d+|\{\d+\})\^(?:\d+|\{\d+\})"
_INVERSE = {"sin": sympy.asin, "cos": sympy.acos, "tan": sympy.atan}
_GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega", "Gamma",
    "Delta", "Theta", "Lambda", "Xi", "Sigma", "Phi", "Psi", "Omega",
})  # fmt: skip
_RELATIONS = {
    "=": "=", "==": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", r"\le": "<=", r"\leq": "<=",
    r"\leqslant": "<=", r"\ge": ">=", r"\geq": ">=", r"\geqslant": ">=", r"\lt": "<", r"\gt": ">", r"\ne": "!=",
    r"\neq": "!=", r"\in": "in",
}  # fmt: skip
_TIMES = ("*", r"\times", r"\cdot", r"\ast")
_OVER = ("/", r"\div")
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), r"\lbrace": (r"\rbrace",), "{": ("}",)}
# Commands that begin no factor: what follows them is not multiplied.
_NO_FACTOR = frozenset(
    {r"\cup", r"\cap", r"\setminus", r"\backslash", r"\over", r"\pm", r"\rbrace", r"\circ", r"\lor", r"\vee"}
    | {r"\rfloor", r"\rceil", r"\rvert"}
)
_DEPTH = 60


def parse(text: str) -> Any:
    """Return a sympy expression or matrix, `Bracketed`, `Collection` or `Relation`. Raises `MathSyntaxError`."""
    parser = _Parser(_tokens(text))
    value = parser.statement()
    if parser.token is not None:
        raise MathSyntaxError(f"unexpected '{parser.token}'")
    return value


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise MathSyntaxError(f"unexpected '{text[place]}'")
        name = match["name"]
        if name and name not in _FUNCTIONS and name not in ("pi", "infty", "oo", "inf"):
            tokens += _letters(name)
        else:
            tokens.append(re.sub(r"\s+", "", match.group()))
        place = match.end()
    return tokens


def _letters(name: str) -> list[str]:
    """A run of letters is a product of symbols, unless a function begins in it (2sinx, xsqrt)."""
    for function in sorted(_FUNCTIONS, key=len, reverse=True):
        if len(function) > 2 and name.startswith(function):
            return [function, *_letters(name[len(function) :])]
    if len(name) > 3:
        raise MathSyntaxError(f"'{name}' is a word")
    return list(name)


class _Parser:
    """Recursive descent over tokens; each method reads one level of the grammar."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._bars = 0

    @property
    def token(self) -> str | None:
        return self._tokens[self._place] if self._place < len(self._tokens) else None

    def take(self, *expected: str) -> str:
        token = self.token
        if token is None or (expected and token not in expected):
            raise MathSyntaxError(f"expected {' or '.join(expected) or 'more'} instead of '{token}'")
        self._place += 1
        return token

    def accept(self, *tokens: str) -> str | None:
        return self.take() if self.token in tokens else None

    def statement(self) -> Any:
        """A list of relations: `1, 2`, `x = 1, y = 2`, `x = 1 or x = 2`."""
        items, kind = [self.relation()], "list"
        while separator := self.accept(",", ";", r"\lor", r"\vee"):
            kind = "list" if kind == "list" and separator in (",", ";") else "alternatives"
            items.append(self.relation())
        return items[0] if len(items) == 1 else Collection(kind, tuple(items))

    def relation(self) -> Any:
        sides, operators = [self.union()], []
        while self.token in _RELATIONS:
            operators.append(_RELATIONS[self.take()])
            sides.append(self.union())
        if not operators:
            return sides[0]
        if all(operator in (">", ">=") for operator in operators):
            operators = [operator.replace(">", "<") for operator in reversed(operators)]
            sides.reverse()
        return Relation(tuple(sides), tuple(operators))

    def union(self) -> Any:
        items = [self.ratio()]
        while self.accept(r"\cup"):
            items.append(self.ratio())
        value = items[0] if len(items) == 1 else Collection("union", tuple(items))
        return _without(value, self.ratio()) if self.accept(r"\setminus", r"\backslash") else value

    def ratio(self) -> Any:
        """2 : 3, the quotient; 1 : 2 : 3, as multiples of the first."""
        items = [self.sum()]
        if self.accept(r"\over"):
            return _combine("/", items[0], self.sum())
        while self.accept(":"):
            items.append(self.sum())
        if len(items) == 1:
            return items[0]
        quotients = tuple(_combine("/", items[0], item) for item in items[1:])
        return quotients[0] if len(quotients) == 1 else Bracketed("ratio", "ratio", quotients)

    def sum(self) -> Any:
        self._depth += 1
        if self._depth > _DEPTH:
            raise MathSyntaxError("nested too deeply")
        value = self._signed()
        while (operator := self.accept("+", "-", r"\pm")) is not None:
            right = self.product()
            value = _plus_minus(value, right) if operator == r"\pm" else _combine(operator, value, right)
        self._depth -= 1
        return value

    def _signed(self) -> Any:
        sign = self.accept("+", "-", r"\pm")
        value = self._signed() if sign else self.product()
        if sign == r"\pm":
            return _plus_minus(sympy.Integer(0), value)
        return _combine("*", sympy.Integer(-1), value) if sign == "-" else value

    def product(self) -> Any:
        value = self.power()
        while True:
            if self.accept(*_TIMES):
                value = _combine("*", value, self._factor())
            elif self.accept(*_OVER):
                value = _combine("/", value, self._factor())
            elif self._starts_factor():
                value = self._adjacent(value)
            else:
                return value

    def _factor(self) -> Any:
        """What stands after * or /, where a sign may."""
        if self.accept("-"):
            return _combine("*", sympy.Integer(-1), self._factor())
        self.accept("+")
        return self.power()

    def _adjacent(self, value: Any) -> Any:
        """What follows without an operator: a factor, or the fraction of a mixed number (1 1/2, 1\\frac{1}{2})."""
        whole = self._place > 0 and self._tokens[self._place - 1].isdigit() and isinstance(value, sympy.Integer)
        if whole and self.token in (r"\frac", r"\dfrac", r"\tfrac"):
            return self.postfix(_combine("+", value, self.primary()))
        if whole and self.token is not None and self.token.isdigit():
            above = sympy.Integer(int(self.take()))
            self.take("/")
            below = self.take()
            if not below.isdigit():
                raise MathSyntaxError("two numbers without an operator")
            return value + above / sympy.Integer(int(below))
        return _combine("*", value, self.power())

    def _starts_factor(self) -> bool:
        token = self.token
        if token is None or token in _RELATIONS or token in _TIMES or token in _OVER:
            return False
        if token == "|":
            return self._bars == 0
        if token[0].isdigit() or token[0] == ".":
            return self._tokens[self._place - 1].isdigit()
        named = token[1:].isalpha() or token.startswith(r"\begin")
        return token[0].isalpha() or token in ("(", "{", "[") or (named and token not in _NO_FACTOR)

    def power(self) -> Any:
        value = self.postfix(self.primary())
        if self.accept("^", "**"):
            if self.accept(r"\circ"):
                return self.postfix(_degrees(value))
            exponent = self._argument() if self.token == "{" else self._exponent()
            value = self.postfix(_combine("^", value, exponent))
        return value

    def _exponent(self) -> Any:
        if self.accept("-"):
            return _combine("*", sympy.Integer(-1), self._exponent())
        return self.power()

    def postfix(self, value: Any) -> Any:
        while True:
            if self.accept("!"):
                value = sympy.factorial(_expression(value), evaluate=bool(value.is_Integer and value < 1000))
            elif self.accept("%"):
                value = _expression(value) / 100
            elif self.token == "^" and self._tokens[self._place + 1 : self._place + 2] == [r"\circ"]:
                self._place += 2
                value = _degrees(value)
            elif self.token == "^" and self._tokens[self._place + 1 : self._place + 4] == ["{", r"\circ", "}"]:
                self._place += 4
                value = _degrees(value)
            else:
                return value

    def primary(self) -> Any:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            value = sympy.Rational(token.replace(",", ""))
            return self._in_base(token) if token.isdigit() and self.accept("_") else value
        if token in _CLOSING:
            return self._brackets(token)
        if token == "|":
            return self._absolute()
        if token.lstrip("\\") in _FUNCTIONS:
            return self._function(token.lstrip("\\"), plain=not token.startswith("\\"))
        if token.startswith("\\"):
            return self._command(token[1:])
        if token.isalpha():
            return self._symbol(token)
        raise MathSyntaxError(f"unexpected '{token}'")

    def _in_base(self, digits: str) -> Any:
        """10101_2, 2516_{8}"""
        base = self._argument()
        if not (isinstance(base, sympy.Integer) and 2 <= base <= 16 and all(int(digit) < base for digit in digits)):
            raise MathSyntaxError("an index that is no base of a number")
        return sympy.Integer(int(digits, int(base)))

    def _conditions(self, opening: str) -> Any:
        """What follows `{x |`: one condition on x, or several."""
        self._place += 2
        value = self.statement()
        self.take(*_CLOSING[opening])
        return value

    def _brackets(self, opening: str) -> Any:
        ahead = self._tokens[self._place : self._place + 2]
        if opening in (r"\lbrace", "{") and len(ahead) == 2 and ahead[0].isalpha() and ahead[1] in ("|", r"\mid", ":"):
            return self._conditions(opening)
        bars, self._bars = self._bars, 0
        items: list[Any] = []
        while self.token not in _CLOSING[opening]:
            items.append(self.relation())
            if not self.accept(",", ";", r"\lor"):
                break
        closing = self.take(*_CLOSING[opening])
        self._bars = bars
        if opening == r"\lbrace" or (opening == "{" and len(items) > 1):
            return Collection("set", tuple(dict.fromkeys(items)))
        if len(items) == 1 and (opening, closing) in (("(", ")"), ("{", "}"), ("[", "]")):
            return items[0]
        return Bracketed(opening, closing, tuple(items))

    def _absolute(self) -> Any:
        self._bars += 1
        value = self.sum()
        self._bars -= 1
        self.take("|")
        return sympy.Abs(_expression(value))

    def _function(self, name: str, plain: bool) -> Any:
        if name == "sqrt":
            # \sqrt12 is the root of 1, times 2; in plain text √12 is the root of 12.
            return sympy.sqrt(_expression(self.primary())) if plain else self._root()
        base = sympy.Integer(10) if name == "lg" else None
        if name == "log" and self.accept("_"):
            base = _expression(self._argument())
        exponent = None
        if self.accept("^"):
            exponent = _expression(self._argument())
        if name in ("max", "min"):
            self.take("(", r"\lbrace")
            self._place -= 1
            value = self.primary()
            items = value.items if isinstance(value, Bracketed | Collection) else (value,)
            return _FUNCTIONS[name](*map(_expression, items))
        argument = _expression(self._function_argument())
        if exponent == -1 and name in _INVERSE:
            return _INVERSE[name](argument)
        argument = argument.subs(sympy.Symbol("degree", positive=True), sympy.pi / 180)
        if name in ("log", "lg"):
            below = sympy.Symbol("log_base", positive=True) if base is None else sympy.log(base)
            value = sympy.log(argument) / below
        else:
            value = _FUNCTIONS[name](argument)
        return value if exponent is None else value**exponent

    def _function_argument(self) -> Any:
        """`(...)`, or a product of what follows: sin 2x, arctan \\frac{12}{5}; not the next function."""
        if self.token == "(":
            return self.primary()  # sin(x)^2 is the square of the sine
        if self.token in ("{", "|"):
            return self.power()
        value = self.power()
        while self._starts_factor() and self.token is not None and self.token.lstrip("\\") not in _FUNCTIONS:
            value = _combine("*", value, self.power())
        return value

    def _root(self) -> Any:
        degree = sympy.Integer(2)
        if self.accept("["):
            degree = _expression(self.sum())
            self.take("]")
        argument = _expression(self._argument())
        if degree.is_Integer and degree % 2 == 1 and argument.is_number and argument.is_negative:
            return -sympy.Pow(-argument, 1 / degree)  # the real root
        return sympy.Pow(argument, 1 / degree)

    def _argument(self) -> Any:
        """An argument of a command: `{...}`, or a single token, of a number its first digit (\\frac34)."""
        token = self.token
        if token is not None and token.isdigit() and len(token) > 1:
            self._tokens[self._place : self._place + 1] = list(token)
        return self.primary()

    def _command(self, name: str) -> Any:
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            above = self._argument()
            return _combine("/", above, self._argument())
        if name in ("binom", "dbinom", "tbinom"):
            above = _expression(self._argument())
            return sympy.binomial(above, _expression(self._argument()))
        if name in ("infty", "pi"):
            return sympy.oo if name == "infty" else sympy.pi
        if name in ("emptyset", "varnothing"):
            return Collection("set", ())
        if name.startswith("begin{"):
            return self._matrix(name[6:-1])
        if name in ("lvert", "lfloor", "lceil"):
            value = _expression(self.sum())
            self.take({"lvert": r"\rvert", "lfloor": r"\rfloor", "lceil": r"\rceil"}[name])
            return {"lvert": sympy.Abs, "lfloor": sympy.floor, "lceil": sympy.ceiling}[name](value)
        if name == "mathbb":
            return sympy.Symbol(f"set of {self._argument()}")
        if name == "otherwise":
            return OTHERWISE
        if name == "approx":
            return self.sum()
        if name in ("overline", "vec", "hat", "bar"):
            return self._argument()
        if name in _GREEK:
            return self._symbol(name)
        raise MathSyntaxError(f"unknown command '\\{name}'")

    def _matrix(self, kind: str) -> Any:
        if kind == "cases":
            return self._cases()
        if kind not in ("matrix", "pmatrix", "bmatrix", "vmatrix", "Bmatrix", "smallmatrix", "array"):
            raise MathSyntaxError(f"unknown environment '{kind}'")
        if kind == "array" and self.token == "{":
            while self.take() != "}":
                pass
        end = f"\\end{{{kind}}}"
        rows: list[list[Any]] = [[]]
        while self.token != end:
            rows[-1].append(_expression(self.sum()))
            if self.accept("\\\\"):
                rows += [[]] if self.token != end else []
            elif self.token != end:
                self.take("&")
        self.take(end)
        if len({len(row) for row in rows}) != 1:
            raise MathSyntaxError("a matrix with rows of different lengths")
        matrix = sympy.ImmutableMatrix(rows)
        return matrix.det() if kind == "vmatrix" else matrix

    def _cases(self) -> Any:
        """Equations one below the other, or a function in pieces: values with their conditions."""
        rows: list[list[Any]] = [[]]
        while self.token != r"\end{cases}":
            rows[-1].append(self.relation())
            while self.accept(",", ";", "&"):
                pass
            if self.accept("\\\\"):
                rows.append([])
        self.take()
        rows = [row for row in rows if row]
        if all(
            len(row) == 2 and not isinstance(row[0], Relation) and (isinstance(row[1], Relation) or row[1] == OTHERWISE)
            for row in rows
        ):
            return Collection("pieces", tuple(Bracketed("piece", "piece", tuple(row)) for row in rows))
        return Collection("list", tuple(item for row in rows for item in row))

    def _symbol(self, name: str) -> Any:
        if name in _COUNTS and re.match(_BOTH_INDICES, "".join(self._tokens[self._place : self._place + 8])):
            self.take("_")
            total = self._argument()
            self.take("^")
            return _COUNTS[name](total, self._argument())
        if name in ("pi", "infty", "oo", "inf"):
            return sympy.pi if name == "pi" else sympy.oo
        if name in ("e", "i"):
            return sympy.E if name == "e" else sympy.I
        if self.accept("_"):
            index = self._argument()
            name = f"{name}_{index}"
        while self.accept("'"):
            name += "'"
        return sympy.Symbol(name)


def _expression(value: Any) -> Any:
    if isinstance(value, sympy.Basic) and not isinstance(value, sympy.MatrixBase):
        return value
    raise MathSyntaxError("a list or a relation where a number should be")


def _combine(operator: str, left: Any, right: Any) -> Any:
    for value, swapped in ((left, False), (right, True)):
        if isinstance(value, Collection) and value.kind == "either":
            pairs = ((left, item) if swapped else (item, right) for item in value.items)
            return Collection("either", tuple(_combine(operator, *pair) for pair in pairs))
    matrices = isinstance(left, sympy.MatrixBase) or isinstance(right, sympy.MatrixBase)
    if isinstance(left, Bracketed | Collection | Relation) or isinstance(right, Bracketed | Collection | Relation):
        raise MathSyntaxError("a list or a relation where a number should be")
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if matrices and operator == "/" and isinstance(right, sympy.MatrixBase):
        raise MathSyntaxError("division by a matrix")
    if operator == "/":
        if right == 0:
            raise MathSyntaxError("division by zero")
        return left / right
    return left**right


def _without(value: Any, taken: Any) -> Any:
    """R \\setminus {1, 2} and R \\setminus [1, 2]: the intervals that are left of one."""
    if not isinstance(value, Bracketed) or len(value.items) != 2:
        raise MathSyntaxError("something else than an interval from which something is taken")
    if isinstance(taken, Collection) and taken.kind == "set":
        cuts = [Bracketed("[", "]", (item, item)) for item in taken.items]
    else:
        cuts = [taken] if isinstance(taken, Bracketed) and len(taken.items) == 2 else []
    ends = [_expression(end) for cut in (value, *cuts) for end in cut.items]
    if not cuts or not all(end.is_extended_real and end.is_number for end in ends):
        raise MathSyntaxError("something that cannot be taken from an interval")
    parts, (opening, start) = [], (value.opening, value.items[0])
    for cut in sorted(cuts, key=lambda cut: cut.items[0]):
        parts.append(Bracketed(opening, ")" if cut.opening == "[" else "]", (start, cut.items[0])))
        opening, start = "(" if cut.closing == "]" else "[", cut.items[1]
    parts.append(Bracketed(opening, value.closing, (start, value.items[1])))
    return Collection("union", tuple(part for part in parts if part.items[0] < part.items[1]))


def _plus_minus(left: Any, right: Any) -> Collection:
    left, right = _expression(left), _expression(right)
    return Collection("either", (left + right, left - right))


def _degrees(value: Any) -> Any:
    """An angle in degrees stays its number, with a mark: `equality.py` compares it as the number and as the angle."""
    return _expression(value) * sympy.Symbol("degree", positive=True)
