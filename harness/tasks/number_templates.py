"""A question with its numbers marked, from which the same question with other numbers is made.

    {name, Lin} has {n, 3} boxes of {k, 4} pens and loses {m, 2}. How many are left?
    #init:
    - $n = range(2, 20)
    - $k = range(2, 12)
    - $m = range(1, 10)
    #conditions:
    - m < n * k
    #answer: n * k - m

This is the form of the templates of GSM-Symbolic (I. Mirzadeh et al., arXiv:2410.05229). What stands behind the comma
is the question's own; `$` marks what is drawn, and all else keeps what it is in the question. A list that is not known
here (`sample(fractions)`) leaves its number as it is, too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction

from harness.errors import suggest
from harness.quick import dataclass
from harness.tasks.expressions import Expression, ExpressionError, Value, number_in, shown_number

MOST_CHARACTERS = 50_000
MOST_DRAWS = 20_000
"""Draws after which it is given up that numbers meet the conditions."""
_SECTION = re.compile(r"^[ \t]*#[ \t]*(init|conditions|answer)[ \t]*[:=]?", re.MULTILINE)
_PIECE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[^\W\d]\w*")
_SMALL = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_PARTS = {2: ("half", "a half", "one-half"), 3: ("a third", "one-third", "one third"), 4: ("a quarter", "one-quarter")}
_TIMES = {2: ("double", "twice", "two times"), 3: ("triple", "three times"), 4: ("four times",), 5: ("five times",)}
_WORDS: Mapping[str, Value] = {
    **{word: number for number, word in enumerate(_SMALL, 1)},
    **dict(zip(_TENS, range(20, 100, 10), strict=True)),
    **{word: Fraction(1, number) for number, several in _PARTS.items() for word in several},
    **{word: number for number, several in _TIMES.items() for word in several},
}
"""Numbers that templates write as words."""


class TemplateError(ValueError):
    """Why a template cannot be used."""


class NoNumbersError(ValueError):
    """Why no numbers were found."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Names, and the list that one of each is drawn from, or what they are where it is no list."""

    names: tuple[str, ...]
    source: Expression

    def values(self, known: Mapping[str, Value], generator: random.Random) -> Iterator[tuple[str, Value]]:
        """Raises `ExpressionError`."""
        found = self.source.value(known)
        if isinstance(found, list | tuple | range):
            if not found:
                raise ExpressionError(f"{self.source.source}: nothing to draw from")
            if self.source.function == ("sample", 2):
                found = [found[place] for place in generator.sample(range(len(found)), len(self.names))]
            else:
                found = found[generator.randrange(len(found))]
        several = found if len(self.names) > 1 else [found]
        if not isinstance(several, list | tuple) or len(several) != len(self.names):
            raise ExpressionError(f"{self.source.source}: does not give {len(self.names)} values")
        yield from zip(self.names, several, strict=True)


def drawn_numbers(
    draws: Sequence[Draw],
    conditions: Sequence[Expression],
    known: Mapping[str, Value],
    generator: random.Random,
) -> Iterator[dict[str, Value]]:
    """All names with new numbers that meet the conditions, again and again. Raises `NoNumbersError` in the end."""
    problem = ""
    for _ in range(MOST_DRAWS):
        values = dict(known)
        try:
            for draw in draws:
                values.update(draw.values(values, generator))
            if all(condition.value(values) for condition in conditions):
                yield values
        except (ExpressionError, ValueError) as error:
            problem = f" ({error})"
    raise NoNumbersError(f"no other numbers meet the conditions in {MOST_DRAWS:,} draws{problem}")


@dataclass(frozen=True, slots=True)
class NumberTemplate:
    """pieces: the question, as texts and what stands in braces. own: what the braces have in the question itself."""

    pieces: tuple[str | Expression, ...]
    own: Mapping[str, Value]
    shown: Mapping[str, str]
    draws: tuple[Draw, ...]
    conditions: tuple[Expression, ...]
    answer: Expression

    def question(self, values: Mapping[str, Value]) -> str:
        """The question with these values; one that is as it was is written as it was. Raises `ExpressionError`."""
        parts = []
        for piece in self.pieces:
            if isinstance(piece, str):
                parts.append(piece)
            elif piece.source in self.shown and values[piece.source] == self.own[piece.source]:
                parts.append(self.shown[piece.source])
            else:
                parts.append(shown_number(piece.value(values)))
        return "".join(parts)


def read_template(text: str) -> NumberTemplate:
    """Raises `TemplateError`."""
    try:
        return _read(text)
    except ExpressionError as error:
        raise TemplateError(str(error)) from None


def _read(text: str) -> NumberTemplate:
    if len(text) > MOST_CHARACTERS:
        raise TemplateError(f"a template of {len(text):,} characters; {MOST_CHARACTERS:,} are the most")
    question, sections = _sections(text)
    marked = list(_marked(question))
    if any(isinstance(piece.expression, str) and set("{}") & set(piece.expression) for piece in marked):
        raise TemplateError("a brace stands alone in its question")
    shown = {piece.name: piece.own for piece in reversed(marked) if piece.name}  # at its first place
    own = {name: _own_value(text) for name, text in shown.items()}
    draws: list[Draw] = []
    for line in sections["init"]:
        draws += _draws(line, own, {name for draw in draws for name in draw.names})
    if len(sections["answer"]) != 1:
        raise TemplateError("it has no '#answer:'" if not sections["answer"] else "its answer is several lines")
    answer = Expression(sections["answer"][0].strip().removeprefix("{").removesuffix("}").removeprefix("$"))
    conditions = tuple(map(Expression, sections["conditions"]))
    if not draws:
        raise TemplateError("none of its numbers is drawn from a list that is known here")
    drawn = {name for draw in draws for name in draw.names}
    if other := next((piece for piece in marked if piece.name in drawn and piece.own != shown[piece.name]), None):
        raise TemplateError(f"'{other.name}' is '{shown[other.name]}' at one place and '{other.own}' at another")
    # Words keep the form that they have at their place.
    pieces = tuple(piece.own if piece.name not in drawn and piece.name else piece.expression for piece in marked)
    for expression in (answer, *conditions, *(piece for piece in pieces if isinstance(piece, Expression))):
        if unknown := sorted(expression.names - drawn - own.keys()):
            raise TemplateError(f"{expression.source}: there is no '{unknown[0]}'{suggest(unknown[0], own)}")
    return NumberTemplate(pieces, own, shown, tuple(draws), conditions, answer)


def _sections(text: str) -> tuple[str, dict[str, list[str]]]:
    """The question, and the lines of each part behind it, without their dashes."""
    marks = list(_SECTION.finditer(text))
    sections: dict[str, list[str]] = {"init": [], "conditions": [], "answer": []}
    ends = [*(mark.start() for mark in marks), len(text)]
    for mark, end in zip(marks, ends[1:], strict=True):
        lines = (line.strip().removeprefix("- ").strip() for line in text[mark.end() : end].splitlines())
        sections[mark[1]] += [line for line in lines if line]
    return text[: ends[0]].strip(), sections


def pieces_of(text: str) -> tuple[str | Expression, ...]:
    """A text cut at its braces: texts, and the expressions in braces. Raises `ExpressionError`."""
    return tuple(piece.expression for piece in _marked(text) if piece.expression != "")


@dataclass(frozen=True, slots=True)
class _Marked:
    """A piece of a question: a text, or braces. name, own: of `{name, own}`; else empty."""

    expression: str | Expression
    name: str = ""
    own: str = ""


def _marked(question: str) -> Iterator[_Marked]:
    """The question cut at its braces."""
    end = 0
    for match in _PIECE.finditer(question):
        yield _Marked(question[end : match.start()])
        name, comma, own = (part.strip() for part in match[1].partition(","))
        if comma and _NAME.fullmatch(name):
            yield _Marked(Expression(name), name, own)
        else:
            yield _Marked(Expression(match[1]))
        end = match.end()
    yield _Marked(question[end:])


def _own_value(text: str) -> Value:
    number = number_in(text)
    return _WORDS.get(text.lower(), text) if number is None else number


def _draws(line: str, own: Mapping[str, Value], drawn: Collection[str]) -> Iterator[Draw]:
    """What a line of `#init` draws; nothing where it leaves its names as they are in the question."""
    targets, equals, source = line.partition("=")
    if not equals:
        raise TemplateError(f"'{line}' says nothing of the form '$n = range(2, 10)'")
    names = tuple(name.strip().removeprefix("$").strip() for name in targets.split(","))
    if "$" not in targets:
        return
    try:
        draw = Draw(names, Expression(source))
        if unknown := sorted(draw.source.names - own.keys() - set(drawn)):
            raise ExpressionError(f"{source.strip()}: the list '{unknown[0]}' is not known here")
    except ExpressionError:
        if not all(isinstance(own.get(name), int | Fraction) for name in names):
            raise
    else:
        yield draw
