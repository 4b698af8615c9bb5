"""Other ways of writing the same mathematics, brought to the one that `normalise.py` and the parser read.

one_notation("二分之根号三")      # (sqrt(3)/(2))
one_notation("1.2万元")          # 12000元
one_notation("3×10⁻⁵")           # 3×10^{-5}
"""

from __future__ import annotations

import re
from fractions import Fraction

from harness.later_patterns import later_pattern
from harness.scoring.extraction.numerals import MYRIADS, TENS, chinese_value, english_value

# Marks that are not seen, spaces of other widths, and pictures behind an answer (✅).
_UNSEEN: dict[int, int | str | None] = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF, 0xFE0F]
)
_UNSEEN |= dict.fromkeys([0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F], " ")
_UNSEEN |= dict.fromkeys([*range(0x2600, 0x27C0), *range(0x1F300, 0x1FB00)], " ")
_UNSEEN |= {
    ord("｛"): "{",
    ord("｝"): "}",
    ord("∶"): ":",
    ord("∓"): r"\mp ",
    ord("∠"): r"\angle ",
    ord("∴"): r"\therefore ",
}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")

_NUMERALS = "零〇一二两三四五六七八九十百千万亿"
_NUMBER = rf"(?:\d+(?:\.\d+)?|[{_NUMERALS}]{{1,20}})"
_ROOT = rf"(?:根号|√|\\sqrt)\s*(?:\{{[^{{}}]{{1,40}}\}}|\(\d+\)|{_NUMBER})"
_PART_OF = later_pattern(
    rf"(?:(?P<whole>{_NUMBER})又)?(?P<below>{_NUMBER})分之(?P<above>{_NUMBER}?(?:倍?{_ROOT})?(?:π|\\pi|派)?)"
)
_PERCENT_WORD = later_pattern(r"(?<=\d)\s*(?:\\text\s*\{\s*(?:percent|per cent)\s*\}|per\s?cent\b)", re.IGNORECASE)
_LARGE = later_pattern(
    r"(?<![\d.,])(?P<number>\d{1,15}(?:,\d{3}){0,5}(?:\.\d{1,15})?)\s*(?:(?P<sign>[百千万亿]{1,3})(?![克米瓦焦卡帕伏赫安分])(?P<rest>\d千)?"
    r"|(?P<word>thousand|million|billion|trillion)\b)",
    re.IGNORECASE,
)
_ENGLISH_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_COLOUR = later_pattern(r"\\(?:text)?color\s*(?:\[[^\]]{0,20}\])?\s*\{[^{}]{0,40}\}")
_THEREFORE = later_pattern(
    r"^\s*(?:所以|因此|从而|于是|故|则|即|∴|\\therefore(?![A-Za-z])"
    r"|(?:therefore|thus|hence|so|then|we (?:have|get))\b(?=,|\s+(?:[A-Za-z]\s*=|\\|-?\d)))\s*[,:，：]?\s*(?=\S)",
    re.IGNORECASE,
)
# k ∈ Z behind a formula, in brackets or not; the letter may be another one.
_WHOLE_NUMBERS = later_pattern(
    r"[\s,，;；]*(?:[(（]\s*)?(?:\\text\s*\{\s*(?:where|for|其中)?\s*\}\s*|其中\s*|where\s+)?(?P<letter>[a-zA-Z])\s*(?:\\in(?![A-Za-z])|∈)\s*"
    r"(?:\\math(?:bb|bf|rm)\s*)?\{?\s*[Zℤ]\s*\}?\s*[)）]?\s*[.。]?\s*$"
)
_POINT = later_pattern(r"^\s*(?:点\s*)?([A-Z](?:_\{?\d\}?|')?)\s*(?:的坐标为|的坐标是)?\s*\(([^()]*,[^()]*)\)\s*$")
_APPROXIMATELY = later_pattern(r"\\approx(?![A-Za-z])|≈")


def one_notation(text: str) -> str:
    """The text with one notation for each thing; what is no mathematics stays as it is."""
    text = text.translate(_UNSEEN)
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]{2,}|⁻|[⁰⁵⁶⁷⁸⁹ⁿ]", lambda match: f"^{{{match.group().translate(_RAISED)}}}", text)
    text = re.sub(r"[₀-₉]+", lambda match: f"_{{{match.group().translate(_LOWERED)}}}", text)
    text = _COLOUR.sub("", text)
    text = re.sub(r"\\(?:nice|s|x)frac(?![A-Za-z])", r"\\frac", text)
    text = re.sub(r"\\(?:boxed|fbox)\s*(?=-?\d+\s*$)", "", text)
    text = re.sub(r"\\(?:text|mbox|textrm)\s*\{\s*([-+]?\d[\d.,/]*)\s*\}", r" \1 ", text)
    text = re.sub(r"(?<=[\d}])\s*[xX×]\s*(?=10\s*\^)", r"\\times ", text)
    text = text.replace(r"\mp", r"\pm") if r"\pm" not in text else text
    text = _grouped(_THEREFORE.sub("", text.strip().strip("`").removeprefix("=").strip()))
    text = re.sub(r"\\{1,2}\s*$", "", re.sub(r"^([\"'])([^\"']+)\1$|^“([^“”]+)”$", r"\2\3", text))
    text = re.sub(r"\\(?:angle|triangle)(?![A-Za-z])", "", text)
    return _in_signs(_without_estimate(_whole_numbers(text)))


def _grouped(text: str) -> str:
    """1'000, 1_000 and 1{\\,}000 as 1000: groups of three digits, whatever stands between them."""
    text = re.sub(r"(?<=\d)\{\\[,;: ]\}(?=\d{3})", "", text)
    if re.fullmatch(r"\s*-?\d{1,3}(?:(?:_\d{3})+|(?:['’]\d{3})+)\s*", text):
        return re.sub(r"[_'’]", "", text)
    return text


def _without_estimate(text: str) -> str:
    """Of x \\approx 5 the number, of \\sqrt{2} \\approx 1.41 what it estimates."""
    parts = _APPROXIMATELY.split(text)
    if len(parts) != 2 or not parts[0].strip():
        return text
    return "=".join(parts) if re.fullmatch(r"\s*\$?\s*[A-Za-z]\s*", parts[0]) else parts[0]


def _whole_numbers(text: str) -> str:
    """k\\pi (k \\in Z), n\\pi, n \\in \\mathbb{Z}: the letter of whole numbers is k, and said behind a comma."""
    match = _WHOLE_NUMBERS.search(text)
    if match is None or not match.start():
        return text
    before, letter = text[: match.start()], match["letter"]
    if not re.search(r"(?<![A-Za-z\\])k(?![A-Za-z])", before):
        before = re.sub(rf"(?<![A-Za-z\\]){letter}(?![A-Za-z])", "k", before)
        letter = "k"
    return rf"{before} , {letter} \in Z"


def _in_signs(text: str) -> str:
    """Words for numbers, fractions, roots and large units as signs and digits."""
    for in_words in (english_value, chinese_value):
        if (value := in_words(text)) is not None:
            return str(value)
    text = re.sub(r"^\s*(?:负|零下)\s*(?=\d|根号|√)", "-", text)
    text = _PERCENT_WORD.sub("%", text)
    text = re.sub(r"百分之\s*(\d{1,15}(?:\.\d{1,15})?)", r"\1%", text)
    if "分之" in text:
        text = _PART_OF.sub(_part_of, text)
        text = re.sub(r"^\s*负(?=\()", "-", text)
    if "根号" in text:
        text = re.sub(rf"(?<=[\d{_NUMERALS}])\s*倍\s*(?=根号)", "", text)
        text = re.sub(rf"([{_NUMERALS}]{{1,20}})(?=根号)|(?<=根号)([{_NUMERALS}]{{1,20}})", _digits, text)
        text = text.replace("根号", " sqrt ")
    text = r"\emptyset" if text == "空集" else text
    text = _POINT.sub(r"\1=(\2)", text)
    return _LARGE.sub(_large, text)


def _part_of(match: re.Match[str]) -> str:
    """3又4分之1 is (3+1/4), 二分之根号三 is (sqrt(3)/2). What has words alone, 百分之五, is left to `numerals.py`."""
    if (
        not match["above"]
        or match["below"] in ("百", "千", "万")
        or not re.search(r"\d|根号|√|\\sqrt|π|派|pi", match[0])
    ):
        return match[0]
    above = re.sub(rf"[{_NUMERALS}]{{1,20}}", _digits, match["above"].replace("倍", "").replace("派", "π"))
    below = re.sub(rf"[{_NUMERALS}]{{1,20}}", _digits, match["below"])
    whole = re.sub(rf"[{_NUMERALS}]{{1,20}}", _digits, match["whole"] or "")
    if re.fullmatch(r"\d+", above) and re.fullmatch(r"\d+", below) and not whole:
        return f"({above}/{below})"
    above = above.replace("根号", " sqrt ")
    return f"({whole}+({above})/({below}))" if whole else f"(({above})/({below}))"


def _digits(match: re.Match[str]) -> str:
    value = chinese_value(match[0])
    return match[0] if value is None else str(value)


def _large(match: re.Match[str]) -> str:
    """1.2万 is 12000, 1万2千 is 12000, 2.5 million is 2500000."""
    factor = 1
    for sign in match["sign"] or "":
        factor *= MYRIADS.get(sign) or TENS[sign]
    factor *= _ENGLISH_LARGE[match["word"].lower()] if match["word"] else 1
    value = Fraction(match["number"].replace(",", "")) * factor
    if match["rest"]:
        value += int(match["rest"][0]) * 1000
    return str(value) if value.denominator == 1 else f"({value})"
