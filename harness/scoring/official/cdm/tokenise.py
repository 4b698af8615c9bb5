r"""CDM's tokeniser: a formula with spaces between its tokens, so that what looks alike is mostly written alike.

    tokenised(r"\frac12 + \text{if}")     # r"\frac { 1 } { 2 } + \mathrm { i f }"

As opendatalab/UniMERNet does it: `cdm/modules/tokenize_latex/tokenize_latex.py`, `preprocess_formula.js` (which writes
KaTeX's tree as LaTeX again) and `preprocess_tabular.js` (which keeps KaTeX's tokens).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness.later_patterns import later_pattern
from harness.scoring.official.cdm.katex import FormulaNode, Parser, Unparsable
from harness.scoring.official.cdm.names import LINES, OVERLAPS

_REPEATS = 300
"""So many of a kind the script replaces in a formula."""
_LINE_ENDS = later_pattern(r"\r\n|[\r\n\u2028\u2029]")
_ALIGNED = later_pattern(r"\\begin{(split|align|alignedat|alignat|eqnarray)\*?}(.+?)\\end{\1\*?}", re.DOTALL)
_SMALL_MATRIX = later_pattern(r"\\begin{(smallmatrix)\*?}(.+?)\\end{\1\*?}", re.DOTALL)
_LABEL = later_pattern(r"\\label { .*? }")
_OPERATORS = (
    *("arccos", "arcsin", "arctan", "arg", "cos", "cosh", "cot", "coth", "csc", "deg", "det", "dim", "exp", "gcd"),
    *("hom", "inf", "injlim", "ker", "lg", "lim", "liminf", "limsup", "ln", "log", "max", "min", "Pr", "projlim"),
    *("sec", "sin", "sinh", "sup", "tan", "tanh"),
)
# The script allows a space after each character of the list but the last: so there is none before the
# first name, nor after the last.
_OPERATOR = later_pattern(r"\\operatorname {(" + r"\s?".join("|".join(_OPERATORS)) + ")}")


def tokenised(latex: str) -> str:
    """The tokens of a formula with a space between them. Raises `Unparsable` for what KaTeX does not parse."""
    if "tabular" in latex:
        return _tabular_tokens(latex)
    latex = _ALIGNED.sub(r"\\begin{aligned}\2\\end{aligned}", latex)
    latex = _SMALL_MATRIX.sub(r"\\begin{matrix}\2\\end{matrix}", latex)
    line = _cleaned(_last_line(latex), comments=True)
    for _ in range(_REPEATS):
        before = line
        for old, new in (("{\\rm", "\\mathrm{"), ("{ \\rm", "\\mathrm{"), ("\\rm{", "\\mathrm{")):
            line = line.replace(old, new, 1)
        if line == before:
            break
    written: list[str] = []
    _write_all(Parser(f"{line} ").parse(), written, "")
    text = " ".join(written)
    for dollar in ("SSSSSS", " S S S S S S"):
        text = text.replace(dollar, "$", _REPEATS)
    text = " ".join(_LABEL.sub("", text, count=1).split())
    text = _OPERATOR.sub(lambda match: "\\" + match[1].replace(" ", ""), text)
    return text.replace("\\\\ \\end{array}", "\\end{array}")


def _tabular_tokens(latex: str) -> str:
    latex = latex.replace("\\\\%", "\\\\ %").replace("\\%", "<PERCENTAGE_TOKEN>").split("%")[0]
    latex = latex.replace("<PERCENTAGE_TOKEN>", "\\%")
    if "\\end{tabular}" not in latex:
        latex += "\\end{tabular}"
    latex = re.sub(r"hskip(.*?)(cm|in|pt|mm|em)", r"hspace{\1\2}", latex.replace("\r", " ").replace("\n", " "))
    parser = Parser(f"{_cleaned(_last_line(latex), comments=False)} ")
    parser.parse()
    return " ".join(_LABEL.sub("", " ".join(parser.consumed), count=1).split())


def _last_line(text: str) -> str:
    """The script's program answers line by line, and the last answer is taken."""
    lines = _LINE_ENDS.split(text)
    return lines[-2] if len(lines) > 1 and not lines[-1] else lines[-1]


def _cleaned(line: str, *, comments: bool) -> str:
    """Without comments, dollar signs, labels and, where there are no columns, line breaks."""
    line = line.removeprefix("%")
    if comments:
        line = line.split("%")[0]
    line = line.replace("\\~", " ")
    for _ in range(_REPEATS):
        before = line
        line = line.replace("\\>", " ", 1)
        if comments:
            line = line.replace("$", " ", 1)
        line = re.sub(r"\\label{.*?}", "", line, count=1)
        if line == before:
            break
    if not any(word in line for word in ("matrix", "cases", "array", "begin")):
        for _ in range(_REPEATS):
            line = line.replace("\\\\", "\\,", 1)
    return line


def _write_all(nodes: Sequence[FormulaNode | None], to: list[str], font: str) -> None:
    for node in nodes:
        _write(node, to, font)


def _write(node: FormulaNode | None, to: list[str], font: str) -> None:
    """Append the tokens of a node. font: that which reaches it, by its name."""
    if node is None:
        raise Unparsable("nothing to write")
    kind, value = node.kind, node.value
    if kind in ("mathord", "whole", "spacing"):
        _write_symbol(kind, value, to, font)
    elif kind == "ordgroup":
        to.append("{")
        _write_all(value, to, font)
        to.append("}")
    elif kind in ("text", "phantom"):
        to += ["\\mathrm" if kind == "text" else "\\phantom", "{"]
        _write_all(value, to, font)
        to.append("}")
    elif kind == "supsub":
        base, below, above = value
        _write(base, to, font)
        for sign, script in (("_", below), ("^", above)):
            if script is not None:
                to.append(sign)
                _write_braced(script, to, font)
    elif kind == "genfrac":
        to.append(value[0])
        _write_all(value[1:], to, font)
    elif kind == "array":
        _write_array(value[0], value[1], to, font)
    elif kind == "op":
        name, limits, large = value
        to += [name] if large else ["\\operatorname*" if limits else "\\operatorname", "{", *name[1:], "}"]
    elif kind == "leftright":
        left, body, right = value
        to.append(f"\\left{left}")
        _write_all(body, to, font)
        to.append(f"\\right{right}")
    elif kind == "accent":
        to.append(value[0])
        _write_braced(value[1], to, font)
    elif kind == "font":
        to.append(f"\\{value[0]}")
        _write(value[1], to, value[0])
    elif kind == "delimsizing":
        to += value
    elif kind in ("styling", "sizing"):
        _write_switch(value[0], value[1], to, font)
    else:
        _write_function(kind, value, to, font)


def _write_symbol(kind: str, value: str, to: list[str], font: str) -> None:
    if kind == "mathord" and font == "mathrm":
        for character in value:  # JavaScript cuts a character beyond the first 65,536 in two
            to += ["\ufffd", "\ufffd"] if ord(character) > 0xFFFF else [character]
    else:
        to.append("~" if value == " " else value)


def _write_braced(node: FormulaNode | None, to: list[str], font: str) -> None:
    bare = node is not None and node.kind != "ordgroup"
    if bare:
        to.append("{")
    _write(node, to, font)
    if bare:
        to.append("}")


def _write_array(columns: Sequence[str], rows: Sequence[Sequence[FormulaNode]], to: list[str], font: str) -> None:
    to += ["\\begin{array}", "{", *columns, "}"]
    for row in rows:
        if not any(cell.value for cell in row):
            continue
        for place, cell in enumerate(row):
            if place:
                to.append("&")
            if cell.value:
                _write(cell, to, font)
        to.append("\\\\")
    to.append("\\end{array}")


def _write_switch(name: str, body: Sequence[FormulaNode], to: list[str], font: str) -> None:
    if name != "\\rm":
        to.append(name)
        _write_all(body, to, font)
        return
    to += ["\\mathrm", "{"]
    _write_all(body, to, "mathrm")
    to.append("}")


def _write_function(kind: str, arguments: Any, to: list[str], font: str) -> None:
    name = f"\\{kind}"
    if kind == "sqrt":
        index, body = arguments
        to.append(name)
        if index is not None:
            to.append("[")
            _write_all(index.value, to, font)
            to.append("]")
        _write(body, to, font)
    elif name in LINES:
        to += [name, "{"]
        _write_all(arguments, to, font)
        to.append("}")
    elif name in OVERLAPS:
        to.append(name)
        _write_all(arguments, to, font)
    elif kind == "rule":
        to.append(name)
        for size in arguments[1:]:
            number = float("".join(size.value[:-2].split()))
            to += ["{", f"{number:g}" if number != int(number) else str(int(number)), size.value[-2:], "}"]
    else:
        raise Unparsable(f"{kind} is not written")
