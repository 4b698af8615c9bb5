"""Text of models, data sets and servers as HTML that does nothing: no script, link, picture or markup of its own.

Markdown, code and LaTeX are shown as what they mean. Whatever cannot be shown so stays the text that it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from harness.record.html import inert

_LONGEST = 100_000
_LONGEST_FORMULA = 2_000
_MATHML = "http://www.w3.org/1998/Math/MathML"
_MATHML_TAGS = re.compile(
    "math|mrow|mi|mn|mo|ms|mtext|mspace|mfrac|msqrt|mroot|mstyle|merror|mpadded|mphantom|mfenced|menclose|msub|msup|"
    "msubsup|munder|mover|munderover|mmultiscripts|mprescripts|none|mtable|mtr|mlabeledtr|mtd"
)
_MATHML_ATTRIBUTES = re.compile(
    "display|mathvariant|stretchy|fence|separator|lspace|rspace|minsize|maxsize|linethickness|columnalign|rowspacing|"
    "columnspacing|accent|accentunder|notation|width|height|depth"
)


def rich(text: str) -> Markup:
    """Markdown with LaTeX as HTML. What is longer than 100,000 characters is shown as it is."""
    if len(text) > _LONGEST:
        return plain(text)
    try:
        return Markup(_markdown().render(inert(text)))
    except RecursionError:
        return plain(text)


def plain(text: str) -> Markup:
    """The text itself, in a box that keeps its spaces."""
    return Markup("<pre>") + inert(text) + Markup("</pre>")


def marked(text: str, parts: Sequence[str]) -> Markup:
    """The text itself, with the last place of each part marked: what the extractor read."""
    text = inert(text)
    spans: list[tuple[int, int]] = []
    for part in map(inert, parts):
        start = text.rfind(part) if part else -1
        if start >= 0 and not any(start < end and first < start + len(part) for first, end in spans):
            spans.append((start, start + len(part)))
    found, end = Markup("<pre>"), 0
    for start, stop in sorted(spans):
        found += text[end:start] + Markup("<mark>{}</mark>").format(text[start:stop])
        end = stop
    return found + text[end:] + Markup("</pre>")


def code(text: str, language: str = "python") -> Markup:
    """A program with its colours, without a box; the text itself where the language is not known."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False)
    except ClassNotFound:
        return Markup("") + inert(text)
    return Markup(highlight(inert(text), lexer, HtmlFormatter(nowrap=True)))


def formula(latex: str, *, display: bool = False) -> Markup:
    """LaTeX as MathML; the text itself where that cannot be."""
    from latex2mathml.converter import convert

    if len(latex) <= _LONGEST_FORMULA:
        try:
            root = ElementTree.fromstring(convert(latex, display="block" if display else "inline"))
            return Markup(ElementTree.tostring(_only_mathml(root), encoding="unicode", method="html"))
        except Exception:  # the parser raises anything for what it does not know
            pass
    return Markup("<code>{}</code>").format(latex)


def _only_mathml(element: ElementTree.Element) -> ElementTree.Element:
    """A copy that holds elements and attributes of MathML alone; others leave their text."""
    tag = element.tag.removeprefix(f"{{{_MATHML}}}")
    kept = ElementTree.Element(tag if _MATHML_TAGS.fullmatch(tag) else "mtext")
    known = {name: value for name, value in element.attrib.items() if _MATHML_ATTRIBUTES.fullmatch(name)}
    kept.attrib.update(known)
    kept.text, kept.tail = element.text, element.tail
    kept.extend(_only_mathml(child) for child in element)
    return kept


@functools.cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    from mdit_py_plugins.texmath import texmath_plugin

    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True, "highlight": _highlighted})
    parser.enable(["table", "strikethrough"]).disable(["link", "image", "autolink", "reference", "entity"])
    parser.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True, renderer=_math)
    parser.use(texmath_plugin, delimiters="brackets")
    for rule in ("math_inline", "math_inline_double", "math_block", "math_block_eqno"):
        parser.add_render_rule(rule, _rendered(display=rule != "math_inline"))
    return parser


def _rendered(*, display: bool) -> Callable[..., str]:
    def render(self: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
        return str(formula(tokens[index].content, display=display))

    return render


def _math(content: str, options: dict[str, Any]) -> str:
    return str(formula(content, display=bool(options.get("display_mode"))))


def _highlighted(content: str, language: str, attributes: str) -> str:
    return f'<pre class="code">{code(content, language)}</pre>'
