"""How OmniDocBench makes texts, formulas and tables alike before it compares them (`utils/data_preprocess.py`)."""

from __future__ import annotations

import html
import re
import unicodedata

_INLINE = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
_ESCAPED = re.compile(r"\\([\\_&%^])")
_NO_WORDS = re.compile(r"[^\w\u4e00-\u9fff]")
# Line breaks and tabs, also as models spell them out.
_BREAKS = ("\\t", "\\n", "\t", "\n", "/t", "/n")

_DISPLAYED = re.compile(r"\\\[(.+?)(?<!\\)\\\]")
_FORMULA_PARTS = tuple(
    re.compile(pattern)
    for pattern in (r"\\tag\{.*?\}", r"\\hspace\{.*?\}", r"\\begin\{.*?\}", r"\\end\{.*?\}", r"\\arraycolsep.*?\}")
)
# Fonts and spaces, which say nothing of what a formula means: taken out in this order.
_FORMULA_COMMANDS = (
    *("\\mathbf", "\\mathrm", "\\mathnormal", "\\mathit", "\\mathbb", "\\mathcal", "\\mathscr", "\\mathfrak"),
    *("\\mathsf", "\\mathtt", "\\textbf", "\\text", "\\boldmath", "\\boldsymbol", "\\operatorname", "\\bm"),
    *("\\symbfit", "\\mathbfcal", "\\symbf", "\\scriptscriptstyle", "\\notag", "\\setlength", "\\coloneqq"),
    *("\\space", "\\thickspace", "\\thinspace", "\\medspace", "\\nobreakspace", "\\negmedspace", "\\quad"),
    *("\\qquad", "\\enspace", "\\substackw", " ", "$$", "\\left", "\\right", "\\displaystyle", "\\text"),
)

_TABLE = re.compile(r"<table\b[^>]*>(.*)</table>", re.DOTALL | re.IGNORECASE)
_TABLE_ATTRIBUTES = tuple(re.compile(rf' {name}=".*?"') for name in ("style", "height", "width", "align", "class"))
_COLUMN_GROUP = re.compile(r"<colgroup>.*?</colgroup>")
_TABLE_MARKS = (
    *("<sup>", "</sup>", "<sub>", "</sub>", "<span>", "</span>", "<div>", "</div>", "<p>", "</p>"),
    '<spandata-span-identity="">',
)


def latex_as_text(latex: str) -> str:
    """LaTeX in Unicode's signs. Needs pylatexenc."""
    from pylatexenc.latex2text import LatexNodes2Text  # type: ignore[import-untyped]

    text: str = LatexNodes2Text().latex_to_text(latex)
    return text


def normal_text(text: str) -> str:
    """Letters, digits and Chinese characters alone, inline formulas as Unicode has them."""
    return words_only(_with_unicode_formulas(text))


def words_only(text: str) -> str:
    for breaks in _BREAKS:
        text = text.replace(breaks, "")
    return _NO_WORDS.sub("", text)


def _with_unicode_formulas(text: str) -> str:
    pieces, end = [], 0
    for match in _INLINE.finditer(text):
        formula = _ESCAPED.sub("", match[2] if match[1] is None else match[1])
        if not any(sign in formula for sign in "\\^_"):
            continue
        try:
            converted = latex_as_text(formula + " " if formula.endswith("\\") else formula)
        except Exception:  # as in the script: what cannot be converted stays
            continue
        pieces += [text[end : match.start()], converted.strip()]
        end = match.end()
    return "".join([*pieces, text[end:]])


def normal_formula(latex: str) -> str:
    """A formula in small letters, without its delimiters, numbers, environments, fonts and spaces."""
    latex = latex.strip().strip("$").strip("\n")
    if displayed := _DISPLAYED.search(latex):
        latex = displayed[1].strip()
    for part in _FORMULA_PARTS:
        latex = part.sub("", latex)
    latex = latex.strip(".")
    for command in _FORMULA_COMMANDS:
        latex = latex.replace(command, "")
    return latex.lower()


def normal_table(markup: str) -> str:
    """An HTML table as a page of nothing but rows, cells and spans; empty where there is no table. Needs bs4."""
    if "<table" not in markup.replace(" ", "").replace("'", '"'):
        return ""
    text = html.unescape(_plain_cells(markup)).replace("\n", "")
    text = unicodedata.normalize("NFKC", text).strip()
    text = "".join(_TABLE.findall(text))
    for attribute in _TABLE_ATTRIBUTES:
        text = attribute.sub("", text)
    text = re.sub(r"\s+", " ", re.sub("</?tbody>", "", text))
    text = f'<html><body><table border="1" >{text}</table></body></html>'
    for mark in _TABLE_MARKS:
        text = text.replace(mark, "")
    return _COLUMN_GROUP.sub("", text)


def _plain_cells(markup: str) -> str:
    """Heading cells as other cells, formulas as LaTeX, and neither `thead` nor `span`."""
    from bs4 import BeautifulSoup
    from bs4.exceptions import ParserRejectedMarkup

    try:
        soup = BeautifulSoup(markup, "html.parser")
    except ParserRejectedMarkup:  # the script stops here
        return ""
    for cell in soup.find_all("th"):
        cell.name = "td"
    for head in soup.find_all("thead"):
        head.unwrap()
    for formula in soup.find_all("math"):
        formula.replace_with(f"${formula.get('alttext', '')}$")
    for span in soup.find_all("span"):
        span.unwrap()
    return str(soup)
