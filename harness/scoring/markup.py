"""What a reader sees of a reply: one width of characters, no Markdown, no LaTeX commands; and what it sets apart."""

from __future__ import annotations

import re

# Full-width ASCII and the wide space; signs that look like a hyphen.
_WIDTH: dict[int, int | str] = {0xFF01 + i: 0x21 + i for i in range(94)}
_WIDTH |= {0x3000: 0x20}
_MINUS: dict[int, int | str] = {ord("−"): "-", ord("–"): "-"}
# Ⓐ 🄐 🅐 🅰, ⓐ, ⒜
_ENCLOSED: dict[int, int | str] = {
    start + i: 0x41 + i for start in (0x24B6, 0x1F130, 0x1F150, 0x1F170) for i in range(26)
}
_ENCLOSED |= {0x24D0 + i: 0x61 + i for i in range(26)}
_ENCLOSED |= {0x249C + i: f"({chr(0x61 + i)})" for i in range(26)}
# Ticks and crosses as one sign each; other pictures say nothing.
_PICTURES: dict[int, int | str] = dict.fromkeys([*range(0x2600, 0x27C0), *range(0x1F300, 0x1FB00), 0xFE0F], "")
_PICTURES |= dict.fromkeys(map(ord, "✅✓✔☑👍"), "√") | dict.fromkeys(map(ord, "❌✗✘✖❎☒👎"), "×")
_LETTERS = _WIDTH | _ENCLOSED | _PICTURES
_FRACTIONS: dict[int, int | str] = {
    ord(sign): f" {above}/{below}" for sign, above, below in ("½12", "¼14", "¾34", "⅓13", "⅔23", "⅛18")
}
_NUMBERS = _WIDTH | _MINUS | _FRACTIONS
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")

_MARKUP = re.compile(
    r"\*+|`+|\$+|__|~~|\\[()\[\]]|\\(?:text|textbf|textrm|mathrm|mathbf|mathsf|bf|rm|operatorname)\s*(?=\{)"
    r"|</?(?:b|strong|em|i|u|p|br|span|font|div|mark|code)\b[^<>]*>"
)
_ANSWER_TAG = re.compile(r"<((?:final[ _-]?)?answer|final|ans|choice|答案)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_REPEATED_SPACE = re.compile(r"(\s)\1{2,}")


def plain_text(text: str) -> str:
    """The text for reading letters: full-width and enclosed letters as ASCII, no markup, no long gaps."""
    text = _MARKUP.sub("", _REPEATED_SPACE.sub(r"\1\1", text.translate(_LETTERS)))
    return re.sub(r"\{\s*(\(?[A-Za-z]\)?)\s*\}", r"\1", text)


def plain_numbers(text: str) -> str:
    """The text for reading numbers: full-width digits as ASCII, one minus sign, no `\\,` and `{,}` within numbers."""
    text = _REPEATED_SPACE.sub(r"\1\1", text.translate(_NUMBERS))
    text = re.sub(r"\\[,!;: ]|\*\*|\\?\$|`|\\(?:text|mathrm|mathbf)\{[^{}]*\}", "", text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ",", text)
    # 1 250 000, and 12 500 with a space that does not break.
    text = re.sub(r"(?<![\d.,])\d{1,3}(?:(?: \d{3}){2,}|(?:[\u00a0\u2009\u202f]\d{3})+)(?!\d)", _grouped, text)
    return re.sub(r"(?<=10)[⁻⁺]?[⁰¹²³⁴-⁹]+", lambda match: "^" + match.group().translate(_SUPERSCRIPTS), text)


def _grouped(match: re.Match[str]) -> str:
    return re.sub(r"\s", ",", match.group())


def boxed(text: str) -> list[str]:
    """The contents of all `\\boxed{}` and `\\fbox{}`, braces balanced, in the order of their ends; not of cut ones."""
    contents: list[str] = []
    opened: list[tuple[int, bool]] = []
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{|[{}]", text):
        if match.group() != "}":
            opened.append((match.end(), len(match.group()) > 1))
        elif opened:
            start, is_box = opened.pop()
            contents += [text[start : match.start()]] if is_box else []
    return contents


def answer_tags(text: str) -> list[str]:
    """The contents of all `<answer>...</answer>`, `<final_answer>`, `<答案>` and their like."""
    return [match[2] for match in _ANSWER_TAG.finditer(text)]
