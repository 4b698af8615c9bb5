"""Takes a page of Markdown apart as OmniDocBench does: tables, formulas, code and paragraphs (`utils/extract.py`).

What is found is blanked, so that places in the text stay; the order in which kinds are looked for decides what a part
counts as. Where the script is odd, this is odd too: the skips behind what was found are the lengths of its patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from harness.quick import dataclass
from harness.scoring.official.omnidocbench.markdown_tables import bar_rows, with_html_tables

Kind = Literal["text_all", "equation_isolated", "html_table", "latex_table"]

_FENCES = tuple(
    re.compile(pattern, re.MULTILINE) for pattern in (r"^```markdown\n?", r"^```html\n?", r"^```latex\n?", r"```\n?$")
)
_PAGE_TAGS = ("<html>", "</html>", "<body>", "</body>")
_LATEX_FLOAT = re.compile(r"\\begin{table}(.*?)\\end{table}", re.DOTALL)
_HTML_TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
_DOLLARS = re.compile(r"\$\$(.*?)\$\$|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
_CODE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_HEADINGS = (
    re.compile(r"\\title\{(.*?)\}"),
    re.compile(r"\\title\s*\{\s*(.*?)\s*\}", re.DOTALL),
    re.compile(r"\\text\s*\{\s*(.*?)\s*\}", re.DOTALL),
    re.compile(r"\\section\*?\{(.*?)\}"),
    re.compile(r"\\section\*?\{\s*(.*?)\s*\}", re.DOTALL),
)
_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("$", "$"), ("\\(", "\\)"))


@dataclass(frozen=True, slots=True)
class PagePart:
    """A part of a page. start: its place in the text. finer: what kind it is, where that is more than `kind` says."""

    kind: Kind
    start: int
    content: str
    finer: str = ""

    @property
    def category(self) -> str:
        return self.finer or self.kind


def parts_of(page: str) -> list[PagePart]:
    """The parts of a page, in the order of their places."""
    text = _without_images(page)
    for fence in _FENCES:
        text = fence.sub("", text)
    text = re.sub(r" {4,}", "    ", re.sub(r"_{4,}", "____", text))
    for tag in _PAGE_TAGS:
        text = text.replace(tag, "")
    parts: list[PagePart] = []
    for kind, tables in (("latex_table", _latex_tables), ("html_table", _html_tables)):
        for start, table in tables(text):
            parts.append(PagePart(kind, start, table))  # type: ignore[arg-type]
            text = _blanked(text, start, start + len(table))
    text, formulas = _formulas(text)
    parts += formulas
    if len(bar_rows(text + "\n")) >= 2:
        text = with_html_tables(text)
        for match in _HTML_TABLE.finditer(text):
            parts.append(PagePart("html_table", match.start(), match[0].strip(), "md2html_table"))
            text = _blanked(text, *match.span())
    for match in _CODE.finditer(text):
        parts.append(PagePart("text_all", match.start(), match[2].strip(), "code"))
        text = _blanked(text, *match.span())
    for heading in _HEADINGS:
        text = heading.sub(r"\1", text)
    return sorted([*parts, *_paragraphs(text)], key=lambda part: part.start)


def _blanked(text: str, start: int, end: int) -> str:
    return text[:start] + " " * (end - start) + text[end:]


def _without_images(text: str) -> str:
    """The text without `![...](...)`, each on one line."""
    pieces, end = [], 0
    while (start := text.find("![", end)) >= 0:
        line = text.find("\n", start)
        line = len(text) if line < 0 else line
        middle = text.find("](", start + 2, line)
        close = text.find(")", middle + 2, line) if middle >= 0 else -1
        if close < 0:  # nor does any later one on this line come to an end
            pieces.append(text[end:line])
            end = line
        else:
            pieces.append(text[end:start])
            end = close + 1
    return "".join([*pieces, text[end:]])


def _latex_tables(text: str) -> list[tuple[int, str]]:
    found = [(match.start(), match[0]) for match in _LATEX_FLOAT.finditer(text)]
    for start, table in found:
        text = _blanked(text, start, start + len(table))
    begin, end = re.compile(r"\\begin{tabular}"), "\\end{tabular}"
    return sorted([*found, *_nested(text, begin, end, skip=14, restart=16)], key=lambda table: table[0])


def _html_tables(text: str) -> list[tuple[int, str]]:
    return list(_nested(text, re.compile(r"<table(?:[^>]*)>"), "</table>", skip=8, restart=16))


def _nested(text: str, begin: re.Pattern[str], end: str, skip: int, restart: int) -> Iterator[tuple[int, str]]:
    """(place, text) of what stands between a beginning and its end, with all that is within it.

    skip: how far behind the beginning of either the script looks on; an end is that long, too. restart: how far behind
    the first beginning that has no end it begins anew.
    """
    base = 0
    while True:
        here, opened = base, []
        opening = begin.search(text, here)
        closing = text.find(end, here)
        while opening or closing >= 0:
            if opening and (closing < 0 or opening.start() < closing):
                opened.append(opening.start())
                here = opening.start() + skip
            else:
                here = closing + skip
                if opened:
                    start = opened.pop()
                    if not opened:
                        yield start, text[start:here]
            if here >= len(text):
                break
            if opening and opening.start() < here:
                opening = begin.search(text, here)
            if 0 <= closing < here:
                closing = text.find(end, here)
        if not opened:
            return
        base = opened[0] + restart


def _formulas(text: str) -> tuple[str, list[PagePart]]:
    """The text without displayed formulas, and all formulas; those within a line are kept in the text."""
    parts, kept = [], text
    for start, end in _delimited(text):
        line = " ".join(text[start:end].strip().split("\n"))
        dollars = _DOLLARS.search(line)
        if dollars is None:
            parts.append(PagePart("equation_isolated", start, line))
        elif dollars[1]:
            parts.append(PagePart("equation_isolated", start, _DOLLARS.sub(r"\\[\1\\]", line)))
        else:
            parts.append(PagePart("equation_isolated", start, _DOLLARS.sub(r"\\[\2\3\\]", line), "equation_inline"))
            continue
        kept = _blanked(kept, start, end)
    return kept, parts


def _delimited(text: str) -> Iterator[tuple[int, int]]:
    r"""Where formulas in `$$`, `\[`, `$` and `\(` stand, the first one first; in one pass, however many are open."""
    sign = re.compile(r"\$|\\[\[(]")
    unclosed: set[str] = set()
    here = 0
    while match := sign.search(text, here):
        start = match.start()
        for opening, closing in _DELIMITERS:
            if opening in unclosed or not text.startswith(opening, start):
                continue
            end = text.find(closing, start + len(opening))
            if end >= 0:
                here = end + len(closing)
                yield start, here
                break
            unclosed.add(opening)  # what does not close here does not close further on
        else:
            here = start + 1


def _paragraphs(text: str) -> Iterator[PagePart]:
    paragraphs = text.split("\n\n")
    if len(paragraphs) == 1:
        paragraphs = text.split("\n")  # some models write no empty lines
    start = 0
    for paragraph in paragraphs:
        place, start = start, start + len(paragraph)
        content = "\n".join(line.strip() for line in paragraph.strip().split("\n") if line.strip())
        if not content:
            continue
        if content.startswith("<table") and content.endswith("</table>"):
            yield PagePart("html_table", place, content)
        elif content.startswith("$") and content.endswith("$"):
            if content.replace("$", "").strip():
                yield PagePart("equation_isolated", place, content)
        else:
            yield PagePart("text_all", place, content, "text_block")
