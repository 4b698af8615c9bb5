"""What the tokeniser of CDM knows by name: symbols and functions of KaTeX 0.6, as CDM's authors have extended them."""

from __future__ import annotations

from pathlib import Path

import yaml

from harness.quick import dataclass

_GROUPS: dict[str, str] = yaml.safe_load((Path(__file__).parent / "katex.yaml").read_text("utf-8"))


def name_group(group: str) -> frozenset[str]:
    """The names of a group of `katex.yaml`, with their backslash."""
    return frozenset(f"\\{name}" for name in _GROUPS[group].split())


WHOLE_IN_MATHS = name_group("whole") | frozenset('0123456789`*+-([)]?!=<>:,;|/@."')
"""What stays whole below \\mathrm, where letters (Greek ones too) come apart into the characters of their names."""
WHOLE_IN_TEXT = frozenset("0123456789`!@*()-=+[]'\";:?/.,") | {chr(n) for n in (*range(65, 91), *range(97, 123))}
SPACES = frozenset(
    {" ", "~", *(f"\\{name}" for name in (" ", "quad", "!", ",", ":", ";", "enspace", "qquad", "space"))}
)
SPACES_IN_TEXT = frozenset({" ", "~", "\\ "})

NO_LIMITS, LIMITS, LARGE = name_group("no_limits"), name_group("limits"), name_group("large")
FRACTIONS, BINOMIALS = name_group("fractions"), name_group("binomials")
SIZES, STYLES, FONTS = name_group("sizes"), name_group("styles"), name_group("fonts")
ACCENTS, LINES, OVERLAPS, TEXTS = (
    name_group("accents"),
    name_group("lines"),
    name_group("overlaps"),
    name_group("texts"),
)
DELIMITER_SIZES, COLOURS = name_group("delimiter_sizes"), name_group("colours")
DELIMITERS = name_group("delimiters") | frozenset("()[]<>/|.")
FONT_NAMES = {"\\Bbb": "mathbb", "\\bold": "mathbf", "\\frak": "mathfrak"}
INFIX = {"\\over": "\\frac", "\\choose": "\\binom"}
MATRICES = {
    "matrix": None,
    "pmatrix": ("(", ")"),
    "bmatrix": ("[", "]"),
    "Bmatrix": ("\\{", "\\}"),
    "vmatrix": ("|", "|"),
    "Vmatrix": ("\\Vert", "\\Vert"),
}
ENVIRONMENTS = frozenset({*MATRICES, "array", "tabular", "picture", "cases", "aligned"})


@dataclass(frozen=True, slots=True)
class Function:
    """arguments: the kind of each ("" as around it, "text", "size", "color"), the first `optional` ones in brackets.

    binds: without braces, a function is an argument of those alone that bind less.
    """

    arguments: tuple[str, ...] = ()
    optional: int = 0
    binds: int = 1


FUNCTIONS: dict[str, Function] = {
    "\\KaTeX": Function(),
    "\\sqrt": Function(("", ""), optional=1),
    "\\rule": Function(("size", "size", "size"), optional=1),
    "\\color": Function(("color", ""), binds=3),
    **dict.fromkeys(("\\begin", "\\end"), Function(("text",))),
    **dict.fromkeys(("\\\\", "\\cr"), Function(("size",), optional=1)),
    **dict.fromkeys(("\\phantom", "\\left", "\\right"), Function(("",))),
    **dict.fromkeys(ACCENTS | LINES | OVERLAPS | DELIMITER_SIZES, Function(("",))),
    **dict.fromkeys(COLOURS, Function(("",), binds=3)),
    **dict.fromkeys(TEXTS, Function(("text",), binds=2)),
    **dict.fromkeys(FONTS, Function(("",), binds=2)),
    **dict.fromkeys(FRACTIONS | BINOMIALS, Function(("", ""), binds=2)),
    **dict.fromkeys(NO_LIMITS | LIMITS | LARGE | SIZES | STYLES | frozenset(INFIX), Function()),
}
