"""Parses LaTeX as CDM does, whose authors use KaTeX 0.6 with changes of their own.

    Parser("x^2").parse()     # [a "supsub" of x, nothing and 2]

The rules are those of opendatalab/UniMERNet, `cdm/modules/tokenize_latex/third_party/katex/src`, oddities included:
what is unknown is a letter, a second superscript replaces the first, `\\rm` reaches to the end of its group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from harness.scoring.official.cdm.names import (
    ACCENTS,
    BINOMIALS,
    DELIMITER_SIZES,
    DELIMITERS,
    ENVIRONMENTS,
    FONT_NAMES,
    FONTS,
    FRACTIONS,
    FUNCTIONS,
    INFIX,
    LARGE,
    LIMITS,
    MATRICES,
    NO_LIMITS,
    SIZES,
    SPACES,
    SPACES_IN_TEXT,
    STYLES,
    TEXTS,
    WHOLE_IN_MATHS,
    WHOLE_IN_TEXT,
    Function,
)

_TOKEN = re.compile(
    r"(?P<space>[ \r\n\t]+)|(?P<token>---?|[!-\[\]-\u2027\u202a-\ud7ff\uf900-\uffff\U00010000-\U0010ffff]"
    r"|\\(?:[a-zA-Z]+|[^\ud800-\udfff\U00010000-\U0010ffff]))"
)
_COLOUR = re.compile(r"#[a-z0-9]+|[a-z]+", re.IGNORECASE)
_SIZE = re.compile(r"-?\s*(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*[a-z]{2}")
_END = "end of input"
_ENDS_EXPRESSION = frozenset({"}", "\\end", "\\right", "&", "\\\\", "\\cr"})
_OLD_MATRICES = frozenset({"\\matrix", "\\pmatrix", "\\cases"})


class Unparsable(Exception):
    """KaTeX does not parse it; CDM then takes the formula as it stands."""


@dataclass(slots=True)
class FormulaNode:
    """A part of a formula. kind: as KaTeX has it, but "whole" for all symbols that are no letters."""

    kind: str
    value: Any


_Found = FormulaNode | str | None
"""What stands at a place: a node, the name of a function whose arguments are still to come, or nothing."""


class Parser:
    """One formula's parser. `consumed` are the tokens in the order in which they were read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._mode = "math"
        self._place = 0
        self._next, self._behind = self._lex(0, "math")
        self.consumed: list[str] = []

    def parse(self) -> list[FormulaNode]:
        """The parts of the whole formula. Raises `Unparsable`."""
        try:
            parts = self._expression()
        except RecursionError:
            raise Unparsable("too deep") from None
        self._expect(_END)
        return parts

    def _lex(self, place: int, mode: str) -> tuple[str, int]:
        """The next token from a place on, and where it ends."""
        if mode in ("color", "size"):
            place += len(self._text[place:]) - len(self._text[place:].lstrip())
            match = (_COLOUR if mode == "color" else _SIZE).match(self._text, place)
            if match is None:
                raise Unparsable(mode)
            return match[0], match.end()
        if place == len(self._text):
            return _END, place
        match = _TOKEN.match(self._text, place)
        if match is None:
            raise Unparsable(self._text[place])
        if match["token"]:
            return match["token"], match.end()
        return self._lex(match.end(), mode) if mode == "math" else (" ", match.end())

    def _consume(self) -> None:
        self.consumed.append(self._next)
        self._place = self._behind
        self._next, self._behind = self._lex(self._place, self._mode)

    def _expect(self, token: str) -> None:
        if self._next != token:
            raise Unparsable(f"{token} expected, not {self._next}")
        if token != _END:
            self._consume()

    def _expression(self, *, before_infix: bool = False, until: str = "") -> list[FormulaNode]:
        body: list[FormulaNode] = []
        while self._next not in _ENDS_EXPRESSION and self._next != until:
            place, token, behind = self._place, self._next, self._behind
            atom = self._atom()
            if atom is None:
                break
            if before_infix and atom.kind == "infix":
                self._place, self._next, self._behind = place, token, behind
                break
            body.append(atom)
        return self._fractions(body)

    def _fractions(self, body: list[FormulaNode]) -> list[FormulaNode]:
        """{a \\over b} as \\frac{a}{b}."""
        places = [index for index, node in enumerate(body) if node.kind == "infix"]
        if not places:
            return body
        if len(places) > 1:
            raise Unparsable("two infix operators")
        halves = body[: places[0]], body[places[0] + 1 :]
        above, below = (
            half[0] if len(half) == 1 and half[0].kind == "ordgroup" else FormulaNode("ordgroup", half)
            for half in halves
        )
        return [FormulaNode("genfrac", (body[places[0]].value, above, below))]

    def _atom(self) -> FormulaNode | None:
        base = self._implicit_group()
        if self._mode == "text":
            return base
        above = below = None
        while True:
            if self._next in ("\\limits", "\\nolimits"):
                if base is None or base.kind != "op":
                    raise Unparsable("limits of what is no operator")
                base.value = (base.value[0], self._next == "\\limits", base.value[2])
                self._consume()
            elif self._next == "^":
                above = self._script()
            elif self._next == "_":
                below = self._script()
            elif self._next == "'":
                primes = []
                while self._next == "'":
                    primes.append(FormulaNode("whole", "\\prime"))
                    self._consume()
                above = FormulaNode("ordgroup", primes)
            else:
                break
        return base if above is None and below is None else FormulaNode("supsub", (base, below, above))

    def _script(self) -> FormulaNode | None:
        self._consume()
        found = self._group()
        if isinstance(found, str):
            if FUNCTIONS[found].binds <= 1:
                raise Unparsable(f"{found} as a script")
            return self._call(found)
        return found

    def _implicit_group(self) -> FormulaNode | None:
        """What begins here, with all that it reaches to without braces: \\left to \\right, \\rm to the group's end."""
        start = self._symbol()
        if start is None:
            found = self._group()
            return self._call(found) if isinstance(found, str) else found
        if isinstance(start, FormulaNode):
            if start.value in _OLD_MATRICES:
                self._expect("{")
                node = self._environment(start.value[1:], None)
                self._expect("}")
                return node
            return start
        if start == "\\left":
            left = self._call(start).value
            body = self._expression()
            if self._next != "\\right":
                raise Unparsable("\\right expected")
            self._consume()
            return FormulaNode("leftright", (left, body, self._call("\\right").value))
        if start == "\\begin":
            return self._begun()
        if start in SIZES:
            return FormulaNode("sizing", (start, self._expression()))
        if start in STYLES:
            return FormulaNode("styling", (start, self._expression(before_infix=True)))
        return self._call(start)

    def _begun(self) -> FormulaNode:
        name = self._call("\\begin").value
        self._join_name(name)
        if name not in ENVIRONMENTS:
            raise Unparsable(f"environment {name}")
        columns = None
        if name in ("array", "tabular"):
            (columns,) = self._arguments(Function(("",)))
            if columns is None:
                raise Unparsable("no columns")
        node = self._environment(name, columns)
        if self._next != "\\end":
            raise Unparsable("\\end expected")
        self._consume()
        end = self._call("\\end").value
        self._join_name(name)
        if end != name:
            raise Unparsable(f"{name} ended by {end}")
        return node

    def _join_name(self, name: str) -> None:
        """The name of an environment as one token with its closing brace."""
        read = "".join(f" {token}" for token in self.consumed)
        self.consumed = f"{read[: max(0, len(read) - 2 * len(name) - 2)]}{name}}}".split(" ")[1:]

    def _environment(self, name: str, columns: FormulaNode | None) -> FormulaNode:
        rows: list[list[FormulaNode]] = [[]]
        while True:
            rows[-1].append(FormulaNode("ordgroup", self._expression()))
            if self._next == "&":
                self._consume()
            elif self._next in ("\\end", "}"):
                break
            elif self._next in ("\\\\", "\\cr"):
                token = self._next
                self._consume()
                self._call(token)
                rows.append([])
            else:
                raise Unparsable("& or \\\\ or \\end expected")
        if columns is not None:
            stated = columns.value if isinstance(columns.value, list) else [columns]
            # JavaScript: an empty list is the empty string, which "lcr" holds, too.
            alignments = [" " if node.value == [] else node.value for node in stated]
            return FormulaNode("array", ([each for each in alignments if each in (" ", "l", "c", "r")], rows))
        if name in ("cases", "picture"):
            return FormulaNode("leftright", ("\\{", [FormulaNode("array", (["l", "l"], rows))], "."))
        if name == "aligned":
            width = max(map(len, rows))
            for row in rows:
                for cell in row[1::2]:
                    cell.value.insert(0, FormulaNode("ordgroup", []))
            return FormulaNode("array", (["rl"[column % 2] for column in range(width)], rows))
        array = FormulaNode("array", (["l"] * len(rows[0]), rows))
        delimiters = MATRICES[name]
        return array if delimiters is None else FormulaNode("leftright", (delimiters[0], [array], delimiters[1]))

    def _group(self) -> _Found:
        if self._next != "{":
            return self._symbol()
        self._consume()
        parts = self._expression()
        self._expect("}")
        return FormulaNode("ordgroup", parts)

    def _optional_group(self) -> FormulaNode | None:
        if self._next != "[":
            return None
        self._consume()
        parts = self._expression(until="]")
        self._expect("]")
        return FormulaNode("ordgroup", parts)

    def _symbol(self) -> _Found:
        token = self._next
        if token in FUNCTIONS:
            self._consume()
            return token
        whole, spaces = (WHOLE_IN_MATHS, SPACES) if self._mode == "math" else (WHOLE_IN_TEXT, SPACES_IN_TEXT)
        if token in (_END, "{") and token not in whole:
            return None
        self._consume()
        return FormulaNode("spacing" if token in spaces else "whole" if token in whole else "mathord", token)

    def _arguments(self, function: Function) -> list[FormulaNode | None]:
        arguments: list[FormulaNode | None] = []
        node: FormulaNode | None = None
        for index, kind in enumerate(function.arguments):
            optional = index < function.optional
            found = self._special_group(kind, optional=optional) if kind else None
            if not kind:
                found = self._optional_group() if optional else self._group()
            if found is None:
                if not optional:
                    raise Unparsable("an argument expected")
                arguments.append(None)
                continue
            if isinstance(found, FormulaNode):
                node = found
            elif FUNCTIONS[found].binds > function.binds:
                node = self._call(found)
            # Else the argument before stands for it, as in JavaScript the variable keeps its value.
            arguments.append(node)
        return arguments

    def _special_group(self, kind: str, *, optional: bool) -> _Found:
        outer = self._mode
        if kind in ("color", "size"):
            opening, closing = "[]" if optional else "{}"
            if optional and self._next != opening:
                return None
            self._mode = kind
            self._expect(opening)
            value = self._next
            self._mode = outer
            self._consume()
            self._expect(closing)
            return FormulaNode(kind, value)
        self._place += len(self._text[self._place :]) - len(self._text[self._place :].lstrip())
        self._mode = "text"
        self._next, self._behind = self._lex(self._place, "text")
        found = self._group()
        self._mode = outer
        self._next, self._behind = self._lex(self._place, outer)
        return found

    def _call(self, name: str) -> FormulaNode:
        arguments = self._arguments(FUNCTIONS[name])
        if name in INFIX:
            return FormulaNode("infix", INFIX[name])
        if name in NO_LIMITS or name in LIMITS:
            return FormulaNode("op", (name, name in LIMITS, False))
        if name in FRACTIONS or name in BINOMIALS:
            return FormulaNode("genfrac", ("\\frac" if name in FRACTIONS else "\\binom", *arguments))
        if name in FONTS:
            return FormulaNode("font", (FONT_NAMES.get(name, name[1:]), arguments[0]))
        if name in ACCENTS:
            return FormulaNode("accent", (name, arguments[0]))
        if name in LARGE:
            return FormulaNode("op", (name, False, True))
        if not arguments or name in ("\\\\", "\\cr"):
            return FormulaNode("unprintable", None)
        last = arguments[-1]
        if last is None:
            raise Unparsable(f"{name} of nothing")
        if name in TEXTS or name == "\\phantom":
            return FormulaNode(
                "text" if name in TEXTS else "phantom", last.value if last.kind == "ordgroup" else [last]
            )
        if name in ("\\begin", "\\end"):
            if last.kind != "ordgroup":
                raise Unparsable("no name of an environment")
            return FormulaNode("environment", "".join(str(part.value) for part in last.value))
        if name in ("\\left", "\\right"):
            return FormulaNode("delimiter", _delimiter(last))
        if name in DELIMITER_SIZES:
            return FormulaNode("delimsizing", (name, _delimiter(last)))
        return FormulaNode(name[1:], arguments)


def _delimiter(node: FormulaNode) -> str:
    if not isinstance(node.value, str) or node.value not in DELIMITERS:
        raise Unparsable("no delimiter")
    return node.value
