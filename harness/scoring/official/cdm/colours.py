r"""Gives each token of a formula a colour of its own, by which it is found again in the picture.

    coloured(r"x^2").tokens      # ["x", "2"]
    coloured(r"x^2").latex       # \mathcolor[RGB]{0,0,15}{x} ^ { \mathcolor[RGB]{0,0,30}{2} }

As `cdm/modules/latex_processor.py` and `latex2bbox_color.py` of OmniDocBench 1.5 (`metrics/cdm`) do it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from harness.quick import dataclass
from harness.scoring.official.cdm.katex import Unparsable
from harness.scoring.official.cdm.names import name_group
from harness.scoring.official.cdm.tokenise import tokenised

COLOUR_STEP = 15
_STEPS = 255 // COLOUR_STEP + 1
COLOURS = 5800
"""Tokens beyond so many have none, and LaTeX stumbles over them."""
_MARKED = "<color_{}>"

_INVISIBLE = frozenset({"\\", "\\\\", "&", "$", "~", "\\,", "\\!", *name_group("invisible")})
_INVISIBLE_KINDS = re.compile(
    r"\{|\}|[\[\]]|\\begin\{.*?\}|\\end\{.*?\}|\^|\_|\\.*rule.*|\\.*line.*|\[[\-.0-9]+[epm][xtm]\]"
)
_NOT_SHOWN = name_group("not_shown")
_FRACTIONS = frozenset({"\\frac", "\\binom"})
_STACKS = frozenset({"\\overset", "\\underset", "\\stackrel"})
_ARROWS_AND_ROOTS = frozenset({"\\xrightarrow", "\\xleftarrow", "\\sqrt"})
_ACCENTS, _FONTS = name_group("coloured_accents"), name_group("fonts_without_colour")
_SPELT = {
    **dict.fromkeys(("\\ldots", "\\cdots", "\\dots", "\\dotsb"), ". . ."),
    **{f"\\{name}": f"\\mathrm {{ {' '.join(name)} }}" for name in ("log", "exp", "sin", "cos", "tan", "tanh", "cosh")},
    "\\sinh": "\\mathrm { s i n h }",
}


@dataclass(frozen=True, slots=True)
class Coloured:
    """A formula to be drawn. tokens: those that have a colour, the one of `colour(index)`."""

    latex: str
    tokens: tuple[str, ...]


def colour(index: int) -> tuple[int, int, int]:
    """Red, green and blue of the token at an index: neither black, nor white, nor another one's."""
    number = index + 1
    return (
        number // _STEPS**2 * COLOUR_STEP,
        number // _STEPS % _STEPS * COLOUR_STEP,
        number % _STEPS * COLOUR_STEP,
    )


def coloured(latex: str) -> Coloured | None:
    """A formula with a colour for each token; None where its braces do not match, or no file can hold it."""
    if any("\ud800" <= letter <= "\udfff" for letter in latex):
        return None
    latex = latex.replace("\n", " ").replace("\\%", "<PERCENTAGETOKEN>")
    try:
        written = tokenised(latex) if latex else ""
    except Unparsable:
        written = ""
    written = (written or latex).replace("< P E R C E N T A G E T O K E N >", "\\%")
    try:
        parts = _normal(written).strip().split(" ")
        tokens = _Colouring(parts).run()
    except (IndexError, ValueError):
        return None
    text = " ".join(parts)
    for index in range(min(len(tokens), COLOURS)):
        text = text.replace(_MARKED.format(index), ",".join(map(str, colour(index))), 1)
    return Coloured(text, tuple(tokens))


def _replaced(text: str, pattern: str, change: Callable[[str], str]) -> str:
    """Whatever the pattern finds, changed wherever it stands."""
    for found in re.findall(pattern, text, re.DOTALL):
        text = text.replace(found, change(found))
    return text


def _joined(found: str) -> str:
    return found.replace(" ", "")


def _joined_and_space(found: str) -> str:
    return f"{_joined(found)} "


def _normal(latex: str) -> str:
    """What is one token as one, what LaTeX would draw otherwise in colours left out, missing braces added."""
    tabular = "tabular" in latex
    latex = latex.strip().replace(r"\pmatrix", r"\mypmatrix").replace(r"\matrix", r"\mymatrix")
    for name in ("\\raggedright", "\\arraybackslash", "\\lowercase", "\\uppercase"):
        latex = latex.replace(name, "")
    latex = _replaced(latex, r"\\[hv]space { [.0-9a-z ]+ }", lambda found: "" if tabular else _joined(found))
    if tabular:
        latex = _normal_tabular(latex)
    latex = _replaced(
        latex,
        r"\\begin{array} { [lrc ]+ }",
        lambda found: "\\begin{array} " + _joined(found.replace("\\begin{array} ", "")),
    )
    latex = " " + _replaced(latex, r"\\not [<>+=\-]", _joined) + " "
    for name, spelt in _SPELT.items():
        latex = latex.replace(f" {name} ", f" {spelt} ")
    latex = _replaced(latex, r"\\[Bb]ig[g]?[glrm]? [(){}|\[\]] ", _joined_and_space)
    latex = _replaced(latex, r"\\[Bb]ig[g]?[glrm]? \\.*? ", _joined_and_space)
    latex = latex.replace("\\operatorname *", "\\operatorname").replace("\\lefteqn", "").replace("\\footnote ", "^ ")
    latex = _replaced(latex, r"\\\' [^{] ", _joined_and_space)
    if tabular:
        latex = _replaced(latex, r"\[ [\-.0-9 ]+[exptcm ]+ \]", _joined)
    latex = _replaced(latex, r"\\parbox {[^{]+}", _joined)
    latex = _replaced(latex, r"\\raisebox {[^{]+} [\[\]0-9 exptcm]+{", lambda found: f"{_joined(found)[:-1]} {{")
    latex = _replaced(latex, r"{ \\char[0-9\' ]+}", lambda found: f"{{ {_joined(found)[1:-1]} }}")
    latex = _replaced(latex, r"\\not [\\=\<\>][^ ]+ ", _joined_and_space)
    latex = _replaced(latex, r"\\specialrule {[ .0-9a-z]+} {[ .0-9a-z]+} {[ .0-9a-z]+}", _joined)
    colours = "|".join(
        rf"\\{name}[ \[\]RGBrgb]+{{ [A-Za-z 0-9,!]+ }} " for name in ("colorbox", "color", "textcolor", "cellcolor")
    )
    return " ".join(_with_braces(_replaced(latex, colours, lambda found: "").split(" ")))


def _normal_tabular(latex: str) -> str:
    """The beginning of a table and its partial lines as one token each."""
    for word in ("tabular", "array"):
        for command in ("begin", "end"):
            latex = latex.replace(f"\\{command} {{{word}}}", f"\\{command}{{{word}}}")
    parts = latex.split(" ")
    if "\\begin{tabular}" in parts:
        place = parts.index("\\begin{tabular}")
        parts[place : _closing(parts, place + 1) + 1] = ["".join(parts[place : _closing(parts, place + 1) + 1])]
    place = 0
    while place < len(parts):
        if parts[place] in ("\\cmidrule", "\\cline"):
            start = place + 1
            if parts[start] == "(":
                start = _closing(parts, start, "()") + 1
            end = _closing(parts, start)
            parts[place : end + 1] = ["".join(parts[place : end + 1])]
        place += 1
    return " ".join(parts)


def _closing(parts: Sequence[str], start: int, braces: str = "{}") -> int:
    """Where what opens from `start` on is closed. Raises ValueError where it is not."""
    depth = 0
    for place in range(start, len(parts)):
        if parts[place] == braces[0]:
            depth += 1
        elif parts[place] == braces[1]:
            depth -= 1
            if depth == 0:
                return place
    raise ValueError("a brace is not closed")


def _with_braces(parts: list[str]) -> list[str]:
    """With braces around the arguments of accents, fonts, roots and fractions."""
    place = 0
    while place < len(parts):
        token = parts[place]
        if token in _ACCENTS or token in _FONTS:
            argument = place + 1
            while argument < len(parts) and (parts[argument] in _ACCENTS or parts[argument] in _FONTS):
                argument += 1
            heads = [part for head in parts[place:argument] for part in (head, "{")]
            end, inner = argument, [parts[argument]]
            if parts[argument] == "{":
                end = _closing(parts, argument)
                inner = parts[argument + 1 : end]
            parts[place : end + 1] = [*heads, *inner, *["}"] * (argument - place)]
        elif token in _ARROWS_AND_ROOTS:
            argument = place + 1
            if parts[argument] == "[":
                argument = _closing(parts, argument, "[]") + 1
            _brace(parts, argument)
        elif token in _FRACTIONS or token in _STACKS:
            _brace(parts, place + 1)
            _brace(parts, _closing(parts, place + 1) + 1)
        place += 1
    return parts


def _brace(parts: list[str], place: int) -> None:
    if parts[place] != "{":
        parts[place : place + 1] = ["{", parts[place], "}"]


class _Colouring:
    """Goes through the parts of a formula once and changes them in place."""

    def __init__(self, parts: list[str]) -> None:
        self._parts = parts
        self._tokens: list[str] = []

    def run(self) -> list[str]:
        place = 0
        while place < len(self._parts):
            place = self._one(place)
        return self._tokens

    def _start(self, token: str) -> str:
        mark = _MARKED.format(len(self._tokens))
        self._tokens.append(token)
        return f"\\mathcolor[RGB]{{{mark}}}{{"

    def _inside(self, start: int, end: int, *, brackets: bool = False) -> None:
        # Braces that are added meanwhile move the end, which the script does not see: what is behind its old place is
        # coloured as a part of what follows.
        while start < end:
            start = self._one(start, brackets=brackets)

    def _one(self, place: int, *, brackets: bool = False) -> int:
        """Colour the token at a place, with all that belongs to it; the next place to look at."""
        parts, token = self._parts, self._parts[place]
        if not token:
            return place + 1
        if token in _NOT_SHOWN:
            return (_closing(parts, place + 1) if parts[place + 1] == "{" else place + 1) + 1
        if token in _FRACTIONS:
            end = _closing(parts, _closing(parts, place + 1) + 1)
            parts[place] = self._start(token) + token
            parts.insert(end + 1, "}")
            return place + 1
        if token in _ACCENTS:
            return self._accent(place)
        if token in _FONTS:
            return self._font(place)
        if token in _ARROWS_AND_ROOTS and parts[place + 1] in ("{", "["):
            return self._root(place)
        if token in ("\\multicolumn", "\\multirow"):
            second = _closing(parts, place + 1) + 1
            third = _closing(parts, second) + 1
            end = _closing(parts, third)
            self._inside(third + 1, end)
            return end + 1
        if token in _INVISIBLE or token in _STACKS or _INVISIBLE_KINDS.match(token):
            if (token == "[" and parts[place - 1] != "\\sqrt") or (
                token == "]" and place >= 3 and parts[place - 3] != "\\sqrt"
            ):
                parts[place] = f"{self._start(token)}{token}}}"
            return place + 1
        lone = brackets or (place > 1 and parts[place - 1] == "_")
        parts[place] = f"{{{self._start(token)}{token}}}}}" if lone else f"{self._start(token)}{token}}}"
        return place + 1

    def _accent(self, place: int) -> int:
        parts, token = self._parts, self._parts[place]
        end = _closing(parts, place + 1)
        # A subscript would go below the colour, not below the letter.
        grouped = token != "\\underbrace" and end + 1 < len(parts) and parts[end + 1] == "_"
        parts[place] = f"{'{' if grouped else ''}{self._start(token)}{token}"
        parts.insert(end + 1, "}}" if grouped else "}")
        return place + 1

    def _font(self, place: int) -> int:
        parts = self._parts
        end = _closing(parts, place + 1)
        if end == place + 3:
            parts[place + 2] = f"{self._start(parts[place + 2])}{parts[place + 2]}}}"
        else:
            self._inside(place + 2, end)
        return end + 1

    def _root(self, place: int) -> int:
        parts, token = self._parts, self._parts[place]
        index_end = _closing(parts, place + 1, "[]") if parts[place + 1] == "[" else place
        end = _closing(parts, index_end + 1)
        parts[place] = self._start(token) + token
        parts.insert(end + 1, "}")
        if index_end > place:
            self._inside(place + 2, index_end, brackets=True)
        self._inside(index_end + 2, end)
        return end + 1
